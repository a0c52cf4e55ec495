//! The rules of a swarm, and the kernel calls that carry them out.
//!
//! The crate knows neither Ruby nor Kafka. Its pure modules take the time and what happened as arguments and return
//! what is to be done; only [`os`] talks to the kernel. So the rules can be tested with virtual time, and a reader can
//! check them without knowing epoll.

#![deny(missing_docs)]

pub mod backoff;
pub mod exit_status;
pub mod fleet;
pub mod fork_gate;
pub mod node;
pub mod notice;
pub mod os;
pub mod policy;
pub mod report;
pub mod signal_name;
pub mod turnstile;
