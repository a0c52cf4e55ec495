//! What keeps an administrator's client from its brokers.
//!
//! librdkafka tries on until a request's time is over, and then says only that no broker was there. What somebody has to
//! put right, such as a certificate or a password, it says in errors of the client, and nowhere else. They are read here,
//! so that a call that cannot succeed ends soon, with a reason.

use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::{KafkaError, code};
use crate::queue::{Kind, Queue};

/// Attempts to connect are a second apart at the most, so that in this time there was one more.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Trouble {
    events: Queue,
    known: Mutex<Known>,
}

/// An error that lasts, until a broker has answered.
#[derive(Default)]
struct Known {
    error: Option<KafkaError>,
    /// When there was a broker for certain, or else since when there is the error.
    since: Option<Instant>,
    /// When no broker was left to try.
    all_down: Option<Instant>,
}

impl Known {
    fn note(&mut self, error: KafkaError, now: Instant) {
        if error.lasts() {
            *self = Self { error: Some(error), since: Some(now), all_down: None };
        } else if error.code == code::ALL_BROKERS_DOWN && self.error.is_some() {
            self.all_down = Some(now);
        }
    }

    /// The error, once it is the reason why a call that began then gets no answer: one broker that does not let the
    /// client in says nothing of the others.
    fn ends(&mut self, began: Instant, now: Instant, is_any_up: impl FnOnce() -> bool) -> Option<&KafkaError> {
        let waited = now.duration_since(self.since?.max(began));
        if self.all_down.is_none_or(|at| at < began) {
            if waited < PATIENCE {
                return None;
            }
            if is_any_up() {
                self.since = Some(now);
                return None;
            }
        }
        self.error.as_ref()
    }
}

impl Trouble {
    pub(super) fn new(client: &Client) -> rustix::io::Result<Self> {
        // SAFETY: the client lives; the reference that comes out is ours, and goes before the client does.
        let events = unsafe { Queue::own(crate::sys::rd_kafka_queue_get_main(client.as_ptr())) }?;
        Ok(Self { events, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the client has said so far.
    fn read(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known();
        while let Some(event) = self.events.next() {
            if event.kind() == Kind::Error {
                let error = event.error();
                tracing::warn!(target: "librdkafka", name = error.name, fatal = error.fatal, "{}", error.message);
                known.note(error, Instant::now());
            }
        }
        known
    }

    /// A call begins.
    pub(super) fn begin(&self) -> Instant {
        drop(self.read());
        Instant::now()
    }

    /// Why a call that began then should not wait any longer.
    pub(super) fn ends(&self, client: &Client, began: Instant) -> Option<KafkaError> {
        self.read().ends(began, Instant::now(), || is_any_up(client)).cloned()
    }

    /// A broker has answered.
    pub(super) fn is_over(&self) {
        *self.known() = Known::default();
    }

    /// Says why there was no answer in time, as far as that is known.
    pub(super) fn explain(&self, client: &Client, failed: KafkaError) -> KafkaError {
        if !matches!(failed.code, code::TRANSPORT | code::TIMED_OUT | code::ALL_BROKERS_DOWN) {
            return failed;
        }
        match self.read().error.clone() {
            Some(error) if !is_any_up(client) => error,
            Some(error) => {
                let message = format!("{}; the client's latest error: {}", failed.message, error.message);
                KafkaError { message, ..failed }
            }
            None => failed,
        }
    }
}

/// Whether there is a connection to any broker.
fn is_any_up(client: &Client) -> bool {
    let mut metadata = null();
    // SAFETY: the client lives; no topic is asked for; the metadata that may come out is ours.
    unsafe {
        let code = crate::sys::rd_kafka_metadata(client.as_ptr(), 0, null_mut(), &mut metadata, 0);
        if code == code::NO_ERROR {
            crate::sys::rd_kafka_metadata_destroy(metadata);
        }
        // In no time there is no answer either; but librdkafka says so differently where it could send the request.
        code != code::TRANSPORT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_call_ends_when_no_broker_is_left_to_try_and_at_least_one_has_said_what_is_wrong() {
        let (mut known, begin) = (Known::default(), Instant::now());
        let up = || panic!("it is known");
        known.note(KafkaError::of(code::TRANSPORT), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), begin);
        assert_eq!(known.ends(begin, after(begin, 20), up), None);
        known.note(KafkaError::with(code::AUTHENTICATION, "wrong password"), begin);
        assert_eq!(known.ends(begin, after(begin, 1), up), None);
        known.note(KafkaError::of(code::TRANSPORT), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), after(begin, 1));
        assert_eq!(known.ends(begin, after(begin, 1), up).unwrap().message, "wrong password");
    }

    #[test]
    fn a_later_call_has_time_for_one_more_attempt() {
        let (mut known, begin) = (Known::default(), Instant::now());
        known.note(KafkaError::of(code::SSL), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), begin);
        let later = after(begin, 10);
        assert_eq!(known.ends(later, after(begin, 12), || panic!("it is too early to ask")), None);
        assert_eq!(known.ends(later, after(begin, 13), || false).unwrap().code, code::SSL);
    }

    #[test]
    fn a_call_goes_on_while_any_broker_is_there() {
        let (mut known, begin) = (Known::default(), Instant::now());
        known.note(KafkaError::of(code::SSL), begin);
        assert_eq!(known.ends(begin, after(begin, 4), || true), None);
        assert_eq!(known.ends(begin, after(begin, 6), || panic!("it was there a moment ago")), None);
        assert_eq!(known.ends(begin, after(begin, 7), || false).unwrap().code, code::SSL);
    }
}
