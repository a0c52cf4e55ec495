//! The kinds of value that a setting can have: how each is read, and how its range is said in words.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Value;

/// Reads a setting's value, and says in words what it takes.
pub(super) trait Kind<T> {
    fn read(&self, value: &Value) -> Option<T>;
    fn allowed(&self) -> String;
    fn show(&self, value: &T) -> String;
}

/// A number of things.
pub(super) struct Count(pub(super) RangeInclusive<u32>);
/// A time in seconds.
pub(super) struct Seconds(pub(super) RangeInclusive<f64>);
/// A number of any sign.
pub(super) struct Whole(pub(super) RangeInclusive<i32>);
/// A size in bytes.
pub(super) struct Bytes(pub(super) RangeInclusive<u64>);
/// True or false.
pub(super) struct Flag;
/// One word of a few.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);
/// The same, or nil for "never" and "no limit".
pub(super) struct OrNil<K>(pub(super) K);

macro_rules! whole_numbers {
    ($($kind:ident: $type:ty, $unit:literal;)+) => {$(
        impl Kind<$type> for $kind {
            fn read(&self, value: &Value) -> Option<$type> {
                let Value::Integer(value) = value else { return None };
                <$type>::try_from(*value).ok().filter(|value| self.0.contains(value))
            }
            fn allowed(&self) -> String {
                format!(concat!($unit, "an Integer from {} to {}"), self.0.start(), self.0.end())
            }
            fn show(&self, value: &$type) -> String {
                value.to_string()
            }
        }
    )+};
}

whole_numbers! {
    Count: u32, "";
    Whole: i32, "";
    Bytes: u64, "bytes, ";
}

impl Kind<Duration> for Seconds {
    fn read(&self, value: &Value) -> Option<Duration> {
        let seconds = match value {
            Value::Integer(value) => *value as f64,
            Value::Float(value) => *value,
            _ => return None,
        };
        self.0.contains(&seconds).then(|| Duration::from_secs_f64(seconds))
    }
    fn allowed(&self) -> String {
        format!("seconds from {} to {}", self.0.start(), self.0.end())
    }
    fn show(&self, value: &Duration) -> String {
        format!("{:?}", value.as_secs_f64())
    }
}

impl Kind<bool> for Flag {
    fn read(&self, value: &Value) -> Option<bool> {
        match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
    fn allowed(&self) -> String {
        "true or false".into()
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

impl<T: Copy + PartialEq> Kind<T> for OneOf<T> {
    fn read(&self, value: &Value) -> Option<T> {
        let Value::Word(word) = value else { return None };
        self.0.iter().find(|(name, _)| name == word).map(|(_, choice)| *choice)
    }
    fn allowed(&self) -> String {
        self.0.iter().map(|(name, _)| format!(":{name}")).collect::<Vec<_>>().join(" or ")
    }
    fn show(&self, value: &T) -> String {
        self.0.iter().find(|(_, choice)| choice == value).map_or_else(String::new, |(name, _)| format!(":{name}"))
    }
}

impl<T, K: Kind<T>> Kind<Option<T>> for OrNil<K> {
    fn read(&self, value: &Value) -> Option<Option<T>> {
        match value {
            Value::Nil => Some(None),
            value => self.0.read(value).map(Some),
        }
    }
    fn allowed(&self) -> String {
        format!("{}, or nil", self.0.allowed())
    }
    fn show(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(|| "nil".into(), |value| self.0.show(value))
    }
}
