//! A Ruby Hash as librdkafka's configuration.

use magnus::{
    Error, Float, Integer, RArray, RHash, RString, Ruby, Symbol, Value, r_hash::ForEach, rb_sys::AsRawValue,
    value::ReprValue,
};
use swarm_kafka::config::{Config, ConfigError};

/// Takes names as symbols or strings, and values as text, numbers, true, false, or arrays of those.
pub fn config(ruby: &Ruby, hash: RHash) -> Result<Config, Error> {
    let mut properties = Vec::new();
    let mut problems = Vec::new();
    hash.foreach(|name: Value, value: Value| {
        let Some(name) = text(name) else {
            problems.push(format!("{}: a property's name is a String or a Symbol", name.inspect()));
            return Ok(ForEach::Continue);
        };
        match scalar(ruby, value).or_else(|| list(ruby, value)) {
            Some(value) => properties.push((name, value)),
            None => problems.push(format!(
                "{name}: {} is not allowed: a value is a String, a Symbol, a number, true, false, or an Array of those",
                value.inspect()
            )),
        }
        Ok(ForEach::Continue)
    })?;
    match Config::new(&properties) {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(super::error::configuration(ruby, &ConfigError(problems))),
        Err(ConfigError(more)) => {
            problems.extend(more);
            Err(super::error::configuration(ruby, &ConfigError(problems)))
        }
    }
}

fn text(value: Value) -> Option<String> {
    if let Some(symbol) = Symbol::from_value(value) {
        return symbol.name().ok().map(std::borrow::Cow::into_owned);
    }
    RString::from_value(value).and_then(|string| string.to_string().ok())
}

fn scalar(ruby: &Ruby, value: Value) -> Option<String> {
    if value.as_raw() == ruby.qtrue().as_raw() {
        return Some("true".into());
    }
    if value.as_raw() == ruby.qfalse().as_raw() {
        return Some("false".into());
    }
    if Integer::from_value(value).is_some() || Float::from_value(value).is_some() {
        return Some(value.to_string());
    }
    text(value)
}

fn list(ruby: &Ruby, value: Value) -> Option<String> {
    let parts: Option<Vec<_>> = RArray::from_value(value)?.into_iter().map(|part| scalar(ruby, part)).collect();
    parts.map(|parts| parts.join(","))
}
