//! A swarm in a world that is made up: a model of the kernel and of user code drives the very [`Fleet`] that production
//! runs, in virtual time, and an oracle checks each step against the rules.
//!
//! [`schedule`] says what goes wrong when, [`kernel`] plays the processes, [`run`] is the supervisor's loop, and
//! [`oracle`] knows the rules. The oracle sees what goes into the fleet and what comes out of it, and works out for
//! itself what had to come: it shares no code with what it checks.
//!
//! [`Fleet`]: swarm_core::fleet::Fleet

pub mod kernel;
pub mod oracle;
pub mod run;
pub mod schedule;

/// A rule that was broken, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Returns with a broken rule unless the condition holds.
macro_rules! rule {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::model::Broken(format!($($words)+)));
        }
    };
}
pub(crate) use rule;
