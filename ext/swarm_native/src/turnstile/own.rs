//! Ruby 3.1 and 3.2: the VM does not tell of its threads. What asks for the GVL here is this library's own waits, when
//! they come back; whoever has the GVL meanwhile counts as one heavy thread.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use swarm_core::turnstile::{Class, Step, ThreadId};

use super::core::{self, Core, now};
use super::vm;

/// Whoever has the GVL, among the rules.
static SOMEBODY: AtomicU32 = AtomicU32::new(0);

fn somebody() -> ThreadId {
    ThreadId(SOMEBODY.load(Ordering::Relaxed))
}

/// A wait that is over, from its end to the GVL.
pub struct Comeback {
    generation: u32,
    id: ThreadId,
}

/// The calling thread wants the GVL. It has not got it yet.
pub fn wants_gvl() -> Option<Comeback> {
    core::active()?.rules(|seats, rules| {
        let id = rules.add(Class::Light, now());
        let rouse = rules.ready(id, true, now());
        (Comeback { generation: seats.generation, id }, rouse)
    })
}

/// The calling thread has got the GVL.
pub fn has_gvl(comeback: Comeback) {
    let Some(core) = core::known() else { return };
    core.rules(|seats, rules| {
        if seats.generation == comeback.generation {
            rules.resumed(comeback.id, now());
            rules.remove(comeback.id, now());
            rules.resumed(somebody(), now());
        }
        ((), false)
    });
}

/// Starts to listen.
pub fn listen(core: &'static Core) {
    core.rules(|_, rules| {
        let id = rules.add(Class::Heavy, now());
        SOMEBODY.store(id.0, Ordering::Relaxed);
        rules.resumed(id, now());
        ((), false)
    });
}

/// Nudges whoever has the GVL.
pub fn trigger() {
    // SAFETY: any thread may call it while the VM lives, and `Core::stop` was not called. Where the VM's buffer is full,
    // it does nothing.
    unsafe { rb_sys::rb_postponed_job_register_one(0, Some(step), std::ptr::null_mut()) };
}

unsafe extern "C" fn step(_: *mut c_void) {
    let Some(core) = core::active() else { return };
    // SAFETY: the VM runs jobs in a Ruby thread with the GVL.
    if !vm::may_step_aside(unsafe { rb_sys::rb_thread_current() }) {
        return;
    }
    let stepped = core.rules(|seats, rules| {
        let step = rules.step(somebody(), now());
        if step == Step::Stay {
            return (None, false);
        }
        rules.suspended(somebody(), now());
        (Some(seats.generation), false)
    });
    let Some(Some(generation)) = stepped else { return };
    vm::step_aside(None);
    core.rules(|seats, rules| {
        if seats.generation == generation {
            rules.back(somebody());
            rules.resumed(somebody(), now());
        }
        ((), false)
    });
}
