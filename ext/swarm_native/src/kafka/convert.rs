//! Rust's values as Ruby's, and back.

use std::time::{Duration, Instant};

use magnus::{Error, Module, RArray, RClass, RString, Ruby, Value, value::ReprValue};
use swarm_kafka::lines::Line;

/// A frozen String of bytes.
pub fn binary(ruby: &Ruby, bytes: &[u8]) -> RString {
    let string = ruby.str_from_slice(bytes);
    string.freeze();
    string
}

/// A frozen String, the same object for the same text.
pub fn interned(ruby: &Ruby, text: &str) -> RString {
    ruby.str_new(text).to_interned_str()
}

/// A frozen String: UTF-8 where the bytes are, else binary.
pub fn name(ruby: &Ruby, bytes: &[u8]) -> RString {
    match std::str::from_utf8(bytes) {
        Ok(text) => interned(ruby, text),
        Err(_) => binary(ruby, bytes),
    }
}

/// Refuses what is no timeout.
pub fn check_timeout(ruby: &Ruby, seconds: Option<f64>) -> Result<(), Error> {
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => Err(crate::error::argument(
            ruby,
            format!("a timeout is a number of seconds from 0 on, or nil for none, not {seconds}"),
        )),
        _ => Ok(()),
    }
}

/// The moment in `seconds` from now; `None` stays none.
pub fn deadline(ruby: &Ruby, seconds: Option<f64>) -> Result<Option<Instant>, Error> {
    check_timeout(ruby, seconds)?;
    let Some(seconds) = seconds else { return Ok(None) };
    // One that is too long to be told from none is none.
    Ok(Duration::try_from_secs_f64(seconds).ok().and_then(|duration| Instant::now().checked_add(duration)))
}

/// True when the moment has passed.
pub fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// A number of seconds from 0 on; never more than librdkafka can wait.
pub fn duration(ruby: &Ruby, seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds)
        .map(|duration| duration.min(Duration::from_millis(i32::MAX as u64)))
        .map_err(|_| crate::error::argument(ruby, format!("a timeout is a number of seconds from 0 on, not {seconds}")))
}

/// True in a fiber that must not wait by itself, because a scheduler waits for all.
pub fn is_scheduled(ruby: &Ruby) -> Result<bool, Error> {
    let fiber: RClass = ruby.class_object().const_get("Fiber")?;
    Ok(!fiber.funcall::<_, _, Value>("current_scheduler", ())?.is_nil())
}

/// Log lines.
pub fn lines(ruby: &Ruby, lines: Vec<Line>) -> Result<RArray, Error> {
    let array = ruby.ary_new_capa(lines.len());
    for each in lines {
        array.push(line(ruby, each)?)?;
    }
    Ok(array)
}

/// A log line as severity (a Logger's method), facility and text.
pub fn line(ruby: &Ruby, line: Line) -> Result<RArray, Error> {
    let severity = match line.level {
        0..=3 => "error",
        4 => "warn",
        5 | 6 => "info",
        _ => "debug",
    };
    let array = ruby.ary_new_capa(3);
    array.push(ruby.to_symbol(severity))?;
    array.push(line.facility)?;
    array.push(line.text)?;
    Ok(array)
}
