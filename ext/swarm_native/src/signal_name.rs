//! A signal as a Ruby argument: `"TERM"`, `"SIGTERM"`, `:TERM`, `:SIGTERM` or `15`.

use magnus::{Error, Integer, RString, Ruby, Symbol, Value, prelude::*};
use swarm_core::signal_name::{HIGHEST, number};

use crate::error;

/// The signal's number, or an ArgumentError or TypeError that says what is allowed.
pub fn signal_number(ruby: &Ruby, signal: Value) -> Result<i32, Error> {
    if let Some(name) = Symbol::from_value(signal) {
        return number(name.name()?.as_bytes()).ok_or_else(|| unknown(ruby, signal));
    }
    if let Some(name) = RString::from_value(signal) {
        // SAFETY: the bytes are read before any Ruby code could run and change them.
        return number(unsafe { name.as_slice() }).ok_or_else(|| unknown(ruby, signal));
    }
    if let Some(integer) = Integer::from_value(signal) {
        let known = integer.to_i32().ok().filter(|number| (1..=HIGHEST).contains(number));
        return known.ok_or_else(|| unknown(ruby, signal));
    }
    let message = format!("a signal is {ALLOWED}, got {} ({})", signal.inspect(), signal.class());
    Err(Error::new(ruby.exception_type_error(), message))
}

const ALLOWED: &str = "a name such as \"TERM\", \"SIGTERM\" or :TERM, or a number from 1 to 64";

fn unknown(ruby: &Ruby, signal: Value) -> Error {
    error::argument(ruby, format!("no such signal: {}; a signal is {ALLOWED}", signal.inspect()))
}
