//! `Kafka::Batch`: the messages of one poll.

use std::sync::Arc;

use magnus::{
    Class, DataTypeFunctions, Error, Module, Object as _, RArray, RModule, Ruby, TypedData, method, value::ReprValue,
};
use swarm_kafka::batch;

use super::convert;
use super::message::Message;

/// It holds the buffer and no Ruby object. Ruby knows its size, so that garbage is collected in time.
#[derive(TypedData)]
#[magnus(class = "SwarmNative::Kafka::Batch", size)]
pub struct Batch {
    batch: Arc<batch::Batch>,
    told: isize,
}

impl DataTypeFunctions for Batch {
    fn free(self: Box<Self>) {
        if self.told != 0 {
            // SAFETY: Ruby frees objects with the GVL held; the class does not ask to be freed in the middle of a
            // sweep, so its functions may be called.
            unsafe { rb_sys::rb_gc_adjust_memory_usage(-self.told as _) };
        }
    }

    fn size(&self) -> usize {
        self.batch.memory_size()
    }
}

impl Batch {
    /// Tells Ruby of the memory.
    pub fn new(ruby: &Ruby, batch: batch::Batch) -> Self {
        let told = if batch.is_empty() { 0 } else { isize::try_from(batch.memory_size()).unwrap_or(0) };
        if told != 0 {
            ruby.gc_adjust_memory_usage(told);
        }
        Self { batch: Arc::new(batch), told }
    }

    fn size_of(&self) -> usize {
        self.batch.len()
    }

    fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    fn content_size(&self) -> usize {
        self.batch.content_size()
    }

    fn at(&self, index: isize) -> Option<Message> {
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => self.batch.len().checked_sub(index.unsigned_abs())?,
        };
        (index < self.batch.len()).then(|| Message::new(&self.batch, index))
    }

    fn payloads(ruby: &Ruby, this: &Self) -> Result<RArray, Error> {
        let payloads = ruby.ary_new_capa(this.batch.len());
        for index in 0..this.batch.len() {
            let payload = this.batch.get(index).and_then(|message| message.payload());
            payloads.push(payload.map(|payload| convert::binary(ruby, payload)))?;
        }
        Ok(payloads)
    }
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Batch", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.singleton_class()?.funcall::<_, _, magnus::Value>("undef_method", (ruby.to_symbol("new"),))?;
    class.define_method("size", method!(Batch::size_of, 0))?;
    class.define_method("empty?", method!(Batch::is_empty, 0))?;
    class.define_method("bytesize", method!(Batch::content_size, 0))?;
    class.define_private_method("native_at", method!(Batch::at, 1))?;
    class.define_method("payloads", method!(Batch::payloads, 0))
}
