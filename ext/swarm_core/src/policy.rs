//! Every setting of a swarm, once: its unit, default, range and reason.
//!
//! A [`Policy`] that exists is valid. [`Policy::from_settings`] is the only way to one that is not the default, and it
//! reports every problem at once: a person who has to mend three settings should not have to start three times.

use std::fmt;
use std::time::Duration;

use self::kinds::{Bytes, Count, Flag, Kind, OneOf, OrNil, Seconds, Whole};

mod kinds;

/// A value as the outside gives it, before anybody knows whether it may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value at all, Ruby's nil.
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// A word: Ruby's symbol or string.
    Word(String),
    /// Something that no setting takes, as its owner would print it.
    Other(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Word(value) => write!(f, ":{value}"),
            Value::Other(value) => f.write_str(value),
        }
    }
}

/// A setting that cannot be: what was given, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The value does not fit.
    #[error("{name}: {given} given, allowed: {allowed}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value as its owner would print it.
        given: String,
        /// What would fit.
        allowed: String,
    },
    /// There is no such setting.
    #[error("{name}: no such setting, allowed: {allowed}")]
    Name {
        /// The name that was given.
        name: String,
        /// All names that there are.
        allowed: String,
    },
    /// Two settings do not go together.
    #[error("{0}")]
    Pair(String),
}

/// One setting, for documentation and for error messages.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name in Ruby.
    pub name: &'static str,
    /// Its default as one would write it.
    pub default: String,
    /// Unit and range.
    pub allowed: String,
    /// Why it is there.
    pub reason: &'static str,
}

/// Who says something: the gem by itself, or the user's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The gem: a thread reports, and a node that reports counts as ready after `ready_after`.
    Auto,
    /// The user's block alone.
    Manual,
}

/// What a node's own end with status 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNormalExit {
    /// It is replaced like any other.
    Restart,
    /// Its work is done, the slot stays empty.
    Leave,
}

/// What counts as the memory of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMetric {
    /// The proportional set size: a page that n processes share counts as an nth.
    Pss,
    /// The resident set size: every page counts in full.
    Rss,
}

/// What a crash loop leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrashLoop {
    /// The slot goes on, slowly.
    Slow,
    /// The swarm ends with an error.
    Stop,
}

const DAY: f64 = 86_400.0;

macro_rules! settings {
    ($($name:ident: $type:ty = $default:expr, $kind:expr, $reason:literal;)+) => {
        /// How a swarm behaves. One that exists is valid.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Policy {
            $(#[doc = $reason] pub(crate) $name: $type,)+
        }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Policy {
            $(#[doc = $reason] pub fn $name(&self) -> $type { self.$name })+

            fn set(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
                match name {
                    $(stringify!($name) => match $kind.read(value) {
                        Some(read) => self.$name = read,
                        None => return Err(Problem::Value {
                            name: stringify!($name),
                            given: value.to_string(),
                            allowed: $kind.allowed(),
                        }),
                    },)+
                    _ => return Err(Problem::Name { name: name.into(), allowed: [$(stringify!($name)),+].join(", ") }),
                }
                Ok(())
            }

            /// All settings, in the order in which they are documented.
            pub fn settings() -> Vec<Setting> {
                let default = Self::default();
                vec![$(Setting {
                    name: stringify!($name),
                    default: $kind.show(&default.$name),
                    allowed: $kind.allowed(),
                    reason: $reason,
                }),+]
            }
        }
    };
}

settings! {
    nodes: u32 = 3, Count(1..=10_000),
        "How many nodes the swarm keeps.";
    boot_timeout: Duration = secs(60.0), Seconds(0.01..=DAY),
        "A node that is not ready by then is stopped and replaced.";
    report_timeout: Option<Duration> = Some(secs(60.0)), OrNil(Seconds(0.01..=DAY)),
        "A ready node that has not reported for so long hangs: it is stopped and replaced. nil: never.";
    report_interval: Duration = secs(10.0), Seconds(0.01..=DAY),
        "How often a node says that it is healthy.";
    report: Told = Told::Auto, OneOf(&[("auto", Told::Auto), ("manual", Told::Manual)]),
        "Who reports: a thread of the gem's in the node, or the user's block by node.healthy.";
    ready: Told = Told::Auto, OneOf(&[("auto", Told::Auto), ("manual", Told::Manual)]),
        "Whether a node that reports healthy counts as ready after ready_after, or only node.ready says so.";
    ready_after: Duration = secs(1.0), Seconds(0.0..=DAY),
        "A node that has not called node.ready is ready once it has reported healthy and lived for so long.";
    shutdown_timeout: Duration = secs(60.0), Seconds(0.01..=DAY),
        "A node that was told to stop and has not ended by then is killed.";
    kill_grace: Duration = secs(5.0), Seconds(0.01..=DAY),
        "How long run still waits for killed nodes, which may be stuck in the kernel, before it returns.";
    settle: Duration = secs(0.25), Seconds(0.0..=60.0),
        "A node that ended as if told to is replaced only after so long: the same stop may be on its way to the supervisor.";
    stable_after: Duration = secs(10.0), Seconds(0.0..=DAY),
        "A node that had been ready for so long is replaced at once when it dies. 0: it had been ready at all.";
    backoff_min: Duration = secs(1.0), Seconds(0.001..=DAY),
        "The first delay of a replacement that has to wait; it doubles with each death in a row.";
    backoff_max: Duration = secs(30.0), Seconds(0.001..=DAY),
        "The longest delay of a replacement.";
    crash_loop_limit: u32 = 5, Count(1..=1_000_000),
        "So many delayed deaths of a slot in a row are a crash loop.";
    on_crash_loop: OnCrashLoop = OnCrashLoop::Slow, OneOf(&[("slow", OnCrashLoop::Slow), ("stop", OnCrashLoop::Stop)]),
        "Whether a crash loop goes on slowly or ends the swarm with an error.";
    memory_limit: Option<u64> = None, OrNil(Bytes(1 << 20..=1 << 50)),
        "A ready node that needs more memory is stopped in order and replaced. nil: no limit.";
    memory_metric: MemoryMetric = MemoryMetric::Pss, OneOf(&[("pss", MemoryMetric::Pss), ("rss", MemoryMetric::Rss)]),
        "What counts as a node's memory: its share of pages that it has in common with others (pss), or all of them (rss).";
    memory_interval: Duration = secs(30.0), Seconds(0.1..=DAY),
        "How often a ready node is measured, where there is a memory_limit.";
    max_lifetime: Option<Duration> = None, OrNil(Seconds(1.0..=365.0 * DAY)),
        "A ready node that is older is stopped in order and replaced, a tenth earlier or later by chance. nil: never.";
    max_unavailable: u32 = 1, Count(1..=10_000),
        "How many nodes may be down at once for reasons that can wait: memory, lifetime, rolling restart.";
    diagnose_timeout: Duration = secs(1.0), Seconds(0.0..=60.0),
        "How long before it is killed a node is asked for the backtraces of its threads. 0: it is not asked.";
    worker_niceness: Option<i32> = None, OrNil(Whole(-20..=19)),
        "The niceness of nodes: above 0 leaves more of the processor to others. nil: the supervisor's.";
    oom_score_adj: Option<i32> = None, OrNil(Whole(-1000..=1000)),
        "How readily the kernel ends a node when memory runs out: above 0 rather than its supervisor. nil: alike.";
    on_normal_exit: OnNormalExit = OnNormalExit::Restart,
        OneOf(&[("restart", OnNormalExit::Restart), ("leave", OnNormalExit::Leave)]),
        "Whether a node that ends by itself with status 0 is replaced or has done its work.";
    orphan: Duration = secs(0.0), Seconds(0.0..=DAY),
        "How long a node may still work when its supervisor has died. 0: it exits at once.";
    orphan_exit_code: i32 = 3, Whole(0..=255),
        "The exit code of a node whose supervisor has died.";
    at_exit: bool = true, Flag,
        "Whether at_exit blocks of the supervisor's process run in its nodes, as in any fork.";
    warmup: bool = true, Flag,
        "Whether the heap is compacted before the first fork, so that nodes share more of it.";
}

const fn secs(seconds: f64) -> Duration {
    // Exact to the microsecond, and `Duration::from_secs_f64` is not a const fn in Rust 1.85.
    Duration::from_micros((seconds * 1e6) as u64)
}

impl Policy {
    /// Builds a policy out of the defaults and `settings`, or tells everything that is wrong with them.
    pub fn from_settings<'a>(settings: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Self, Vec<Problem>> {
        let mut policy = Self::default();
        let mut problems: Vec<Problem> =
            settings.into_iter().filter_map(|(name, value)| policy.set(name, &value).err()).collect();
        if problems.is_empty() {
            problems = policy.pairs();
        }
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    fn pairs(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.backoff_min > self.backoff_max {
            problems.push(Problem::Pair(format!(
                "backoff_min: {:?} given, allowed: at most backoff_max, which is {:?}",
                self.backoff_min.as_secs_f64(),
                self.backoff_max.as_secs_f64()
            )));
        }
        if self.ready == Told::Auto && self.ready_after > self.boot_timeout {
            problems.push(Problem::Pair(format!(
                "ready_after: {:?} given, allowed: at most boot_timeout, which is {:?}",
                self.ready_after.as_secs_f64(),
                self.boot_timeout.as_secs_f64()
            )));
        }
        if let (Told::Auto, Some(timeout)) = (self.report, self.report_timeout) {
            if self.report_interval >= timeout {
                problems.push(Problem::Pair(format!(
                    "report_interval: {:?} given, allowed: less than report_timeout, which is {:?}",
                    self.report_interval.as_secs_f64(),
                    timeout.as_secs_f64()
                )));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_within_their_own_ranges() {
        assert_eq!(Policy::from_settings([]), Ok(Policy::default()));
        assert!(Policy::default().pairs().is_empty());
        assert_eq!(Policy::default().settle, Duration::from_millis(250));
    }

    #[test]
    fn every_problem_is_told_at_once_with_what_is_allowed() {
        let problems = Policy::from_settings([
            ("nodes", Value::Integer(0)),
            ("boot_timeout", Value::Float(-1.0)),
            ("report", Value::Word("sometimes".into())),
            ("nodez", Value::Integer(3)),
            ("kill_grace", Value::Nil),
            ("report_timeout", Value::Nil),
        ])
        .unwrap_err();
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(told.len(), 5, "{told:#?}");
        assert_eq!(told[0], "nodes: 0 given, allowed: an Integer from 1 to 10000");
        assert_eq!(told[1], "boot_timeout: -1.0 given, allowed: seconds from 0.01 to 86400");
        assert_eq!(told[2], "report: :sometimes given, allowed: :auto or :manual");
        assert!(told[3].starts_with("nodez: no such setting, allowed: nodes, boot_timeout,"));
        assert_eq!(told[4], "kill_grace: nil given, allowed: seconds from 0.01 to 86400");
    }

    #[test]
    fn not_a_number_and_infinity_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Policy::from_settings([("kill_grace", Value::Float(bad))]).is_err());
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let interval = [("report_interval", Value::Integer(60))];
        assert!(Policy::from_settings(interval.clone()).is_err());
        assert!(Policy::from_settings(interval.into_iter().chain([("report_timeout", Value::Nil)])).is_ok());
        assert!(Policy::from_settings([("backoff_min", Value::Integer(31))]).is_err());
        let never_ready = [("ready_after", Value::Integer(61))];
        assert!(Policy::from_settings(never_ready.clone()).is_err());
        assert!(
            Policy::from_settings(never_ready.into_iter().chain([("ready", Value::Word("manual".into()))])).is_ok()
        );
    }

    #[test]
    fn each_setting_has_a_default_that_reads_as_its_own_kind() {
        for setting in Policy::settings() {
            assert!(!setting.default.is_empty() && !setting.allowed.is_empty(), "{setting:?}");
            assert!(setting.reason.ends_with('.'), "{setting:?}");
        }
    }
}
