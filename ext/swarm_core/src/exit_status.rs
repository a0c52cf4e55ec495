//! How a process ended.

use std::fmt;

use nix::sys::signal::Signal;

/// How a process ended, as the kernel tells it, or that the kernel did not tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExitStatus {
    /// It left by itself, with this exit code (0 to 255).
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// The kernel wrote a core file.
        core_dumped: bool,
    },
    /// It has ended, and nobody can say how: other code reaped it, or it is not our child, and the kernel keeps no
    /// record.
    Unknown,
}

const CORE_DUMPED: i32 = 0x80;

impl ExitStatus {
    /// Reads a raw status of `wait(2)`. One that means a stopped or continued process is no end, hence `Unknown`.
    pub const fn from_raw(raw: i32) -> Self {
        match raw & 0x7f {
            0 => Self::Exited((raw >> 8) & 0xff),
            0x7f => Self::Unknown,
            signal => Self::Signaled { signal, core_dumped: raw & CORE_DUMPED != 0 },
        }
    }

    /// The raw status of `wait(2)`; `None` for `Unknown`, which has none.
    pub const fn to_raw(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some((code & 0xff) << 8),
            Self::Signaled { signal, core_dumped } => Some(signal | if core_dumped { CORE_DUMPED } else { 0 }),
            Self::Unknown => None,
        }
    }

    /// It left by itself with 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// The words that Ruby's own Process::Status uses: "exit 1", "SIGKILL (signal 9)".
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signaled { signal, core_dumped } => {
                match Signal::try_from(signal) {
                    Ok(name) => write!(f, "{name} (signal {signal})")?,
                    Err(_) => write!(f, "signal {signal}")?,
                }
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitStatus::{self, Exited, Signaled, Unknown};

    #[test]
    fn every_end_survives_the_way_to_a_raw_status_and_back() {
        let signals = (1..=64).flat_map(|signal| [(signal, false), (signal, true)]);
        let ends = (0..=255).map(Exited).chain(signals.map(|(signal, core_dumped)| Signaled { signal, core_dumped }));
        for end in ends {
            assert_eq!(ExitStatus::from_raw(end.to_raw().unwrap()), end);
        }
    }

    #[test]
    fn raw_statuses_are_those_of_wait() {
        assert_eq!(ExitStatus::from_raw(0x700), Exited(7));
        assert_eq!(ExitStatus::from_raw(9), Signaled { signal: 9, core_dumped: false });
        assert_eq!(ExitStatus::from_raw(0x8b), Signaled { signal: 11, core_dumped: true });
    }

    #[test]
    fn stopped_and_continued_are_no_ends() {
        assert_eq!(ExitStatus::from_raw(0x137f), Unknown);
        assert_eq!(ExitStatus::from_raw(0xffff), Unknown);
        assert_eq!(Unknown.to_raw(), None);
    }

    #[test]
    fn only_exit_0_is_success() {
        assert!(Exited(0).success());
        for end in [Exited(1), Signaled { signal: 15, core_dumped: false }, Unknown] {
            assert!(!end.success());
        }
    }

    #[test]
    fn it_reads_as_words() {
        assert_eq!(Exited(3).to_string(), "exit 3");
        assert_eq!(Signaled { signal: 9, core_dumped: false }.to_string(), "SIGKILL (signal 9)");
        assert_eq!(Signaled { signal: 11, core_dumped: true }.to_string(), "SIGSEGV (signal 11) (core dumped)");
        assert_eq!(Signaled { signal: 40, core_dumped: false }.to_string(), "signal 40");
        assert_eq!(Unknown.to_string(), "unknown");
    }
}
