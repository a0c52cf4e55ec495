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
use std::sync::atomic::{AtomicUsize, Ordering};

use magnus::rb_sys::protect;
use rb_sys::VALUE;
use swarm_core::os::bell::Bell;

/// A Mutex that nobody holds. The VM refuses to lock any in a trap handler.
static PROBE: AtomicUsize = AtomicUsize::new(0);

/// Makes what [`may_step_aside`] needs. The caller has the GVL.
pub fn prepare() -> Result<(), magnus::Error> {
    if PROBE.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let probe = protect(|| {
        // SAFETY: the caller has the GVL; `protect` catches what is raised.
        unsafe {
            let probe = rb_sys::rb_mutex_new();
            rb_sys::rb_gc_register_mark_object(probe);
            probe
        }
    })?;
    PROBE.store(probe as usize, Ordering::Relaxed);
    Ok(())
}

/// Whether the calling thread may give the GVL away inside of a job.
///
/// Not on its way into a sleep, when it looks for interrupts once more, and not in a trap handler that has interrupted a
/// sleep: the VM (or rb_nogvl) has noted the thread's status and puts it back, and whoever wakes the thread meanwhile does
/// so by that very status. The sleep would never hear of it. Either is over in a moment.
pub fn may_step_aside(thread: VALUE) -> bool {
    !falls_asleep(thread) && !in_trap_handler(thread)
}

fn falls_asleep(thread: VALUE) -> bool {
    let asked = protect(|| {
        // SAFETY: the caller has the GVL. Thread#stop? reads the status; should somebody have replaced it by a method
        // that raises, `protect` catches that.
        unsafe { rb_sys::rb_funcallv(thread, rb_sys::rb_intern(c"stop?".as_ptr()), 0, std::ptr::null()) }
    });
    asked.is_ok_and(rb_sys::TEST)
}

/// Ruby tells it by its ThreadError alone.
fn in_trap_handler(thread: VALUE) -> bool {
    let probe = PROBE.load(Ordering::Relaxed) as VALUE;
    // SAFETY: the caller has the GVL.
    if probe == 0 || thread != unsafe { rb_sys::rb_thread_main() } {
        return false; // handlers run in the main thread
    }
    // SAFETY: as above. What the code that is interrupted has in `$!` is to stay there.
    let pending = unsafe { rb_sys::rb_errinfo() };
    let locked = protect(|| {
        // SAFETY: the caller has the GVL; the Mutex is registered, hence lives and stays where it is; locked by those
        // with the GVL for this moment only, it is free, so that nobody waits; `protect` catches the ThreadError.
        unsafe {
            rb_sys::rb_mutex_lock(probe);
            rb_sys::rb_mutex_unlock(probe)
        }
    });
    if locked.is_err() {
        // SAFETY: as above; `protect` has cleared it, and what was there before is an exception or nil.
        let _ = protect(|| unsafe {
            rb_sys::rb_set_errinfo(pending);
            rb_sys::Qnil as VALUE
        });
    }
    locked.is_err()
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
