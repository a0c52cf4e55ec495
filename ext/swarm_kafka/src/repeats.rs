//! Errors that librdkafka finds anew with each attempt to connect, and that somebody has to do something about: they are
//! told at once, then no more than twice a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::KafkaError;

const QUIET: Duration = Duration::from_secs(30);
/// So many different ones are remembered: those of this many brokers.
const MOST: usize = 64;

/// What one handle has told of lately.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<Vec<(Instant, i32, String)>>);

impl Repeats {
    /// Whether the error is to be told.
    pub(crate) fn is_new(&self, error: &KafkaError, now: Instant) -> bool {
        if error.fatal || !error.lasts() {
            return true;
        }
        // What follows is how long this attempt took.
        let what = error.message.split(" (after ").next().unwrap_or_default();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(at, ..)| now.duration_since(*at) < QUIET);
        if told.iter().any(|(_, code, text)| *code == error.code && text == what) {
            return false;
        }
        if told.len() == MOST {
            told.remove(0);
        }
        told.push((now, error.code, what.to_owned()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::code;

    #[test]
    fn a_wrong_password_is_told_once_in_a_while_and_other_errors_always() {
        let (repeats, begin) = (Repeats::default(), Instant::now());
        let error = |code, text: &str| KafkaError::with(code, text);
        let told = |error: KafkaError, after| repeats.is_new(&error, begin + Duration::from_secs(after));
        assert!(told(error(code::AUTHENTICATION, "a:9092: wrong password (after 300ms in state AUTH_REQ)"), 0));
        assert!(!told(error(code::AUTHENTICATION, "a:9092: wrong password (after 301ms in state AUTH_REQ)"), 1));
        assert!(told(error(code::AUTHENTICATION, "b:9092: wrong password (after 301ms in state AUTH_REQ)"), 1));
        assert!(told(error(code::SSL, "a:9092: wrong password"), 1));
        assert!(told(error(code::AUTHENTICATION, "a:9092: wrong password (after 3ms in state AUTH_REQ)"), 30));
        assert!(!told(error(code::AUTHENTICATION, "a:9092: wrong password"), 31));
        for _ in 0..2 {
            assert!(told(error(code::TRANSPORT, "down"), 0));
            assert!(told(KafkaError { fatal: true, ..error(code::SSL, "end") }, 0));
        }
    }
}
