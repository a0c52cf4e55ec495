//! Kafka handles: librdkafka's clients, owned by Rust, each known to the fork gate from before it exists until it is
//! really gone.
//!
//! The crate stands on `rdkafka-sys`, librdkafka's bare C interface, and not on a safe client of somebody else. Three
//! things decide that. Everything that librdkafka has to say (messages, delivery reports, rebalances, errors,
//! statistics) is taken from its event queues, so that no callback of ours ever runs on a thread that Ruby does not
//! know, and a revocation can be acknowledged when the user's block has ended. A queue tells a descriptor when it is
//! no longer empty, so that a wait is one `poll(2)`, which an interrupt ends at once. And names or values that are not
//! UTF-8, and error codes that this version does not know, are data here, never a panic.

#![deny(missing_docs)]

pub mod admin;
pub mod batch;
pub mod client;
pub mod config;
pub mod consumer;
pub mod delivery;
pub mod door;
pub mod ending;
pub mod error;
pub mod lines;
pub mod mailbox;
pub mod mock;
pub mod offsets;
pub mod origin;
mod pace;
pub mod partitions;
pub mod producer;
pub mod queue;
mod repeats;
mod sys;
mod transactions;
