//! A wait that another thread or a signal handler ends, without a descriptor.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::Timespec;

const QUIET: u32 = 0;
const RUNG: u32 = 1;

/// One thread waits for it at a time. A ring is kept until the next wait takes it.
///
/// [`Bell::ring`] is an atomic store and one futex call, so it may be called from any thread and from a signal handler.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

impl Bell {
    /// Ends the wait, or the next one. Ringing twice is ringing once.
    pub fn ring(&self) {
        if self.0.swap(RUNG, Ordering::Release) == QUIET {
            // It can only fail for a bad address.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }

    /// Forgets a ring that nobody has waited for.
    pub fn hush(&self) {
        self.0.store(QUIET, Ordering::Relaxed);
    }

    /// Waits for a ring.
    pub fn wait(&self) {
        while self.0.swap(QUIET, Ordering::Acquire) == QUIET {
            // Whatever it returns (rung before the call, a signal), the answer stands in the word.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, QUIET, None);
        }
    }

    /// Waits for a ring, at most as long as `time`. A signal may end the wait, too.
    pub fn wait_for(&self, time: Duration) {
        if self.0.swap(QUIET, Ordering::Acquire) == RUNG {
            return;
        }
        if let Ok(time) = Timespec::try_from(time) {
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, QUIET, Some(&time));
        }
        self.0.swap(QUIET, Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::Bell;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.wait();
        bell.wait_for(Duration::from_millis(1));
        bell.ring();
        bell.wait_for(Duration::from_secs(3_600));
    }

    #[test]
    fn a_hushed_ring_ends_no_wait() {
        let bell = Bell::default();
        bell.ring();
        bell.hush();
        let before = std::time::Instant::now();
        bell.wait_for(Duration::from_millis(20));
        assert!(before.elapsed() >= Duration::from_millis(15));
    }

    #[test]
    fn every_ring_ends_one_wait_of_another_thread() {
        let (bell, answer) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let (theirs, back) = (bell.clone(), answer.clone());
        let waiter = std::thread::spawn(move || {
            for _ in 0..10_000 {
                theirs.wait();
                back.ring();
            }
        });
        for _ in 0..10_000 {
            bell.ring();
            answer.wait();
        }
        waiter.join().unwrap();
    }
}
