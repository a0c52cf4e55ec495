//! OAUTHBEARER tokens of an administrator's client, which nobody polls: a thread of the caller's waits here until one is
//! wanted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use swarm_core::os::wake::Wake;

use super::Admin;
use crate::client::{Bearer, Token};
use crate::error::KafkaError;

/// What is wanted, as `sasl.oauthbearer.config` says it.
#[derive(Default)]
pub(super) struct Tokens(Mutex<State>);

#[derive(Default)]
struct State {
    wanted: Option<String>,
    /// What is being made just now.
    asked: Option<String>,
    /// There was none. librdkafka asks again ten seconds later, which is too late for the next call.
    refused: Option<String>,
}

impl Tokens {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// librdkafka wants one.
    pub(super) fn want(&self, config: String) {
        self.state().wanted = Some(config);
    }

    /// Has one that was refused asked for again; true where there is something to ask for.
    pub(super) fn want_again(&self) -> bool {
        let mut state = self.state();
        match state.refused.take() {
            Some(refused) => {
                state.wanted.get_or_insert(refused);
                true
            }
            None => false,
        }
    }

    fn take(&self) -> Option<String> {
        let mut state = self.state();
        let wanted = state.wanted.take()?;
        state.asked = Some(wanted.clone());
        Some(wanted)
    }

    fn answered(&self, with_a_token: bool) {
        let mut state = self.state();
        let asked = state.asked.take();
        state.refused = if with_a_token { None } else { asked };
    }
}

impl Admin {
    /// Waits until a token is wanted, and gives `sasl.oauthbearer.config`; `None` when `wake` is woken from elsewhere. One
    /// thread waits, and answers by [`Admin::set_token`] or [`Admin::refuse_token`].
    pub fn wait_for_token(&self, wake: &Wake) -> Option<String> {
        self.trouble.wait(wake, |tokens| tokens.take())
    }
}

impl Bearer for Admin {
    fn set_token(&self, token: &Token) -> Result<(), KafkaError> {
        self.client.set_token(token)?;
        self.trouble.tokens().answered(true);
        // What was said for the want of one says nothing any more.
        self.trouble.forget();
        Ok(())
    }

    /// The next call asks again too.
    fn refuse_token(&self, reason: &str) {
        self.trouble.tokens().answered(false);
        self.client.refuse_token(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_refused_is_wanted_again_by_the_next_call_and_one_that_was_given_is_not() {
        let tokens = Tokens::default();
        assert!(!tokens.want_again());
        tokens.want("scope".into());
        assert_eq!((tokens.take().as_deref(), tokens.take()), (Some("scope"), None));
        tokens.answered(false);
        assert!(tokens.want_again());
        assert_eq!(tokens.take().as_deref(), Some("scope"));
        tokens.answered(true);
        assert!(!tokens.want_again());
        assert_eq!(tokens.take(), None);
    }
}
