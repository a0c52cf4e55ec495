//! `SwarmNative::Kafka`: the bindings of `swarm_kafka`, one file a Ruby class.
//!
//! The classes get private `native_*` methods with positional arguments here; their public methods, with keywords and
//! documentation, are Ruby source below `lib/swarm_native/kafka/`.

mod admin;
mod answer;
mod batch;
mod config;
mod consumer;
mod convert;
mod deliveries;
mod delivery;
mod error;
mod exit;
mod handle;
mod message;
mod mock_cluster;
mod producer;
mod token;
mod told;
mod transactions;

use magnus::{Error, Module, Ruby};

/// Defines the module and its classes.
pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let kafka = crate::error::swarm_native(ruby)?.define_module("Kafka")?;
    admin::init(ruby, kafka)?;
    batch::init(ruby, kafka)?;
    consumer::init(ruby, kafka)?;
    delivery::init(ruby, kafka)?;
    exit::init(kafka)?;
    message::init(ruby, kafka)?;
    mock_cluster::init(ruby, kafka)?;
    producer::init(ruby, kafka)?;
    deliveries::init(ruby, kafka)
}
