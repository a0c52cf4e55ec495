//! What became of a message that was sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use swarm_core::os::wake::Wake;

use crate::error::KafkaError;
use crate::queue::wait_for_wake;

/// The answer to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// 0, or why it was not delivered.
    pub code: i32,
    /// The partition that the partitioner has chosen.
    pub partition: i32,
    /// Its offset there; below 0 where it has none (not delivered, or no acknowledgement was asked for).
    pub offset: i64,
}

/// The place where the answer to one message will stand.
#[derive(Default)]
pub struct Slot(OnceLock<Report>);

impl Slot {
    /// The answer, once it is there.
    pub fn report(&self) -> Option<Report> {
        self.0.get().copied()
    }

    /// Puts the answer there; only the first one counts.
    pub fn fill(&self, report: Report) {
        let _ = self.0.set(report);
    }
}

/// What a waiter waits for.
enum For {
    Slot(Arc<Slot>),
    Room,
}

struct Waiter {
    what: For,
    wake: Arc<Wake>,
}

/// Who waits for answers of one producer.
#[derive(Default)]
pub struct Waiters {
    list: Mutex<Vec<Waiter>>,
    closed: AtomicBool,
    trouble: Mutex<Option<(bool, Arc<str>)>>,
}

impl Waiters {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Waiter>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps the client from its brokers, as far as it has said so: why messages are not delivered in time.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, text)| Arc::clone(text))
    }

    /// There is this trouble, or none any more. What lasts is not hidden by what follows from it, such as a connection
    /// that the broker has closed.
    pub(crate) fn set_trouble(&self, error: Option<&KafkaError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*trouble, error) {
            (Some((true, _)), Some(error)) if !error.lasts() => {}
            _ => *trouble = error.map(|error| (error.lasts(), Arc::from(error.message.as_str()))),
        }
    }

    /// True when no answer comes any more.
    pub fn are_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Wakes everybody: no answer comes any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for waiter in self.list().iter() {
            waiter.wake.wake();
        }
    }

    /// Wakes those whose answer has come, and those who wait for room in the queue.
    pub(crate) fn answers_came(&self) {
        for waiter in self.list().iter() {
            let due = match &waiter.what {
                For::Slot(slot) => slot.report().is_some(),
                For::Room => true,
            };
            if due {
                waiter.wake.wake();
            }
        }
    }

    /// Waits for the answer in `slot`, until `wake` is woken from elsewhere or the deadline passes.
    pub fn wait_for(&self, slot: &Arc<Slot>, wake: &Arc<Wake>, deadline: Option<Instant>) -> Option<Report> {
        let _listed = self.enlist(For::Slot(Arc::clone(slot)), wake);
        // The answer may have come before the waiter stood in the list.
        if slot.report().is_none() && !self.are_closed() {
            wait_for_wake(wake, deadline);
        }
        slot.report()
    }

    /// Waits until answers come, which make room in the queue; true when there may be room.
    pub(crate) fn wait_for_room(
        &self,
        wake: &Arc<Wake>,
        deadline: Option<Instant>,
        mut try_again: impl FnMut() -> bool,
    ) -> bool {
        let _listed = self.enlist(For::Room, wake);
        try_again() || {
            wait_for_wake(wake, deadline);
            try_again()
        }
    }

    fn enlist<'a>(&'a self, what: For, wake: &Arc<Wake>) -> Listed<'a> {
        self.list().push(Waiter { what, wake: Arc::clone(wake) });
        Listed { waiters: self, wake: Arc::clone(wake) }
    }
}

struct Listed<'a> {
    waiters: &'a Waiters,
    wake: Arc<Wake>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut list = self.waiters.list();
        if let Some(index) = list.iter().position(|waiter| Arc::ptr_eq(&waiter.wake, &self.wake)) {
            list.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::code;

    #[test]
    fn the_trouble_is_the_latest_that_lasts_until_a_message_is_delivered() {
        let waiters = Waiters::default();
        let error = |code, text: &str| KafkaError::with(code, text);
        for (error, trouble) in [
            (Some(error(code::TRANSPORT, "down")), Some("down")),
            (Some(error(code::RESOLVE, "no name")), Some("no name")),
            (Some(error(code::SSL, "certificate")), Some("certificate")),
            (Some(error(code::TRANSPORT, "closed")), Some("certificate")),
            (Some(error(code::AUTHENTICATION, "password")), Some("password")),
            (None, None),
            (Some(error(code::TRANSPORT, "down")), Some("down")),
        ] {
            waiters.set_trouble(error.as_ref());
            assert_eq!(waiters.trouble().as_deref(), trouble);
        }
    }
}
