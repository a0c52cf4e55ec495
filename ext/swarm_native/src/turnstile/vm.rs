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

use magnus::rb_sys::{FromRawValue, protect};
use magnus::{RString, Value};
use rb_sys::VALUE;
use swarm_core::os::bell::Bell;

/// Whether the calling thread may give the GVL away inside of a job.
///
/// Not on its way into a sleep, when it looks for interrupts once more, and not in a trap handler that has interrupted a
/// sleep: the VM (or rb_nogvl) has noted the thread's status and puts it back, and whoever wakes the thread meanwhile does
/// so by that very status. The sleep would never hear of it. Either is over in a moment.
pub fn may_step_aside(thread: VALUE) -> bool {
    !falls_asleep(thread) && !has_interrupted_sleep(thread)
}

fn falls_asleep(thread: VALUE) -> bool {
    let asked = protect(|| {
        // SAFETY: the caller has the GVL. Thread#stop? reads the status; should somebody have replaced it by a method
        // that raises, `protect` catches that.
        unsafe { rb_sys::rb_funcallv(thread, rb_sys::rb_intern(c"stop?".as_ptr()), 0, std::ptr::null()) }
    });
    asked.is_ok_and(rb_sys::TEST)
}

/// Ruby's own methods that sleep by the thread's status. None of them calls a block.
const SLEEPS: [&[u8]; 10] = [b"sleep", b"wait", b"pop", b"shift", b"deq", b"push", b"enq", b"join", b"value", b"stop"];

/// How far down the stack a sleep is looked for: a handler with more frames than that is none.
const DEPTH: usize = 128;

/// Whether Ruby code runs on top of a sleep, as a trap handler's does. Ruby does not tell of handlers: in a job it takes
/// every thread for being in one. So it is the frames that tell, as profilers read them.
fn has_interrupted_sleep(thread: VALUE) -> bool {
    // SAFETY: the caller has the GVL.
    if thread != unsafe { rb_sys::rb_thread_main() } {
        return false; // handlers run in the main thread
    }
    let (mut frames, mut lines): ([VALUE; DEPTH], [c_int; DEPTH]) = ([0; DEPTH], [0; DEPTH]);
    // SAFETY: as above; both arrays hold as many as is said. The frames lie on the stack, where the garbage collector
    // sees them.
    let count = unsafe { rb_sys::rb_profile_frames(0, DEPTH as c_int, frames.as_mut_ptr(), lines.as_mut_ptr()) };
    let below = 1..usize::try_from(count).unwrap_or(0).max(1);
    frames[below].iter().any(|&frame| {
        // SAFETY: frames that rb_profile_frames has just written; either gives a String or nil.
        let (path, name) =
            unsafe { (rb_sys::rb_profile_frame_path(frame), rb_sys::rb_profile_frame_method_name(frame)) };
        // Written in C, or in Ruby inside of the VM.
        let own = look_at(path, |path| path.starts_with(b"<internal:")).unwrap_or(true);
        own && look_at(name, |name| SLEEPS.contains(&name)).unwrap_or(false)
    })
}

/// Looks at what is in a String of the VM's own; `None` for nil.
fn look_at(string: VALUE, look: impl FnOnce(&[u8]) -> bool) -> Option<bool> {
    // SAFETY: the VM has just given the value, which is an object of Ruby's.
    let string = RString::from_value(unsafe { Value::from_raw(string) })?;
    // SAFETY: `look` runs no Ruby code, so that the bytes stay where they are.
    Some(look(unsafe { string.as_slice() }))
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
