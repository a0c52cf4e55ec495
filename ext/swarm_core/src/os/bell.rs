//! A wait that another thread or a signal handler ends, without a descriptor.

use std::sync::atomic::Ordering;
use std::time::Duration;

#[cfg(all(loom, test))]
use loom::sync::atomic::AtomicU32;
#[cfg(not(all(loom, test)))]
use std::sync::atomic::AtomicU32;

use self::word::{sleep_while, wake_one};

const QUIET: u32 = 0;
const RUNG: u32 = 1;

/// One thread waits for it at a time. A ring is kept until the next wait takes it.
///
/// [`Bell::ring`] is an atomic store and one futex call, so it may be called from any thread and from a signal handler.
#[derive(Debug, Default)]
pub struct Bell(AtomicU32);

/// Sleeping on a word, as the kernel does it.
#[cfg(not(all(loom, test)))]
mod word {
    use super::{AtomicU32, Duration};
    use rustix::thread::futex;
    use rustix::time::Timespec;

    /// Sleeps unless the word is another by now; until it is woken, a signal comes, or the time is over. A time that the
    /// kernel cannot count is none.
    pub fn sleep_while(word: &AtomicU32, value: u32, time: Option<Duration>) {
        let time = match time.map(Timespec::try_from) {
            Some(Err(_)) => return,
            Some(Ok(time)) => Some(time),
            None => None,
        };
        // Whatever it returns (the word was another, a signal), the answer stands in the word.
        let _ = futex::wait(word, futex::Flags::PRIVATE, value, time.as_ref());
    }

    /// Wakes who sleeps on the word.
    pub fn wake_one(word: &AtomicU32) {
        // It can only fail for a bad address.
        let _ = futex::wake(word, futex::Flags::PRIVATE, 1);
    }
}

/// The same for loom, which knows no system calls: the look at the word and the falling asleep are one step under a lock,
/// as in the kernel.
#[cfg(all(loom, test))]
mod word {
    use super::{AtomicU32, Duration, Ordering};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref SLEEPERS: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub fn sleep_while(word: &AtomicU32, value: u32, _time: Option<Duration>) {
        let awake = SLEEPERS.0.lock().unwrap();
        if word.load(Ordering::SeqCst) == value {
            drop(SLEEPERS.1.wait(awake).unwrap());
        }
    }

    pub fn wake_one(_word: &AtomicU32) {
        let _awake = SLEEPERS.0.lock().unwrap();
        SLEEPERS.1.notify_one();
    }
}

impl Bell {
    /// Ends the wait, or the next one. Ringing twice is ringing once.
    pub fn ring(&self) {
        if self.0.swap(RUNG, Ordering::Release) == QUIET {
            wake_one(&self.0);
        }
    }

    /// Forgets a ring that nobody has waited for.
    pub fn hush(&self) {
        self.0.store(QUIET, Ordering::Relaxed);
    }

    /// Waits for a ring.
    pub fn wait(&self) {
        while self.0.swap(QUIET, Ordering::Acquire) == QUIET {
            sleep_while(&self.0, QUIET, None);
        }
    }

    /// Waits for a ring, at most as long as `time`. A signal may end the wait, too.
    pub fn wait_for(&self, time: Duration) {
        if self.0.swap(QUIET, Ordering::Acquire) == RUNG {
            return;
        }
        sleep_while(&self.0, QUIET, Some(time));
        self.0.swap(QUIET, Ordering::Acquire);
    }
}

#[cfg(all(test, not(loom)))]
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

/// See `fork_gate`: what is lost here would be a deadlock, which loom reports.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn loom_no_ring_is_lost_and_what_was_done_before_it_is_seen() {
        loom::model(|| {
            let shared = Arc::new((Bell::default(), AtomicU32::new(0)));
            let ringer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for _ in 0..2 {
                        shared.1.fetch_add(1, Ordering::Relaxed);
                        shared.0.ring();
                    }
                })
            };
            // Two rings may be one: whoever waits looks at what there is to do, and waits again.
            while shared.1.load(Ordering::Relaxed) < 2 {
                shared.0.wait();
            }
            ringer.join().unwrap();
        });
    }

    #[test]
    fn loom_each_ring_after_a_wait_ends_the_next() {
        loom::model(|| {
            let bells = Arc::new((Bell::default(), Bell::default()));
            let other = {
                let bells = Arc::clone(&bells);
                thread::spawn(move || {
                    for _ in 0..2 {
                        bells.0.wait();
                        bells.1.ring();
                    }
                })
            };
            for _ in 0..2 {
                bells.0.ring();
                bells.1.wait();
            }
            other.join().unwrap();
        });
    }
}
