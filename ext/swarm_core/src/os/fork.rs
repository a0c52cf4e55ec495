//! The fork that is under way on a thread, and what the C library tells of it.
//!
//! A permit to fork may not outlive the fork: other hooks of the same fork run after it, in parent and child, and may
//! well make new handles. So the permit lies where `pthread_atfork`'s handlers find it, which run inside fork(2) itself,
//! on the forking thread, in whatever way the process is forked.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, Once, PoisonError};

use rustix::io::Errno;

use super::librdkafka;
use crate::fork_gate::{Permit, renew_after_fork};

/// The permit of one fork. It is shared so that it can be given back wherever the fork ends, also if a Ruby thread
/// meanwhile runs on another thread of the system.
type Slot = Arc<Mutex<Option<Permit>>>;

fn empty(slot: &Slot) -> Option<Permit> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// What a thread has at hand: at most one slot of each kind, the innermost.
struct Slots {
    under_way: RefCell<Option<Slot>>,
    reserved: RefCell<Option<Slot>>,
}

thread_local! {
    static THIS_THREAD: Slots = const { Slots { under_way: RefCell::new(None), reserved: RefCell::new(None) } };
}

/// A fork that was permitted. Dropping it gives the permit back, if fork(2) has not done so.
pub struct ForkUnderWay {
    slot: Slot,
    outer: Option<Slot>,
}

impl ForkUnderWay {
    /// Says that this thread is about to fork.
    pub fn begin(permit: Permit) -> Self {
        let slot = Arc::new(Mutex::new(Some(permit)));
        let outer = THIS_THREAD.with(|this| this.under_way.replace(Some(Arc::clone(&slot))));
        Self { slot, outer }
    }
}

impl Drop for ForkUnderWay {
    fn drop(&mut self) {
        drop(empty(&self.slot));
        THIS_THREAD.with(|this| this.under_way.replace(self.outer.take()));
    }
}

/// A permit for the next fork of this thread, for a method that has to know in time whether it may fork. Dropping it
/// gives the permit back, if no fork has taken it.
pub struct Reserved(Slot);

impl Reserved {
    /// Keeps the permit until the thread's next [`reserved`].
    pub fn new(permit: Permit) -> Self {
        let slot = Arc::new(Mutex::new(Some(permit)));
        THIS_THREAD.with(|this| this.reserved.replace(Some(Arc::clone(&slot))));
        Self(slot)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        drop(empty(&self.0));
    }
}

/// The permit that was reserved for this fork, if one was.
pub fn reserved() -> Option<Permit> {
    THIS_THREAD.with(|this| this.reserved.take()).as_ref().and_then(empty)
}

thread_local! {
    static LAST_CHILD: Cell<i32> = const { Cell::new(0) };
}

/// Keeps the pid of the child that this thread has just forked, or that it is about to fork (none).
pub fn note_child(pid: Option<i32>) {
    LAST_CHILD.with(|last| last.set(pid.unwrap_or(0)));
}

/// The pid of the child that this thread's last fork gave. What is raised at the thread may come with the return of the
/// fork, and then the pid is nowhere else.
pub fn last_child() -> Option<i32> {
    LAST_CHILD.with(|last| (last.get() > 0).then_some(last.get()))
}

/// True while this thread has a permit to fork and has not forked yet: a handle made now would be forked.
pub fn is_under_way() -> bool {
    THIS_THREAD.with(|this| {
        let slot = this.under_way.borrow();
        slot.as_ref().is_some_and(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).is_some())
    })
}

/// Takes the permit of the fork that this thread is in the middle of. None where other code has called fork(2).
fn permit_of_this_fork() -> Option<Permit> {
    THIS_THREAD.try_with(|this| this.under_way.try_borrow().ok()?.as_ref().and_then(empty)).ok().flatten()
}

extern "C" fn before() {
    librdkafka::before_fork();
}

extern "C" fn in_parent() {
    librdkafka::after_fork_in_parent();
    drop(permit_of_this_fork());
}

extern "C" fn in_child() {
    librdkafka::after_fork_in_child();
    renew_after_fork();
    // Of the gate that was just left behind, hence without effect; but the slot is empty from now on.
    drop(permit_of_this_fork());
}

/// Has the gate renewed, and the inherited threads of librdkafka known, in every forked child from now on, however it was
/// forked. Once a process is enough.
pub fn watch() -> Result<(), Errno> {
    static WATCH: Once = Once::new();
    let mut result = Ok(());
    WATCH.call_once(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded (Ruby does not dlclose its
        // extensions); they do not panic, and wait for locks alone whose holders wait for nobody.
        let refused = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        if refused != 0 {
            result = Err(Errno::from_raw_os_error(refused));
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork_gate::{ForkGate, Handle, Lease};
    use std::time::{Duration, SystemTime};

    fn a_gate() -> &'static ForkGate {
        Box::leak(Box::default())
    }

    /// A lease, which is to be had only where no permit is out.
    fn lease(gate: &'static ForkGate) -> Lease {
        let handle = Handle { class: "Producer", name: String::new(), made_at: String::new() };
        gate.lease(handle, SystemTime::UNIX_EPOCH, Duration::ZERO).unwrap()
    }

    #[test]
    fn a_fork_that_did_not_happen_gives_its_permit_back() {
        let gate = a_gate();
        let fork = ForkUnderWay::begin(gate.permit().ok().unwrap());
        assert!(is_under_way());
        drop(fork);
        assert!(!is_under_way());
        drop(lease(gate));
    }

    #[test]
    fn the_permit_is_given_back_as_soon_as_the_process_has_forked() {
        let gate = a_gate();
        let fork = ForkUnderWay::begin(gate.permit().ok().unwrap());
        in_parent();
        assert!(!is_under_way());
        let opened = lease(gate);
        drop(fork);
        drop(opened);
        assert!(gate.permit().is_ok());
    }

    #[test]
    fn a_reserved_permit_is_the_next_forks_or_given_back() {
        let gate = a_gate();
        let reservation = Reserved::new(gate.permit().ok().unwrap());
        drop(ForkUnderWay::begin(reserved().unwrap()));
        assert!(reserved().is_none());
        drop(lease(gate));
        drop(reservation);

        drop(Reserved::new(gate.permit().ok().unwrap()));
        assert!(reserved().is_none());
        drop(lease(gate));
    }

    #[test]
    fn a_hook_that_forks_inside_a_fork_keeps_the_outer_permit() {
        let gate = a_gate();
        let outer = ForkUnderWay::begin(gate.permit().ok().unwrap());
        let inner = ForkUnderWay::begin(gate.permit().ok().unwrap());
        in_parent();
        drop(inner);
        assert!(is_under_way());
        drop(outer);
        assert!(!is_under_way());
        drop(lease(gate));
    }
}
