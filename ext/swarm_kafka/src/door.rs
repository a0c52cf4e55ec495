//! Who is inside a handle, so that closing it never pulls it away under a call.
//!
//! A call enters and leaves. Closing lets nobody in any more, turns everybody who waits inside out of the wait, and
//! takes the handle once the last one has left: then nobody else has it, and its end happens where the closer wants.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use swarm_core::os::wake::Wake;

struct State<T> {
    target: Option<Arc<T>>,
    inside: usize,
    waiting: Vec<Arc<Wake>>,
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
    wake: Option<Arc<Wake>>,
}

/// A call inside on a thread of its own. Dropping it is leaving.
pub struct Stay<T> {
    door: Arc<Door<T>>,
    target: ManuallyDrop<Arc<T>>,
}

/// The handle is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl<T> Door<T> {
    /// The door of a new handle.
    pub fn new(target: T) -> Self {
        let state = State { target: Some(Arc::new(target)), inside: 0, waiting: Vec::new() };
        Self { state: Mutex::new(state), left: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing below panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters for a call that does not wait.
    pub fn enter(&self) -> Result<Visit<'_, T>, Closed> {
        self.visit(None)
    }

    /// Enters for a call that waits; closing wakes `wake`.
    pub fn enter_to_wait(&self, wake: &Arc<Wake>) -> Result<Visit<'_, T>, Closed> {
        self.visit(Some(Arc::clone(wake)))
    }

    fn visit(&self, wake: Option<Arc<Wake>>) -> Result<Visit<'_, T>, Closed> {
        let mut state = self.state();
        let target = state.target.clone().ok_or(Closed)?;
        state.inside += 1;
        state.waiting.extend(wake.clone());
        Ok(Visit { door: self, target: ManuallyDrop::new(target), wake })
    }

    /// Enters for a call that outlasts the caller.
    pub fn stay(self: &Arc<Self>) -> Result<Stay<T>, Closed> {
        let mut state = self.state();
        let target = state.target.clone().ok_or(Closed)?;
        state.inside += 1;
        Ok(Stay { door: Arc::clone(self), target: ManuallyDrop::new(target) })
    }

    fn leave(&self, wake: Option<&Arc<Wake>>) {
        let mut state = self.state();
        state.inside -= 1;
        if let Some(index) = wake.and_then(|wake| state.waiting.iter().position(|other| Arc::ptr_eq(other, wake))) {
            state.waiting.swap_remove(index);
        }
        // Nobody waits at an open door, and a notification is a system call.
        if state.inside == 0 && state.target.is_none() {
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
        let mut state = self.state();
        let target = state.target.take();
        for wake in &state.waiting {
            wake.wake();
        }
        target
    }

    /// Lets visitors in again, to a new handle. False, and the handle is dropped, where one is there.
    pub fn reopen(&self, target: T) -> bool {
        let mut state = self.state();
        if state.target.is_some() {
            drop(state);
            drop(target);
            return false;
        }
        state.target = Some(Arc::new(target));
        true
    }

    /// True after `close`.
    pub fn is_closed(&self) -> bool {
        self.state().target.is_none()
    }

    /// Waits until the last one has left.
    pub fn wait_until_empty(&self) {
        let mut state = self.state();
        while state.inside > 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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
        // Before the count goes down, so that who sees 0 knows that no reference is left.
        // SAFETY: it is dropped here and nowhere else.
        unsafe { ManuallyDrop::drop(&mut self.target) };
        self.door.leave(self.wake.as_ref());
    }
}

impl<T> Drop for Stay<T> {
    fn drop(&mut self) {
        // SAFETY: as for a visit.
        unsafe { ManuallyDrop::drop(&mut self.target) };
        self.door.leave(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_was_closed_can_be_opened_to_another_handle() {
        let door = Door::new(1);
        assert!(!door.reopen(2));
        assert_eq!(*door.enter().ok().unwrap(), 1);
        door.close();
        assert!(door.reopen(3));
        assert_eq!(*door.enter().ok().unwrap(), 3);
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
        door.wait_until_empty();
        assert_eq!(Arc::strong_count(&handle), 1);
        visitor.join().unwrap();
    }
}
