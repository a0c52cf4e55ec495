//! Ruby 3.1 and 3.2: the VM does not tell of its threads. What asks for the GVL here is this library's own waits, when
//! they come back. A thread that has come back so is known until it is seen to have given the GVL away; whoever has the
//! GVL otherwise counts as one heavy thread.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use rb_sys::VALUE;
use swarm_core::turnstile::{Class, Step, ThreadId, Turnstile};

use super::core::{self, Core, Seats, now};
use super::vm;

/// Whoever has the GVL, among the rules.
static SOMEBODY: AtomicU32 = AtomicU32::new(0);

fn somebody() -> ThreadId {
    ThreadId(SOMEBODY.load(Ordering::Relaxed))
}

/// What is known of this run beyond the rules.
#[derive(Default)]
pub struct Seen {
    /// Who came back from a wait of ours last, unless it has given the GVL away since. Its other waits are not seen: it
    /// may have done so all the same, and then it counts as light for another 2 ms.
    came_back: Option<(ThreadId, VALUE)>,
    /// Heavy threads that have stepped aside and will tell when they have the GVL again.
    aside: usize,
}

/// A wait that is over, from its end to the GVL.
pub struct Comeback {
    generation: u32,
    id: ThreadId,
}

/// The calling thread, which has the GVL, is about to wait. What a light one has used of it ends here.
pub fn gives_gvl_away() {
    let Some(core) = core::active() else { return };
    let thread = current();
    core.rules(|seats, rules| {
        if seats.seen.came_back.is_none_or(|(_, known)| known != thread) {
            return ((), false);
        }
        forget(seats, rules);
        // One that has stepped aside is next, and tells so itself.
        ((), seats.seen.aside == 0 && rules.resumed(somebody(), now()))
    });
}

/// The calling thread wants the GVL. It has not got it yet.
pub fn wants_gvl() -> Option<Comeback> {
    core::active()?.rules(|seats, rules| {
        let id = rules.add(Class::Auto, now());
        let rouse = rules.ready(id, true, now());
        (Comeback { generation: seats.generation, id }, rouse)
    })
}

/// The calling thread has got the GVL.
pub fn has_gvl(comeback: Comeback) {
    let Some(core) = core::known() else { return };
    let thread = current();
    core.rules(|seats, rules| {
        if seats.generation != comeback.generation {
            return ((), false);
        }
        forget(seats, rules);
        seats.seen.came_back = Some((comeback.id, thread));
        ((), rules.resumed(comeback.id, now()))
    });
}

/// Starts to listen.
pub fn listen(core: &'static Core) {
    core.rules(|seats, rules| {
        seats.seen = Seen::default();
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
    let thread = current();
    if !vm::may_step_aside(thread) {
        return;
    }
    let stepped = core.rules(|seats, rules| {
        if let Some((id, known)) = seats.seen.came_back {
            // Stepping aside it would stand behind the busy ones without asking for the GVL.
            if known == thread && rules.is_light(id, now()) {
                return (None, false);
            }
            forget(seats, rules);
        }
        let step = rules.step(somebody(), now());
        if step == Step::Stay {
            return (None, false);
        }
        rules.suspended(somebody(), now());
        seats.seen.aside += 1;
        (Some(seats.generation), false)
    });
    let Some(Some(generation)) = stepped else { return };
    vm::step_aside(None);
    core.rules(|seats, rules| {
        if seats.generation != generation {
            return ((), false);
        }
        forget(seats, rules);
        seats.seen.aside = seats.seen.aside.saturating_sub(1);
        rules.back(somebody());
        ((), rules.resumed(somebody(), now()))
    });
}

/// Whoever came back last has no longer the GVL.
fn forget(seats: &mut Seats, rules: &mut Turnstile) {
    if let Some((id, _)) = seats.seen.came_back.take() {
        rules.remove(id, now());
    }
}

fn current() -> VALUE {
    // SAFETY: every caller is a Ruby thread with the GVL.
    unsafe { rb_sys::rb_thread_current() }
}
