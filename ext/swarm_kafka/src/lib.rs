//! Kafka handles.
