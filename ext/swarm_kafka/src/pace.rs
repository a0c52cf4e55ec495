//! How soon librdkafka may try again to reach a broker that does not let it in.
//!
//! librdkafka doubles the wait between its attempts up to `reconnect.backoff.max.ms`, and forgets that wait whenever
//! another part of the client asks for a connection to any broker, which a consumer without a coordinator does all the
//! time. A certificate that is not trusted, a wrong password, a cluster that is down: each then costs twenty connections
//! a second and client, seen with librdkafka 2.12. So the wait is kept here as well, where librdkafka asks for a socket.
//! It does so on a thread that serves one broker alone, and holds no lock meanwhile.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;

/// A thread that waits here does not serve its broker's other business, such as messages that are too old by now.
const LONGEST: Duration = Duration::from_secs(1);
/// Attempts that are further apart have nothing to do with each other.
const CALM: Duration = Duration::from_secs(5);
/// The most addresses that a broker's name is taken to have.
const ADDRESSES: u32 = 64;

/// The pace of one handle.
pub(crate) struct Pace {
    limits: Limits,
    gate: Mutex<Gate>,
    opened: Condvar,
}

/// The waits: `reconnect.backoff.ms`, and what it doubles up to.
#[derive(Clone, Copy)]
struct Limits {
    first: Duration,
    longest: Duration,
}

#[derive(Default)]
struct Gate {
    over: bool,
    hurried: u64,
}

thread_local! {
    /// The attempts of the broker that this thread serves.
    static ATTEMPTS: Cell<Attempts> = const { Cell::new(Attempts::NONE) };
}

/// Attempts in quick succession, in rounds over the addresses of a broker.
#[derive(Clone, Copy)]
struct Attempts {
    last: Option<Instant>,
    first_address: u64,
    /// In this round.
    tried: u32,
    /// In the round before.
    addresses: u32,
    /// Rounds that have ended.
    rounds: u32,
}

impl Attempts {
    const NONE: Self = Self { last: None, first_address: 0, tried: 0, addresses: 0, rounds: 0 };

    /// How long the next attempt has to wait. The first two rounds do not.
    fn wait(&self, now: Instant, limits: Limits) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        if self.rounds == 0 || self.tried < self.addresses || now.duration_since(last) > CALM {
            return Duration::ZERO;
        }
        let pause = limits.first.saturating_mul(1 << (self.rounds - 1).min(16)).min(limits.longest);
        (last + pause).saturating_duration_since(now)
    }

    fn add(self, now: Instant, address: u64) -> Self {
        let anew = Self { last: Some(now), first_address: address, tried: 1, ..Self::NONE };
        match self.last {
            Some(last) if now.duration_since(last) <= CALM && self.tried < ADDRESSES => {
                if address == self.first_address {
                    Self { addresses: self.tried, rounds: self.rounds.saturating_add(1), ..anew }
                } else {
                    Self { last: Some(now), tried: self.tried + 1, ..self }
                }
            }
            _ => anew,
        }
    }
}

impl Pace {
    /// As the handle's configuration has it.
    pub(crate) fn of(config: &Config) -> Self {
        let properties = config.properties();
        let milliseconds = |name: &str, default| {
            let found = properties.iter().find(|(known, _)| known == name);
            Duration::from_millis(found.and_then(|(_, value)| value.parse().ok()).unwrap_or(default))
        };
        let limits = Limits {
            first: milliseconds("reconnect.backoff.ms", 100),
            longest: milliseconds("reconnect.backoff.max.ms", 10_000).min(LONGEST),
        };
        Self { limits, gate: Mutex::default(), opened: Condvar::new() }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any longer who waits just now.
    pub(crate) fn hurry(&self) {
        self.gate().hurried += 1;
        self.opened.notify_all();
    }

    /// Nobody waits any more.
    pub(crate) fn end(&self) {
        self.gate().over = true;
        self.opened.notify_all();
    }

    /// Makes a socket as librdkafka does, a little later where that is due.
    pub(crate) fn socket(&self, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        self.keep();
        // SAFETY: no precondition.
        unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) }
    }

    fn keep(&self) {
        let wait = ATTEMPTS.get().wait(Instant::now(), self.limits);
        if wait.is_zero() {
            return;
        }
        let gate = self.gate();
        let hurried = gate.hurried;
        let waits = |gate: &mut Gate| !gate.over && gate.hurried == hurried;
        drop(self.opened.wait_timeout_while(gate, wait, waits).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Connects as librdkafka does, and notes to where. It holds the broker's lock meanwhile, so this does not wait.
pub(crate) unsafe extern "C" fn connect(
    socket: c_int,
    address: *const libc::sockaddr,
    size: c_int,
    _id: *const c_char,
    _opaque: *mut c_void,
) -> c_int {
    let length = usize::try_from(size).unwrap_or(0);
    let _ = std::panic::catch_unwind(|| {
        let mut hasher = DefaultHasher::new();
        // SAFETY: librdkafka passes an address of this size.
        hasher.write(unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) });
        ATTEMPTS.set(ATTEMPTS.get().add(Instant::now(), hasher.finish()));
    });
    // SAFETY: the socket is open, and the address has this size.
    let result = unsafe { libc::connect(socket, address, length as libc::socklen_t) };
    let errno = if result == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) };
    if errno == libc::EINPROGRESS { 0 } else { errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

    /// Attempts as soon as they may be, but 50 ms apart at least: milliseconds from the first one.
    fn attempts(addresses: &[u64], count: usize) -> Vec<u128> {
        let begin = Instant::now();
        let (mut attempts, mut now) = (Attempts::NONE, begin);
        let mut at = Vec::new();
        for address in addresses.iter().cycle().take(count) {
            now += attempts.wait(now, LIMITS);
            at.push((now - begin).as_millis());
            attempts = attempts.add(now, *address);
            now += Duration::from_millis(50);
        }
        at
    }

    #[test]
    fn attempts_that_fail_at_once_become_rarer_up_to_one_a_second() {
        assert_eq!(attempts(&[1], 9), [0, 50, 150, 350, 750, 1550, 2550, 3550, 4550]);
    }

    #[test]
    fn each_address_is_tried_before_anybody_waits() {
        assert_eq!(attempts(&[1, 2, 3], 10), [0, 50, 100, 150, 200, 250, 350, 400, 450, 650]);
    }

    #[test]
    fn attempts_far_apart_do_not_wait() {
        let begin = Instant::now();
        let mut run = Attempts::NONE;
        for second in 0..5 {
            run = run.add(begin + 6 * second * Duration::from_secs(1), 1);
        }
        assert_eq!(run.rounds, 0);
        let run = run.add(begin + Duration::from_secs(25), 1);
        assert!(!run.wait(begin + Duration::from_secs(25), LIMITS).is_zero());
        assert!(run.wait(begin + Duration::from_secs(31), LIMITS).is_zero());
    }

    #[test]
    fn whoever_waits_is_let_go_when_there_is_a_hurry() {
        let limits = Limits { first: Duration::from_secs(60), longest: Duration::from_secs(60) };
        let pace = Pace { limits, gate: Mutex::default(), opened: Condvar::new() };
        let begin = Instant::now();
        ATTEMPTS.set(Attempts::NONE.add(begin, 1).add(begin, 1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while pace.gate().hurried < 1_000_000 && !pace.gate().over {
                    pace.hurry();
                    std::thread::yield_now();
                }
            });
            pace.keep();
            pace.end();
        });
        pace.keep();
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
