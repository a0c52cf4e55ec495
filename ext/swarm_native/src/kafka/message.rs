//! `Kafka::Message`: one message of a batch. Each field is made a Ruby value when it is asked for.

use std::sync::Arc;

use magnus::{Class, Error, Module, Object as _, RArray, RModule, RString, Ruby, method, value::ReprValue};
use swarm_kafka::batch;

use super::batch::Buffer;
use super::convert;

/// It keeps the batch's buffer alive, and no Ruby object.
#[magnus::wrap(class = "SwarmNative::Kafka::Message", free_immediately, size, frozen_shareable)]
pub struct Message {
    batch: Arc<Buffer>,
    index: usize,
}

impl Message {
    /// The message at `index`, which the batch has.
    pub fn new(batch: &Arc<Buffer>, index: usize) -> Self {
        Self { batch: Arc::clone(batch), index }
    }

    /// The native view.
    pub fn native(&self) -> batch::Message<'_> {
        self.batch.get(self.index).expect("made for an index that the batch has")
    }

    fn topic(ruby: &Ruby, this: &Self) -> RString {
        convert::interned(ruby, this.native().topic())
    }

    fn partition(&self) -> i32 {
        self.native().partition()
    }

    fn offset(&self) -> i64 {
        self.native().offset()
    }

    fn leader_epoch(&self) -> Option<i32> {
        Some(self.native().epoch()).filter(|epoch| *epoch >= 0)
    }

    fn timestamp(&self) -> Option<i64> {
        self.native().timestamp()
    }

    fn key(ruby: &Ruby, this: &Self) -> Option<RString> {
        this.native().key().map(|key| convert::binary(ruby, key))
    }

    fn payload(ruby: &Ruby, this: &Self) -> Option<RString> {
        this.native().payload().map(|payload| convert::binary(ruby, payload))
    }

    fn payload_size(&self) -> usize {
        self.native().payload().map_or(0, <[u8]>::len)
    }

    /// Pairs of name and value, in the order in which they were sent.
    fn headers(ruby: &Ruby, this: &Self) -> Result<RArray, Error> {
        let pairs = ruby.ary_new();
        for (name, value) in this.native().headers() {
            let pair = ruby.ary_new_capa(2);
            pair.push(convert::name(ruby, name))?;
            pair.push(value.map(|value| convert::binary(ruby, value)))?;
            pair.freeze();
            pairs.push(pair)?;
        }
        pairs.freeze();
        Ok(pairs)
    }
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Message", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Message>(ruby);
    class.singleton_class()?.funcall::<_, _, magnus::Value>("undef_method", (ruby.to_symbol("new"),))?;
    class.define_method("topic", method!(Message::topic, 0))?;
    class.define_method("partition", method!(Message::partition, 0))?;
    class.define_method("offset", method!(Message::offset, 0))?;
    class.define_method("leader_epoch", method!(Message::leader_epoch, 0))?;
    class.define_method("timestamp_ms", method!(Message::timestamp, 0))?;
    class.define_method("key", method!(Message::key, 0))?;
    class.define_method("payload", method!(Message::payload, 0))?;
    class.define_method("payload_size", method!(Message::payload_size, 0))?;
    class.define_private_method("native_headers", method!(Message::headers, 0))
}
