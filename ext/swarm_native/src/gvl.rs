//! Waiting without the GVL, the VM's lock on Ruby code.
//!
//! `rb_thread_call_without_gvl` raises what is pending when it returns, and that longjmp skips the destructors of the
//! Rust frames below. `rb_nogvl` with `RB_NOGVL_INTR_FAIL` never raises: it returns without having run the function
//! when an interrupt is pending. So a wait is a loop: [`without_gvl`], then [`check_interrupts`], then again.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use magnus::{Error, Ruby, rb_sys::protect};
use swarm_core::os::bell::Bell;
use swarm_core::os::wake::Wake;

#[cfg(not(ruby_gte_3_3))]
use crate::turnstile;

/// What ends a wait from elsewhere.
pub trait Unblock {
    /// Ends the wait, or the next one. May be called from any thread and from a signal handler.
    fn unblock(&self);
}

impl Unblock for Wake {
    fn unblock(&self) {
        self.wake();
    }
}

impl<U: Unblock> Unblock for Arc<U> {
    fn unblock(&self) {
        U::unblock(self);
    }
}

impl Unblock for Bell {
    fn unblock(&self) {
        self.ring();
    }
}

struct Call<F, R> {
    work: Option<F>,
    result: Option<Result<R, Box<dyn Any + Send>>>,
    #[cfg(not(ruby_gte_3_3))]
    comeback: Option<turnstile::own::Comeback>,
}

/// Runs `work` while other Ruby threads may run. `None`: an interrupt was pending and `work` has not run.
///
/// `wake` is woken when Ruby wants the thread back (Thread#raise, Thread#kill, a signal, Timeout): `work` must then
/// return soon. `work` must not touch a Ruby value.
pub fn without_gvl<U: Unblock, R>(wake: &U, work: impl FnOnce() -> R) -> Option<R> {
    unsafe extern "C" fn run<F: FnOnce() -> R, R>(call: *mut c_void) -> *mut c_void {
        // SAFETY: `call` is the `Call` below, which outlives rb_nogvl, and nobody else uses it meanwhile.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        if let Some(work) = call.work.take() {
            call.result = Some(catch_unwind(AssertUnwindSafe(work)));
            #[cfg(not(ruby_gte_3_3))]
            {
                call.comeback = turnstile::own::wants_gvl();
            }
        }
        std::ptr::null_mut()
    }
    unsafe extern "C" fn unblock<U: Unblock>(wake: *mut c_void) {
        // SAFETY: `wake` is the borrowed one below; Ruby calls this only until rb_nogvl returns.
        unsafe { &*wake.cast::<U>() }.unblock();
    }
    fn call_of<F: FnOnce() -> R, R>(work: F) -> (Call<F, R>, unsafe extern "C" fn(*mut c_void) -> *mut c_void) {
        let call = Call {
            work: Some(work),
            result: None,
            #[cfg(not(ruby_gte_3_3))]
            comeback: None,
        };
        (call, run::<F, R>)
    }

    let (mut call, run) = call_of(work);
    #[cfg(not(ruby_gte_3_3))]
    turnstile::own::gives_gvl_away();
    let flags = (rb_sys::RB_NOGVL_INTR_FAIL | rb_sys::RB_NOGVL_UBF_ASYNC_SAFE) as c_int;
    // SAFETY: the caller holds the GVL (it runs in a Ruby method). `run` lets no panic out, both pointers outlive the
    // call, and `unblock` is one system call, hence async-signal-safe. INTR_FAIL: rb_nogvl does not longjmp.
    unsafe {
        rb_sys::rb_nogvl(
            Some(run),
            (&raw mut call).cast(),
            Some(unblock::<U>),
            std::ptr::from_ref(wake).cast_mut().cast(),
            flags,
        );
    }
    #[cfg(not(ruby_gte_3_3))]
    if let Some(comeback) = call.comeback {
        turnstile::own::has_gvl(comeback);
    }
    match call.result? {
        Ok(result) => Some(result),
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs what is pending for this thread (trap handlers, Thread#raise, Timeout) and returns what it raised.
pub fn check_interrupts(_ruby: &Ruby) -> Result<(), Error> {
    protect(|| {
        // SAFETY: a `Ruby` exists, so this thread holds the GVL; `protect` catches the longjmp before it reaches us.
        unsafe { rb_sys::rb_thread_check_ints() };
        rb_sys::Qnil as rb_sys::VALUE
    })
    .map(|_| ())
}
