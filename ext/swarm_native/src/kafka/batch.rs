//! `Kafka::Batch`: the messages of one poll.

use std::ops::{Deref, Range};
use std::sync::Arc;

use magnus::{
    Class, DataTypeFunctions, Error, Module, Object as _, RArray, RModule, Ruby, TypedData, method, value::ReprValue,
};
use swarm_kafka::batch;

use super::convert;
use super::message::Message;

/// A buffer that Ruby's objects share. Ruby knows its size as long as one of them has it, so that garbage is collected in
/// time.
pub struct Buffer {
    batch: batch::Batch,
    told: isize,
}

impl Buffer {
    /// Tells Ruby of the memory.
    pub fn new(ruby: &Ruby, batch: batch::Batch) -> Arc<Self> {
        let told = if batch.is_empty() { 0 } else { isize::try_from(batch.memory_size()).unwrap_or(0) };
        if told != 0 {
            ruby.gc_adjust_memory_usage(told);
        }
        Arc::new(Self { batch, told })
    }
}

impl Deref for Buffer {
    type Target = batch::Batch;

    fn deref(&self) -> &batch::Batch {
        &self.batch
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.told != 0 {
            // SAFETY: only Ruby's objects have it, and Ruby frees them with the GVL held. In the middle of a sweep this
            // is what xfree does there: it takes a number off a counter, makes no object and begins no collection.
            unsafe { rb_sys::rb_gc_adjust_memory_usage(-self.told as _) };
        }
    }
}

/// It holds the buffer and no Ruby object.
#[derive(TypedData)]
#[magnus(class = "SwarmNative::Kafka::Batch", free_immediately, size)]
pub struct Batch {
    batch: Arc<Buffer>,
    /// The messages of the buffer that belong to it.
    part: Range<usize>,
}

impl DataTypeFunctions for Batch {
    fn size(&self) -> usize {
        self.batch.memory_size()
    }
}

impl Batch {
    /// Of all messages.
    pub fn new(ruby: &Ruby, batch: batch::Batch) -> Self {
        Self { part: 0..batch.len(), batch: Buffer::new(ruby, batch) }
    }

    fn size_of(&self) -> usize {
        self.part.len()
    }

    fn is_empty(&self) -> bool {
        self.part.is_empty()
    }

    fn content_size(&self) -> usize {
        self.batch.content_between(self.part.start, self.part.end)
    }

    fn at(&self, index: isize) -> Option<Message> {
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => self.part.len().checked_sub(index.unsigned_abs())?,
        };
        (index < self.part.len()).then(|| Message::new(&self.batch, self.part.start + index))
    }

    /// One batch for each partition.
    fn split(ruby: &Ruby, this: &Self) -> Result<RArray, Error> {
        let parts = ruby.ary_new();
        for part in this.batch.split() {
            parts.push(ruby.obj_wrap(Self::new(ruby, part)))?;
        }
        Ok(parts)
    }

    /// The messages from `start` on, `size` of them or what there is. They share the buffer.
    fn slice(&self, start: usize, size: usize) -> Self {
        let start = self.part.start.saturating_add(start).min(self.part.end);
        let end = start.saturating_add(size).min(self.part.end);
        Self { batch: Arc::clone(&self.batch), part: start..end }
    }

    fn payloads(ruby: &Ruby, this: &Self) -> Result<RArray, Error> {
        let payloads = ruby.ary_new_capa(this.part.len());
        for index in this.part.clone() {
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
    crate::wrapped::look_up::<Batch>(ruby);
    class.singleton_class()?.funcall::<_, _, magnus::Value>("undef_method", (ruby.to_symbol("new"),))?;
    class.define_method("size", method!(Batch::size_of, 0))?;
    class.define_method("empty?", method!(Batch::is_empty, 0))?;
    class.define_method("bytesize", method!(Batch::content_size, 0))?;
    class.define_private_method("native_at", method!(Batch::at, 1))?;
    class.define_private_method("native_split", method!(Batch::split, 0))?;
    class.define_private_method("native_slice", method!(Batch::slice, 2))?;
    class.define_method("payloads", method!(Batch::payloads, 0))
}
