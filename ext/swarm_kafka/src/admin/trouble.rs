//! What keeps an administrator's client from its brokers.
//!
//! librdkafka tries on until a request's time is over, and then says only that no broker was there. What somebody has to
//! put right, such as a certificate or a password, it says in errors of the client, and nowhere else. They are read here,
//! so that a call that cannot succeed ends soon, with a reason.

use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swarm_core::os::wake::Wake;

use super::tokens::Tokens;
use crate::client::Client;
use crate::config::Config;
use crate::error::{KafkaError, code};
use crate::queue::{Kind, Queue, Waited};

/// In this time there was one more attempt to connect, where they are up to a second apart (and half of that for
/// librdkafka's jitter).
const PATIENCE: Duration = Duration::from_secs(3);

/// The same for a client whose attempts may be further apart.
pub(super) fn patience(config: &Config) -> Duration {
    let longest = config.properties().into_iter().find(|(name, _)| name == "reconnect.backoff.max.ms");
    let longest = longest.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    PATIENCE.max(Duration::from_millis(longest) * 3 / 2 + Duration::from_secs(1))
}

pub(super) struct Trouble {
    events: Queue,
    known: Mutex<Known>,
    tokens: Tokens,
    patience: Duration,
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

    /// Forgets what was put right while nobody asked.
    fn begin(&mut self, is_any_up: impl FnOnce() -> bool) {
        if self.error.is_some() && is_any_up() {
            *self = Self::default();
        }
    }

    /// The error, once it is the reason why a call that began then gets no answer: one broker that does not let the
    /// client in says nothing of the others.
    fn ends(
        &mut self,
        began: Instant,
        now: Instant,
        patience: Duration,
        is_any_up: impl FnOnce() -> bool,
    ) -> Option<&KafkaError> {
        let waited = now.duration_since(self.since?.max(began));
        if self.all_down.is_none_or(|at| at < began) {
            if waited < patience {
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
    pub(super) fn new(client: &Client, patience: Duration) -> rustix::io::Result<Self> {
        // SAFETY: the client lives; the reference that comes out is ours, and goes before the client does.
        let events = unsafe { Queue::own(crate::sys::rd_kafka_queue_get_main(client.as_ptr())) }?;
        Ok(Self { events, known: Mutex::default(), tokens: Tokens::default(), patience })
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Reads what the client says until `take` finds something; `None` when `wake` is woken from elsewhere.
    pub(super) fn wait<T>(&self, wake: &Wake, mut take: impl FnMut(&Tokens) -> Option<T>) -> Option<T> {
        loop {
            drop(self.read());
            let found = take(&self.tokens);
            if found.is_some() || self.events.wait(wake, None) == Waited::Woken {
                return found;
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the client has said so far.
    fn read(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known();
        while let Some(event) = self.events.next() {
            match event.kind() {
                Kind::Error => {
                    let error = event.error();
                    tracing::warn!(target: "librdkafka", name = error.name, fatal = error.fatal, "{}", error.message);
                    known.note(error, Instant::now());
                }
                Kind::Token => self.tokens.want(event.token_config()),
                _ => {}
            }
        }
        known
    }

    /// A call begins.
    pub(super) fn begin(&self, client: &Client) -> Instant {
        if self.tokens.want_again() {
            self.events.fill();
        }
        self.read().begin(|| is_any_up(client));
        Instant::now()
    }

    /// Why a call that began then should not wait any longer.
    pub(super) fn ends(&self, client: &Client, began: Instant) -> Option<KafkaError> {
        self.read().ends(began, Instant::now(), self.patience, || is_any_up(client)).cloned()
    }

    /// A broker has answered.
    pub(super) fn is_over(&self) {
        *self.known() = Known::default();
    }

    /// What the client has complained of so far has been put right.
    pub(super) fn forget(&self) {
        *self.read() = Known::default();
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
        assert_eq!(known.ends(begin, after(begin, 20), PATIENCE, up), None);
        known.note(KafkaError::with(code::AUTHENTICATION, "wrong password"), begin);
        assert_eq!(known.ends(begin, after(begin, 1), PATIENCE, up), None);
        known.note(KafkaError::of(code::TRANSPORT), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), after(begin, 1));
        assert_eq!(known.ends(begin, after(begin, 1), PATIENCE, up).unwrap().message, "wrong password");
    }

    #[test]
    fn a_later_call_has_time_for_one_more_attempt() {
        let (mut known, begin) = (Known::default(), Instant::now());
        known.note(KafkaError::of(code::SSL), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), begin);
        let later = after(begin, 10);
        assert_eq!(known.ends(later, after(begin, 12), PATIENCE, || panic!("it is too early to ask")), None);
        assert_eq!(known.ends(later, after(begin, 13), PATIENCE, || false).unwrap().code, code::SSL);
    }

    #[test]
    fn a_call_goes_on_while_any_broker_is_there() {
        let (mut known, begin) = (Known::default(), Instant::now());
        known.note(KafkaError::of(code::SSL), begin);
        assert_eq!(known.ends(begin, after(begin, 4), PATIENCE, || true), None);
        assert_eq!(known.ends(begin, after(begin, 6), PATIENCE, || panic!("it was there a moment ago")), None);
        assert_eq!(known.ends(begin, after(begin, 7), PATIENCE, || false).unwrap().code, code::SSL);
    }

    #[test]
    fn what_was_put_right_while_nobody_asked_is_not_told_again() {
        let (mut known, begin) = (Known::default(), Instant::now());
        known.begin(|| panic!("there is nothing to forget"));
        known.note(KafkaError::of(code::AUTHENTICATION), begin);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), begin);
        known.begin(|| false);
        assert!(known.error.is_some());
        known.begin(|| true);
        let later = after(begin, 5);
        known.note(KafkaError::of(code::ALL_BROKERS_DOWN), later);
        assert_eq!(known.ends(later, after(begin, 60), PATIENCE, || false), None);
    }

    #[test]
    fn a_client_whose_attempts_are_further_apart_gets_more_time() {
        let patience = |milliseconds: &str| {
            patience(&Config::new(&[("reconnect.backoff.max.ms".into(), milliseconds.into())]).unwrap()).as_secs()
        };
        assert_eq!((patience("1000"), patience("10000")), (3, 16));
    }
}
