//! Settings from Ruby: what a Hash holds, as a policy.

use magnus::value::ReprValue;
use magnus::{Error, Float, Integer, RArray, RHash, RString, Ruby, Symbol, Value};
use swarm_core::policy::{self, Policy};

use crate::error;

/// The policy that a Hash of settings describes, or a ConfigurationError that lists all that is wrong with it.
pub fn read(ruby: &Ruby, settings: RHash) -> Result<Policy, Error> {
    let mut given: Vec<(String, policy::Value)> = Vec::new();
    settings.foreach(|name: Value, value: Value| {
        given.push((name.to_string(), read_value(value)));
        Ok(magnus::r_hash::ForEach::Continue)
    })?;
    Policy::from_settings(given.iter().map(|(name, value)| (name.as_str(), value.clone()))).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("- {problem}")).collect();
        error::raise(ruby, "ConfigurationError", format!("these settings cannot be:\n{}", lines.join("\n")))
    })
}

fn read_value(value: Value) -> policy::Value {
    if value.is_nil() {
        policy::Value::Nil
    } else if let Some(number) = Integer::from_value(value) {
        number.to_i64().map_or_else(|_| policy::Value::Other(value.inspect()), policy::Value::Integer)
    } else if let Some(number) = Float::from_value(value) {
        policy::Value::Float(number.to_f64())
    } else if Symbol::from_value(value).is_some() || RString::from_value(value).is_some() {
        policy::Value::Word(value.to_string())
    } else if value.is_kind_of(Ruby::get_with(value).class_true_class()) {
        policy::Value::Bool(true)
    } else if value.is_kind_of(Ruby::get_with(value).class_false_class()) {
        policy::Value::Bool(false)
    } else {
        policy::Value::Other(value.inspect())
    }
}

/// Every setting there is: name, default, what is allowed, why.
pub fn describe(ruby: &Ruby) -> Result<RArray, Error> {
    let array = ruby.ary_new();
    for setting in Policy::settings() {
        array.push((setting.name, setting.default, setting.allowed, setting.reason))?;
    }
    Ok(array)
}
