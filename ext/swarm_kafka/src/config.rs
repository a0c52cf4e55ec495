//! librdkafka's configuration: checked whole, with every problem told at once.

use std::ffi::{CStr, CString, c_char};
use std::fmt;

use crate::sys;

/// What is wrong with a configuration, one line a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [problem] => f.write_str(problem),
            problems => {
                write!(f, "{} problems:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

/// Why a handle was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel has refused something.
    #[error("{0}")]
    Refused(String),
}

/// A configuration that librdkafka has accepted, property by property.
#[derive(Debug)]
pub struct Config {
    conf: *mut sys::rd_kafka_conf_t,
}

// SAFETY: the object is only reached through its one owner and has no tie to a thread.
unsafe impl Send for Config {}

const TEXT: usize = 512;

impl Config {
    /// Takes librdkafka's own property names with their values as text.
    pub fn new(properties: &[(String, String)]) -> Result<Self, ConfigError> {
        // SAFETY: no precondition; the result is ours.
        let config = Self { conf: unsafe { sys::rd_kafka_conf_new() } };
        let problems: Vec<_> = properties.iter().filter_map(|(name, value)| config.set(name, value).err()).collect();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }

    /// Sets one property, or says why not.
    pub fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let shown = shown(name, value);
        let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
            return Err(format!("{name}: {shown} holds a NUL byte"));
        };
        let mut text = [0 as c_char; TEXT];
        // SAFETY: `conf` is ours, both strings end in NUL, `text` has the size that is told.
        let result =
            unsafe { sys::rd_kafka_conf_set(self.conf, c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), TEXT) };
        match result {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(match nearest(name) {
                Some(near) => format!("{name}: librdkafka has no such property; did you mean {near}?"),
                None => format!("{name}: librdkafka has no such property"),
            }),
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => {
                // SAFETY: librdkafka has filled the buffer with a NUL-terminated string.
                let reason = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
                let reason = if is_secret(name) { "librdkafka refuses the value".into() } else { reason };
                let allowed = known().into_iter().find(|known| known.name == name && !known.values.is_empty());
                Err(match allowed {
                    Some(known) => format!("{name}: {shown} is not allowed; allowed: {} ({reason})", known.values),
                    None => format!("{name}: {shown} is not allowed: {reason}"),
                })
            }
        }
    }

    /// True when the property has a value, given or by default.
    pub fn has(&self, name: &str) -> bool {
        self.properties().iter().any(|(known, value)| known == name && !value.is_empty())
    }

    /// Every property that has a value, with it.
    pub fn properties(&self) -> Vec<(String, String)> {
        let mut count = 0;
        // SAFETY: `conf` is ours; the array holds `count` NUL-terminated strings, names and values in turn, until it
        // is freed below.
        unsafe {
            let array = sys::rd_kafka_conf_dump(self.conf, &mut count);
            let strings = std::slice::from_raw_parts(array, count);
            let pairs = strings
                .chunks_exact(2)
                .map(|pair| (crate::error::text(pair[0]), crate::error::text(pair[1])))
                .collect();
            sys::rd_kafka_conf_dump_free(array, count);
            pairs
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_conf_t {
        self.conf
    }

    /// Gives the object away to librdkafka.
    pub(crate) fn into_raw(self) -> *mut sys::rd_kafka_conf_t {
        let conf = self.conf;
        std::mem::forget(self);
        conf
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: `conf` is ours and nobody uses it any more.
        unsafe { sys::rd_kafka_conf_destroy(self.conf) };
    }
}

/// A property as librdkafka describes it.
struct Known {
    name: String,
    /// The values that it may have: a range, a list, or nothing where anything goes.
    values: String,
}

/// Every property that there is. Only librdkafka's table in Markdown has them all, with their ranges.
fn known() -> Vec<Known> {
    let (mut text, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the stream writes to a buffer that is valid after the stream is closed, and is ours to free then.
    let table = unsafe {
        let stream = libc::open_memstream(&mut text, &mut size);
        if stream.is_null() {
            return Vec::new();
        }
        sys::rd_kafka_conf_properties_show(stream);
        libc::fclose(stream);
        let table = crate::error::text(text);
        libc::free(text.cast());
        table
    };
    let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| cells.len() >= 6 && cells[0] != "Property" && !cells[0].starts_with('-'))
        .map(|cells| Known { name: cells[0].to_owned(), values: cells[2].to_owned() })
        .collect()
}

/// The property that was meant, if one is near.
fn nearest(name: &str) -> Option<String> {
    let far = name.len() / 4;
    let names = known().into_iter().map(|known| known.name);
    names.map(|known| (distance(name, &known), known)).filter(|(d, _)| *d <= far).min().map(|(_, known)| known)
}

/// A value as a person may see it: secrets stay out of logs.
fn shown(name: &str, value: &str) -> String {
    if is_secret(name) { "the value (not shown)".into() } else { format!("{value:?}") }
}

fn is_secret(name: &str) -> bool {
    ["password", "secret", "key.pem", "passphrase", "oauthbearer.config", "assertion.private"]
        .iter()
        .any(|part| name.contains(part))
}

/// How many single letters have to be changed, added or left out to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pairs: &[(&str, &str)]) -> Vec<String> {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Config::new(&pairs).expect_err("accepted").0
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let problems = refused(&[("bootstrap.servres", "x"), ("linger.ms", "soon"), ("client.id", "fine")]);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("did you mean bootstrap.servers?"), "{}", problems[0]);
        assert!(problems[1].starts_with("linger.ms: \"soon\" is not allowed; allowed: 0 .. 900000"), "{}", problems[1]);
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let problems = refused(&[("sasl.passwrd", "hunter2"), ("ssl.key.password", "hun\0ter2")]);
        assert!(problems.iter().all(|problem| !problem.contains("ter2")), "{problems:?}");
    }

    #[test]
    fn a_word_far_from_all_others_gets_no_proposal() {
        assert_eq!(refused(&[("zzzz", "1")]), ["zzzz: librdkafka has no such property"]);
    }
}
