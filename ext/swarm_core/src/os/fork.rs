//! The fork that is under way on a thread, and what the C library tells of it.
//!
//! Other hooks of the same fork run after it, in parent and child, and may well make new handles, for which their thread
//! must not wait: it would wait for itself. So `pthread_atfork`'s handlers tell the gate; they run inside fork(2), on
//! the forking thread, in whatever way the process is forked.
//!
//! What is remembered of a thread are ids, which are checked against the gate: a Ruby thread may go on on another thread
//! of the system, and then nobody clears what it has left. After the fork the parent writes to as little memory as
//! possible, since each page costs it a page fault.

use std::cell::Cell;
use std::sync::Once;

use rustix::io::Errno;

use super::librdkafka;
use crate::fork_gate::{Permit, gate, renew_after_fork};

thread_local! {
    /// The permit of the fork that this thread is in the middle of, or was.
    static UNDER_WAY: Cell<u64> = const { Cell::new(0) };
    /// The permit for the next fork of this thread.
    static RESERVED: Cell<u64> = const { Cell::new(0) };
}

/// A fork that was permitted. Dropping it gives the permit back.
pub struct ForkUnderWay {
    _permit: Permit,
    outer: u64,
}

impl ForkUnderWay {
    /// Says that this thread is about to fork.
    pub fn begin(permit: Permit) -> Self {
        let outer = UNDER_WAY.replace(permit.id());
        Self { _permit: permit, outer }
    }

    /// Says so for the permit that was reserved, if one was.
    pub fn begin_reserved() -> Option<Self> {
        let id = RESERVED.replace(0);
        if id == 0 {
            return None;
        }
        gate().same_permit(id).map(Self::begin)
    }
}

impl Drop for ForkUnderWay {
    fn drop(&mut self) {
        // An id that stays here is the id of a permit that is not out any more.
        if self.outer != 0 && gate().is_used(self.outer).is_some() {
            UNDER_WAY.set(self.outer);
        }
    }
}

/// A permit for the next fork of this thread, for a method that has to know in time whether it may fork. Dropping it
/// gives the permit back, if the fork has not done so at its end.
pub struct Reserved {
    _permit: Permit,
}

impl Reserved {
    /// Keeps the permit for the thread's next [`ForkUnderWay::begin_reserved`].
    pub fn new(permit: Permit) -> Self {
        RESERVED.set(permit.id());
        Self { _permit: permit }
    }
}

thread_local! {
    /// The pid of the child of this thread's fork, or one of the two words below.
    static CHILD: Cell<i32> = const { Cell::new(NOT_ASKED) };
}
const NOT_ASKED: i32 = 0;
const NONE_YET: i32 = -1;

/// Has the pid of this thread's next child kept, until [`forget_child`]. What is raised at the thread may come with the
/// return of the fork, and then the pid is nowhere else.
pub fn ask_for_child() {
    CHILD.set(NONE_YET);
}

/// Keeps nothing any more.
pub fn forget_child() {
    CHILD.set(NOT_ASKED);
}

/// Notes the child that this thread has just forked, or that it is about to fork (none), if somebody has asked. Nobody
/// else's fork pays for it: see above.
pub fn note_child(pid: Option<i32>) {
    if CHILD.get() != NOT_ASKED {
        CHILD.set(pid.unwrap_or(NONE_YET));
    }
}

/// The child that has been noted.
pub fn noted_child() -> Option<i32> {
    Some(CHILD.get()).filter(|&pid| pid > 0)
}

/// How a thread stands to a fork of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is in the middle of none.
    Apart,
    /// It has a permit and will fork: a handle made now would be forked.
    AboutToFork,
    /// It has forked by the permit with this id, which is still out.
    HasForked(u64),
}

/// How this thread stands.
pub fn standing() -> Standing {
    let of = |id: u64| if id == 0 { None } else { gate().is_used(id).map(|used| (id, used)) };
    match [of(UNDER_WAY.get()), of(RESERVED.get())] {
        [_, Some((_, false))] | [Some((_, false)), _] => Standing::AboutToFork,
        [Some((id, true)), _] | [_, Some((id, true))] => Standing::HasForked(id),
        [None, None] => Standing::Apart,
    }
}

extern "C" fn before() {
    librdkafka::before_fork();
}

extern "C" fn in_parent() {
    librdkafka::after_fork_in_parent();
    // The thread may be about to end, and have no ids any more.
    if let Ok(id @ 1..) = UNDER_WAY.try_with(Cell::get) {
        gate().used(id);
    }
}

extern "C" fn in_child() {
    librdkafka::after_fork_in_child();
    renew_after_fork();
    // Ids of the parent's gate.
    let _ = UNDER_WAY.try_with(|id| id.set(0));
    let _ = RESERVED.try_with(|id| id.set(0));
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
    use crate::fork_gate::Handle;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, SystemTime};

    /// The gate is the process's, so one test at a time.
    fn alone() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit() -> Permit {
        gate().permit().ok().unwrap()
    }

    /// A lease for another thread, and for this one.
    fn leases() -> [bool; 2] {
        let own = if let Standing::HasForked(id) = standing() { id } else { 0 };
        [0, own].map(|beside| {
            let handle = Handle { class: "Producer", name: String::new(), made_at: String::new() };
            gate().lease(handle, SystemTime::UNIX_EPOCH, beside, Duration::ZERO).is_ok()
        })
    }

    #[test]
    fn a_fork_that_did_not_happen_gives_its_permit_back() {
        let _alone = alone();
        let fork = ForkUnderWay::begin(permit());
        assert_eq!(standing(), Standing::AboutToFork);
        assert_eq!(leases(), [false, false]);
        drop(fork);
        assert_eq!(standing(), Standing::Apart);
        assert_eq!(leases(), [true, true]);
    }

    #[test]
    fn a_thread_that_has_forked_may_make_a_handle_before_its_hooks_are_done() {
        let _alone = alone();
        let fork = ForkUnderWay::begin(permit());
        before();
        in_parent();
        assert_eq!(leases(), [false, true]);
        drop(fork);
        assert_eq!(leases(), [true, true]);
    }

    #[test]
    fn a_reserved_permit_is_the_next_forks_or_given_back() {
        let _alone = alone();
        let reservation = Reserved::new(permit());
        assert_eq!(standing(), Standing::AboutToFork);
        let fork = ForkUnderWay::begin_reserved();
        assert!(fork.is_some());
        assert_eq!(standing(), Standing::AboutToFork);
        assert!(ForkUnderWay::begin_reserved().is_none());
        before();
        in_parent();
        assert_eq!(leases(), [false, true]);
        drop(fork);
        assert_eq!(leases(), [true, true]);
        drop(reservation);

        drop(Reserved::new(permit()));
        assert!(ForkUnderWay::begin_reserved().is_none());
        assert_eq!(leases(), [true, true]);
    }

    #[test]
    fn a_child_is_noted_for_whoever_asked() {
        note_child(Some(7));
        assert_eq!(noted_child(), None);
        ask_for_child();
        note_child(None);
        assert_eq!(noted_child(), None);
        note_child(Some(7));
        assert_eq!(noted_child(), Some(7));
        // A fork that failed after one that did not.
        note_child(None);
        assert_eq!(noted_child(), None);
        forget_child();
        note_child(Some(8));
        assert_eq!(noted_child(), None);
    }

    #[test]
    fn a_hook_that_forks_inside_a_fork_keeps_the_outer_permit() {
        let _alone = alone();
        let outer = ForkUnderWay::begin(permit());
        let inner = ForkUnderWay::begin(permit());
        before();
        in_parent();
        drop(inner);
        assert_eq!(standing(), Standing::AboutToFork);
        assert_eq!(leases(), [false, false]);
        drop(outer);
        assert_eq!(leases(), [true, true]);
    }
}
