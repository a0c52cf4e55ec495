//! OAUTHBEARER tokens, for every class whose client takes them.

use magnus::{Error, Ruby, TypedData};
use swarm_kafka::client::{Bearer, Token};

use super::error;
use super::handle::Handle;

/// A class whose handle takes tokens.
pub trait TakesTokens: TypedData {
    /// What the handle holds.
    type Client: Bearer + Send + Sync + 'static;

    /// The handle.
    fn handle(&self) -> &Handle<Self::Client>;
}

/// Gives librdkafka the token that it wants.
pub fn set<T: TakesTokens>(
    ruby: &Ruby,
    this: &T,
    value: String,
    expires_at: i64,
    principal: String,
    extensions: Vec<String>,
) -> Result<(), Error> {
    let token = Token { value, expires_at, principal, extensions };
    this.handle().enter(ruby)?.set_token(&token).map_err(|failed| error::raise(ruby, &failed))
}

/// Tells librdkafka why there is none.
pub fn refuse<T: TakesTokens>(ruby: &Ruby, this: &T, reason: String) -> Result<(), Error> {
    this.handle().enter(ruby)?.refuse_token(&reason);
    Ok(())
}
