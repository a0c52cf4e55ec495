//! What Ruby's own headers declare of threads and postponed jobs, as far as it is used here.

#[cfg(ruby_gte_3_3)]
pub use newer::*;

#[cfg(ruby_gte_3_3)]
mod newer {
    use std::ffi::{c_int, c_uint, c_void};

    use rb_sys::VALUE;

    pub const READY: u32 = 1 << 1;
    pub const RESUMED: u32 = 1 << 2;
    pub const SUSPENDED: u32 = 1 << 3;
    pub const EXITED: u32 = 1 << 4;

    #[repr(C)]
    pub struct EventData {
        pub thread: VALUE,
    }

    pub type EventHook = unsafe extern "C" fn(u32, *const EventData, *mut c_void);
    pub type Job = unsafe extern "C" fn(*mut c_void);

    /// No place is left in the VM's table of jobs.
    pub const INVALID_JOB: c_uint = c_uint::MAX;

    unsafe extern "C" {
        pub fn rb_internal_thread_add_event_hook(hook: EventHook, events: u32, data: *mut c_void) -> *mut c_void;
        pub fn rb_internal_thread_remove_event_hook(hook: *mut c_void) -> bool;
        pub fn rb_internal_thread_specific_key_create() -> c_int;
        pub fn rb_internal_thread_specific_get(thread: VALUE, key: c_int) -> *mut c_void;
        pub fn rb_internal_thread_specific_set(thread: VALUE, key: c_int, data: *mut c_void);
        pub fn rb_postponed_job_preregister(flags: c_uint, job: Job, data: *mut c_void) -> c_uint;
        pub fn rb_postponed_job_trigger(job: c_uint);
    }
}

use std::ffi::{c_int, c_void};

use rb_sys::VALUE;
use swarm_core::os::bell::Bell;

/// Whether the calling thread is on its way into a sleep.
///
/// It looks for interrupts once more then, and runs jobs. rb_nogvl notes the thread's status and puts it back at its end;
/// whoever wakes the thread meanwhile does so by that very status, and the sleep would never hear of it. Such a thread
/// gives the GVL away in a moment by itself.
pub fn falls_asleep(thread: VALUE) -> bool {
    let asked = magnus::rb_sys::protect(|| {
        // SAFETY: the caller has the GVL. Thread#stop? reads the status; should somebody have replaced it by a method
        // that raises, `protect` catches that.
        unsafe { rb_sys::rb_funcallv(thread, rb_sys::rb_intern(c"stop?".as_ptr()), 0, std::ptr::null()) }
    });
    asked.is_ok_and(rb_sys::TEST)
}

/// Gives the GVL away and takes it back; with a bell, once that has rung. The caller has the GVL. Raises nothing; where
/// an interrupt is pending it may return at once.
pub fn step_aside(bell: Option<&Bell>) {
    unsafe extern "C" fn nothing(_: *mut c_void) -> *mut c_void {
        std::ptr::null_mut()
    }
    unsafe extern "C" fn wait(bell: *mut c_void) -> *mut c_void {
        // SAFETY: `bell` is the borrowed one below, which outlives rb_nogvl.
        unsafe { &*bell.cast::<Bell>() }.wait();
        std::ptr::null_mut()
    }
    unsafe extern "C" fn ring(bell: *mut c_void) {
        // SAFETY: as in `wait`; Ruby calls this until rb_nogvl returns.
        unsafe { &*bell.cast::<Bell>() }.ring();
    }
    let errno = errno::get();
    let flags = (rb_sys::RB_NOGVL_INTR_FAIL | rb_sys::RB_NOGVL_UBF_ASYNC_SAFE) as c_int;
    match bell {
        None => {
            // SAFETY: the caller has the GVL. `nothing` does nothing, hence needs no unblock function.
            unsafe { rb_sys::rb_nogvl(Some(nothing), std::ptr::null_mut(), None, std::ptr::null_mut(), flags) };
        }
        Some(bell) => {
            let bell: *mut c_void = std::ptr::from_ref(bell).cast_mut().cast();
            // SAFETY: the caller has the GVL. Both functions use the bell only, which outlives the call; ringing is one
            // store and one system call, hence async-signal-safe. INTR_FAIL: rb_nogvl does not longjmp.
            unsafe { rb_sys::rb_nogvl(Some(wait), bell, Some(ring), bell, flags) };
        }
    }
    errno::set(errno);
}

/// rb_nogvl sets errno, and Ruby code that is interrupted between a call and its errno must not see that.
mod errno {
    pub fn get() -> i32 {
        // SAFETY: it points to the calling thread's errno.
        unsafe { *libc::__errno_location() }
    }

    pub fn set(errno: i32) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
    }
}
