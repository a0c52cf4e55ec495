//! Kafka's errors as Ruby's.

use magnus::{Error, Exception, Module, RClass, RHash, RModule, Ruby, value::ReprValue};
use swarm_kafka::config::{ConfigError, OpenError};
use swarm_kafka::error::KafkaError;

/// A `SwarmNative::Kafka::Error` object.
pub fn exception(ruby: &Ruby, error: &KafkaError) -> Result<Exception, Error> {
    make(ruby, error, None)
}

/// The same, of a commit: topic => { partition => offset }.
pub fn exception_about(ruby: &Ruby, error: &KafkaError, offsets: RHash) -> Result<Exception, Error> {
    offsets.freeze();
    make(ruby, error, Some(offsets))
}

fn make(ruby: &Ruby, error: &KafkaError, offsets: Option<RHash>) -> Result<Exception, Error> {
    let class: RClass =
        crate::error::swarm_native(ruby)?.const_get::<_, RModule>("Kafka")?.const_get::<_, RClass>("Error")?;
    let name = ruby.to_symbol(&error.name);
    let flags = (error.retriable, error.fatal, error.requires_abort);
    class.funcall("new", (error.message.as_str(), error.code, name, flags.0, flags.1, flags.2, offsets))
}

/// Raises it.
pub fn raise(ruby: &Ruby, error: &KafkaError) -> Error {
    match exception(ruby, error) {
        Ok(exception) => exception.into(),
        Err(failed) => failed,
    }
}

/// A ConfigurationError.
pub fn configuration(ruby: &Ruby, error: &ConfigError) -> Error {
    crate::error::raise(ruby, "ConfigurationError", error.to_string())
}

/// Why a handle was not made.
pub fn not_opened(ruby: &Ruby, error: &OpenError) -> Error {
    match error {
        OpenError::Config(problems) => configuration(ruby, problems),
        OpenError::Refused(_) => crate::error::raise(ruby, "Error", error.to_string()),
    }
}
