//! Who is inside a handle, so that closing it never pulls it away under a call.
//!
//! A call enters and leaves. Closing lets nobody in any more, turns everybody who waits inside out of the wait, and
//! takes the handle once the last one has left: then nobody else has it, and its end happens where the closer wants.
//!
//! A door that rests is closed until it is opened to another handle. Whether a closed door rests stands under the same
//! lock as the handle: who finds it closed learns at once whether to wait, and who closes it while it rests has the last
//! word.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use swarm_core::os::wake::Wake;

struct State<T> {
    target: Option<Arc<T>>,
    /// Without a target: another one may come.
    rests: bool,
    /// Which target it is, so that the visitors of an earlier one are not taken for its own.
    turn: u64,
    waiting: Vec<Arc<Wake>>,
}

impl<T> State<T> {
    fn why(&self) -> Shut {
        if self.rests { Shut::Resting } else { Shut::Closed }
    }
}

/// The door of one handle.
pub struct Door<T> {
    state: Mutex<State<T>>,
    left: Condvar,
}

/// One call inside. Dropping it is leaving.
pub struct Visit<'a, T> {
    door: &'a Door<T>,
    target: ManuallyDrop<Arc<T>>,
    turn: u64,
    wake: Option<Arc<Wake>>,
}

/// A call inside on a thread of its own. Dropping it is leaving.
pub struct Stay<T> {
    door: Arc<Door<T>>,
    target: ManuallyDrop<Arc<T>>,
    turn: u64,
}

/// Why nobody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// For good.
    Closed,
    /// Until the door is opened to another handle.
    Resting,
}

impl<T> Door<T> {
    /// The door of a new handle.
    pub fn new(target: T) -> Self {
        let state = State { target: Some(Arc::new(target)), rests: false, turn: 0, waiting: Vec::new() };
        Self { state: Mutex::new(state), left: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing below panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters for a call that does not wait.
    pub fn enter(&self) -> Result<Visit<'_, T>, Shut> {
        self.visit(None)
    }

    /// Enters for a call that waits; closing wakes `wake`.
    pub fn enter_to_wait(&self, wake: &Arc<Wake>) -> Result<Visit<'_, T>, Shut> {
        self.visit(Some(Arc::clone(wake)))
    }

    fn visit(&self, wake: Option<Arc<Wake>>) -> Result<Visit<'_, T>, Shut> {
        let mut state = self.state();
        let target = state.target.clone().ok_or(state.why())?;
        state.waiting.extend(wake.clone());
        Ok(Visit { door: self, target: ManuallyDrop::new(target), turn: state.turn, wake })
    }

    /// Enters for a call that outlasts the caller.
    pub fn stay(self: &Arc<Self>) -> Result<Stay<T>, Shut> {
        let state = self.state();
        let target = state.target.clone().ok_or(state.why())?;
        Ok(Stay { door: Arc::clone(self), target: ManuallyDrop::new(target), turn: state.turn })
    }

    /// A visitor has given up its reference to the target of that turn.
    fn leave(&self, turn: u64, wake: Option<&Arc<Wake>>) {
        let mut state = self.state();
        if let Some(index) = wake.and_then(|wake| state.waiting.iter().position(|other| Arc::ptr_eq(other, wake))) {
            state.waiting.swap_remove(index);
        }
        // Nobody waits at an open door, and a notification is a system call.
        if state.target.is_none() || state.turn != turn {
            self.left.notify_all();
        }
    }

    /// Wakes all who wait; they stay inside.
    pub fn wake_all(&self) {
        for wake in &self.state().waiting {
            wake.wake();
        }
    }

    /// Lets nobody in any more and wakes all who wait. The first caller gets the handle, to be used and dropped when
    /// [`Door::wait_until_empty`] has returned.
    pub fn close(&self) -> Option<Arc<T>> {
        self.shut(false)
    }

    /// The same, until the door is opened to another handle. One that is closed stays closed.
    pub fn rest(&self) -> Option<Arc<T>> {
        self.shut(true)
    }

    fn shut(&self, to_rest: bool) -> Option<Arc<T>> {
        let mut state = self.state();
        let target = state.target.take();
        state.rests = to_rest && (target.is_some() || state.rests);
        for wake in &state.waiting {
            wake.wake();
        }
        target
    }

    /// Lets visitors in again, to a new handle. It comes back where the door does not rest: one is there, or it was
    /// closed meanwhile.
    pub fn reopen(&self, target: T) -> Result<(), T> {
        let mut state = self.state();
        if !state.rests {
            return Err(target);
        }
        state.rests = false;
        state.turn += 1;
        state.target = Some(Arc::new(target));
        Ok(())
    }

    /// True after `close`.
    pub fn is_closed(&self) -> bool {
        let state = self.state();
        state.target.is_none() && !state.rests
    }

    /// True after `rest`, until it is opened or closed.
    pub fn rests(&self) -> bool {
        self.state().rests
    }

    /// Waits until the last visitor of what `close` or `rest` gave has left.
    pub fn wait_until_empty(&self, target: &Arc<T>) {
        let mut state = self.state();
        // Each visitor has a reference, and gives it up before it says so under the lock.
        while Arc::strong_count(target) > 1 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // What the visitors have done comes before what the caller does.
        fence(Ordering::Acquire);
    }
}

impl<T> Deref for Visit<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.target
    }
}

impl<T> Deref for Stay<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.target
    }
}

impl<T> Drop for Visit<'_, T> {
    fn drop(&mut self) {
        // Before it leaves, so that who is told of that knows that the reference is gone.
        // SAFETY: it is dropped here and nowhere else.
        unsafe { ManuallyDrop::drop(&mut self.target) };
        self.door.leave(self.turn, self.wake.as_ref());
    }
}

impl<T> Drop for Stay<T> {
    fn drop(&mut self) {
        // SAFETY: as for a visit.
        unsafe { ManuallyDrop::drop(&mut self.target) };
        self.door.leave(self.turn, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_rests_can_be_opened_to_another_handle() {
        let door = Door::new(1);
        assert_eq!(door.reopen(2), Err(2));
        assert_eq!(door.rest().as_deref(), Some(&1));
        assert_eq!((door.enter().err(), door.is_closed(), door.rests()), (Some(Shut::Resting), false, true));
        assert_eq!(door.rest(), None);
        assert_eq!(door.reopen(3), Ok(()));
        assert_eq!((*door.enter().ok().unwrap(), door.rests()), (3, false));
        assert_eq!(door.reopen(4), Err(4));
    }

    #[test]
    fn who_closes_a_door_that_rests_has_the_last_word() {
        let door = Door::new(1);
        door.rest();
        assert_eq!(door.close(), None);
        // The new handle was being made meanwhile.
        assert_eq!(door.reopen(2), Err(2));
        assert_eq!(door.rest(), None);
        assert_eq!((door.enter().err(), door.is_closed(), door.rests()), (Some(Shut::Closed), true, false));
    }

    #[test]
    fn who_ends_a_handle_waits_for_its_own_visitors_and_not_for_those_of_the_next() {
        let door = Arc::new(Door::new(1));
        let of_the_first = door.stay().ok().unwrap();
        let first = door.rest().unwrap();
        door.reopen(2).unwrap();
        let _of_the_second = door.enter().ok().unwrap();
        let (ended, is_over) = std::sync::mpsc::channel();
        let ending = std::thread::spawn({
            let door = Arc::clone(&door);
            move || {
                door.wait_until_empty(&first);
                ended.send(*first).unwrap();
            }
        });
        assert!(is_over.try_recv().is_err());
        drop(of_the_first);
        assert_eq!(is_over.recv_timeout(std::time::Duration::from_secs(20)), Ok(1));
        ending.join().unwrap();
    }

    #[test]
    fn closing_wakes_who_waits_and_leaves_the_handle_to_the_closer_alone() {
        let door = Arc::new(Door::new("handle"));
        let wake = Arc::new(Wake::new().unwrap());
        let (entered, is_inside) = std::sync::mpsc::channel();
        let visitor = std::thread::spawn({
            let (door, wake) = (Arc::clone(&door), Arc::clone(&wake));
            move || {
                let visit = door.enter_to_wait(&wake).ok().unwrap();
                entered.send(()).unwrap();
                crate::queue::wait_for_wake(&wake, None);
                assert_eq!(*visit, "handle");
            }
        });
        is_inside.recv().unwrap();
        let handle = door.close().unwrap();
        assert!(door.close().is_none());
        assert!(door.enter().is_err());
        door.wait_until_empty(&handle);
        assert_eq!(Arc::strong_count(&handle), 1);
        visitor.join().unwrap();
    }
}
