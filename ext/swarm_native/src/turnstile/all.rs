//! Ruby 3.3 and newer: the VM tells when a thread wants the GVL, gets it and gives it away.
//!
//! The hook runs without the GVL and inside of the VM's scheduler: it takes the lock of [`Core`] for a moment, and calls
//! nothing of Ruby but the two functions for a thread's own data, which are made for that.
//!
//! A nudge is two jobs. A thread that parks inside of a job would keep all jobs waiting that the VM has taken together
//! with it; so the first one only asks for the second, which then is alone.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use magnus::{Error, rb_sys::protect};
use rb_sys::VALUE;
use swarm_core::turnstile::{Class, Step, ThreadId, Turnstile};

use super::core::{self, Core, Seats, now};
use super::vm;

static KEY: AtomicI32 = AtomicI32::new(-1);
static HOOK: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static HOOK_PID: AtomicU32 = AtomicU32::new(0);
static NUDGE: AtomicU32 = AtomicU32::new(vm::INVALID_JOB);
static STEP: AtomicU32 = AtomicU32::new(vm::INVALID_JOB);

/// Registers what can stay registered. Gives the reason why it cannot be done.
pub fn prepare() -> Result<Result<(), String>, Error> {
    make_key()?;
    // SAFETY: the caller has the GVL, and the functions live as long as the library, which is never unloaded.
    let (nudge_job, step_job) = unsafe {
        (
            vm::rb_postponed_job_preregister(0, nudge, std::ptr::null_mut()),
            vm::rb_postponed_job_preregister(0, step, std::ptr::null_mut()),
        )
    };
    if nudge_job == vm::INVALID_JOB || step_job == vm::INVALID_JOB {
        return Ok(Err("other libraries have taken all places in the VM's table of postponed jobs".into()));
    }
    NUDGE.store(nudge_job, Ordering::Relaxed);
    STEP.store(step_job, Ordering::Relaxed);
    Ok(Ok(()))
}

/// Starts to listen. The caller has the GVL.
pub fn listen(core: &'static Core) {
    if HOOK.load(Ordering::Relaxed).is_null() {
        let events = vm::READY | vm::RESUMED | vm::SUSPENDED | vm::EXITED;
        // SAFETY: `on_event` lives as long as the library and may be called without the GVL.
        let hook = unsafe { vm::rb_internal_thread_add_event_hook(on_event, events, std::ptr::null_mut()) };
        HOOK.store(hook, Ordering::Relaxed);
        HOOK_PID.store(std::process::id(), Ordering::Relaxed);
    }
    // SAFETY: the caller is a Ruby thread with the GVL.
    let thread = unsafe { rb_sys::rb_thread_current() };
    core.rules(|seats, rules| {
        let id = identify(seats, rules, thread);
        seats.seat(id).native = native_thread();
        ((), rules.resumed(id, now()))
    });
}

/// Stops to listen. The caller has the GVL. A forked child that has inherited the hook keeps it: another thread of the
/// parent may have been in the VM's list of hooks at the fork, and then changing the list would wait for ever.
pub fn unlisten() {
    let hook = HOOK.load(Ordering::Relaxed);
    if !hook.is_null() && HOOK_PID.load(Ordering::Relaxed) == std::process::id() {
        HOOK.store(std::ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: `hook` comes from `listen` in this process and is removed once. It waits for hooks that run, and those
        // wait for no GVL.
        unsafe { vm::rb_internal_thread_remove_event_hook(hook) };
    }
}

/// Nudges whoever has the GVL.
pub fn trigger() {
    // SAFETY: registered by `prepare`; may be called by any thread while the VM lives, and `Core::stop` was not called.
    unsafe { vm::rb_postponed_job_trigger(NUDGE.load(Ordering::Relaxed)) };
}

/// Sets by hand what a living thread counts as, also for the next time that the turnstile is on.
pub fn set_class(core: &Core, thread: VALUE, class: Class) -> Result<(), Error> {
    make_key()?;
    let set = core.rules(|seats, rules| {
        let id = identify(seats, rules, thread);
        rules.set_class(id, class);
        remember(thread, Memory { generation: seats.generation, id, class });
        ((), false)
    });
    if set.is_none() {
        remember(thread, Memory { generation: 0, id: ThreadId(0), class });
    }
    Ok(())
}

fn make_key() -> Result<(), Error> {
    if KEY.load(Ordering::Relaxed) >= 0 {
        return Ok(());
    }
    protect(|| {
        // SAFETY: the caller has the GVL; `protect` catches what it raises.
        KEY.store(unsafe { vm::rb_internal_thread_specific_key_create() }, Ordering::Relaxed);
        rb_sys::Qnil as VALUE
    })
    .map(|_| ())
}

/// What a thread's own data holds: its id among the rules of a generation, and its class for all of them.
struct Memory {
    generation: u32,
    id: ThreadId,
    class: Class,
}

fn remember(thread: VALUE, memory: Memory) {
    let class = match memory.class {
        Class::Auto => 0,
        Class::Light => 1,
        Class::Heavy => 2,
    };
    let word = u64::from(memory.generation) << 34 | u64::from(memory.id.0) << 2 | class;
    // SAFETY: `thread` is a living thread: it is the event's, or the caller has seen that it lives. The key was made
    // before, so that every living thread has room for it.
    unsafe { vm::rb_internal_thread_specific_set(thread, KEY.load(Ordering::Relaxed), word as usize as *mut c_void) };
}

fn recall(thread: VALUE) -> Memory {
    // SAFETY: as in `remember`.
    let word = unsafe { vm::rb_internal_thread_specific_get(thread, KEY.load(Ordering::Relaxed)) } as usize as u64;
    let class = match word & 3 {
        1 => Class::Light,
        2 => Class::Heavy,
        _ => Class::Auto,
    };
    Memory { generation: (word >> 34) as u32, id: ThreadId((word >> 2) as u32), class }
}

/// Called under the lock, which is what keeps two events of a new thread apart.
fn identify(seats: &mut Seats, rules: &mut Turnstile, thread: VALUE) -> ThreadId {
    let memory = recall(thread);
    if memory.generation == seats.generation {
        return memory.id;
    }
    let id = rules.add(memory.class, now());
    seats.new_seat(id);
    remember(thread, Memory { generation: seats.generation, id, ..memory });
    id
}

fn native_thread() -> usize {
    // SAFETY: it has no requirements.
    unsafe { libc::pthread_self() as usize }
}

unsafe extern "C" fn on_event(event: u32, data: *const vm::EventData, _: *mut c_void) {
    let Some(core) = core::active() else { return };
    // SAFETY: the VM passes the data of the event, which is valid for the call.
    let thread = unsafe { (*data).thread };
    core.rules(|seats, rules| {
        let id = identify(seats, rules, thread);
        let rouse = match event {
            vm::READY => {
                let woken = seats.seat(id).native != native_thread();
                rules.ready(id, woken, now())
            }
            vm::RESUMED => {
                seats.seat(id).native = native_thread();
                rules.resumed(id, now())
            }
            vm::SUSPENDED => {
                seats.seat(id).native = native_thread();
                rules.suspended(id, now());
                false
            }
            _ => {
                rules.remove(id, now());
                remember(thread, Memory { generation: 0, id: ThreadId(0), class: Class::Auto });
                false
            }
        };
        ((), rouse)
    });
}

unsafe extern "C" fn nudge(_: *mut c_void) {
    if core::active().is_some() {
        // SAFETY: registered by `prepare`. In a thread that has the GVL it asks for a job of this very thread.
        unsafe { vm::rb_postponed_job_trigger(STEP.load(Ordering::Relaxed)) };
    }
}

unsafe extern "C" fn step(_: *mut c_void) {
    let Some(core) = core::active() else { return };
    // SAFETY: the VM runs jobs in a Ruby thread with the GVL.
    let thread = unsafe { rb_sys::rb_thread_current() };
    if !vm::may_step_aside(thread) {
        return;
    }
    let Some((generation, id, step, bell)) = core.rules(|seats, rules| {
        let id = identify(seats, rules, thread);
        let step = rules.step(id, now());
        let bell = Arc::clone(&seats.seat(id).bell);
        if step == Step::Park {
            bell.hush();
        }
        ((seats.generation, id, step, bell), false)
    }) else {
        return;
    };
    match step {
        Step::Stay => return,
        Step::Yield => vm::step_aside(None),
        Step::Park => vm::step_aside(Some(&bell)),
    }
    core.rules(|seats, rules| {
        if seats.generation == generation {
            rules.back(id);
        }
        ((), false)
    });
}
