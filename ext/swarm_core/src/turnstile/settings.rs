//! What a user can set of the turnstile.

use std::fmt;

use super::Nanos;

/// Valid settings: one that exists can be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub(super) budget: f64,
    pub(super) light: Nanos,
    pub(super) nudge_interval: Nanos,
    pub(super) keep: f64,
}

/// A setting that cannot be used, as a person is told of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    name: &'static str,
    value: String,
    allowed: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}, got {}", self.name, self.allowed, self.value)
    }
}

const BUDGET: &str = "a share of the time, above 0 and at most 1";
const LIGHT: &str = "seconds from 0.0001 to 0.1";
const NUDGE_INTERVAL: &str = "seconds from 0.00001 to 0.01";
const KEEP: &str = "a share of the time from 0 to 0.99";

/// What heavy threads keep unless it is set.
const TENTH: f64 = 0.1;

impl Settings {
    /// `budget` is a share of the time, the others are seconds.
    pub fn new(budget: f64, light: f64, nudge_interval: f64) -> Result<Self, Invalid> {
        if !(budget > 0.0 && budget <= 1.0) {
            return Err(Invalid { name: "budget", value: budget.to_string(), allowed: BUDGET });
        }
        let light = nanos("light", light, 0.000_1, 0.1, LIGHT)?;
        let nudge_interval = nanos("nudge_interval", nudge_interval, 0.000_01, 0.01, NUDGE_INTERVAL)?;
        Ok(Self { budget, light, nudge_interval, keep: TENTH })
    }

    /// The same with another share of the time that heavy threads keep.
    pub fn with_keep(self, keep: f64) -> Result<Self, Invalid> {
        if !(0.0..=0.99).contains(&keep) {
            return Err(Invalid { name: "keep", value: keep.to_string(), allowed: KEEP });
        }
        Ok(Self { keep, ..self })
    }

    /// The share of the time that handing over may cost.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// How much GVL time a thread may use between two waits and still be let through, in seconds.
    pub fn light(&self) -> f64 {
        self.light as f64 / 1e9
    }

    /// How long to wait before a thread is asked again, in seconds.
    pub fn nudge_interval(&self) -> f64 {
        self.nudge_interval as f64 / 1e9
    }
}

fn nanos(name: &'static str, value: f64, least: f64, most: f64, allowed: &'static str) -> Result<Nanos, Invalid> {
    if value >= least && value <= most {
        Ok((value * 1e9).round() as Nanos)
    } else {
        Err(Invalid { name, value: value.to_string(), allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn the_first_bad_value_is_named_with_what_is_allowed() {
        let cases = [
            ((0.0, 0.002, 0.000_05), "budget must be a share of the time, above 0 and at most 1, got 0"),
            ((f64::NAN, 0.002, 0.000_05), "budget must be a share of the time, above 0 and at most 1, got NaN"),
            ((1.5, 0.002, 0.000_05), "budget must be a share of the time, above 0 and at most 1, got 1.5"),
            ((0.1, 1.0, 0.000_05), "light must be seconds from 0.0001 to 0.1, got 1"),
            ((0.1, f64::NAN, 0.000_05), "light must be seconds from 0.0001 to 0.1, got NaN"),
            ((0.1, 0.002, 0.0), "nudge_interval must be seconds from 0.00001 to 0.01, got 0"),
        ];
        for ((budget, light, nudge_interval), message) in cases {
            assert_eq!(Settings::new(budget, light, nudge_interval).unwrap_err().to_string(), message);
        }
        let settings = Settings::new(1.0, 0.1, 0.01).unwrap();
        assert_eq!((settings.budget(), settings.light(), settings.nudge_interval()), (1.0, 0.1, 0.01));
        for keep in [-0.1, 1.0, f64::NAN] {
            let message = format!("keep must be a share of the time from 0 to 0.99, got {keep}");
            assert_eq!(settings.with_keep(keep).unwrap_err().to_string(), message);
        }
        assert_eq!(settings.with_keep(0.9).unwrap().keep, 0.9);
    }
}
