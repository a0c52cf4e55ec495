//! `Kafka::Consumer`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use magnus::{
    Class, Error, Module, Object as _, RArray, RClass, RHash, RModule, Ruby, TryConvert, Value, method,
    typed_data::Obj, value::ReprValue,
};
use swarm_core::os::wake::Wake;
use swarm_kafka::batch;
use swarm_kafka::consumer::{self, CommitId, Limits, Polled};
use swarm_kafka::error::{KafkaError, code};
use swarm_kafka::partitions::{Partition, Partitions};

use super::batch::Batch;
use super::convert;
use super::error;
use super::handle::{Handle, new_wake, wait_for_end};
use super::message::Message;
use crate::gvl::{check_interrupts, without_gvl};

/// How long a consumer that nobody has closed may take to leave its group, in the background.
pub const ABANDONED: Duration = Duration::from_secs(5);
/// A close waits this much longer than its deadline for the end of the handle's threads.
const GRACE: Duration = Duration::from_secs(5);

#[magnus::wrap(class = "SwarmNative::Kafka::Consumer", free_immediately, size)]
pub struct Consumer {
    handle: Handle<consumer::Consumer>,
    name: String,
}

impl Consumer {
    fn poll_batch(
        ruby: &Ruby,
        this: &Self,
        messages: usize,
        bytes: usize,
        timeout: Option<f64>,
    ) -> Result<Batch, Error> {
        let limits = Limits { messages, bytes };
        let deadline = convert::deadline(ruby, timeout)?;
        let polled = this.handle.enter(ruby)?.poll_now(limits);
        if let Some(batch) = this.take(ruby, polled)? {
            return Ok(batch);
        }
        let wake = new_wake(ruby)?;
        while !convert::is_over(deadline) {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            let polled = without_gvl(&wake, || visit.wait_and_poll(limits, &wake, deadline));
            drop(visit);
            if let Some(batch) = polled.map(|polled| this.take(ruby, polled)).transpose()?.flatten() {
                return Ok(batch);
            }
            check_interrupts(ruby)?;
        }
        // A trap handler, or another thread, may have closed it meanwhile.
        drop(this.handle.enter(ruby)?);
        Ok(Batch::new(ruby, batch::Batch::default()))
    }

    fn take(&self, ruby: &Ruby, polled: Polled) -> Result<Option<Batch>, Error> {
        match polled {
            Polled::Messages(batch) => Ok(Some(Batch::new(ruby, batch))),
            Polled::Nothing => Ok(None),
            Polled::Failed(failed) => Err(error::raise(ruby, &failed)),
            Polled::Rebalance(rebalance) => {
                let answered = self.handle.enter(ruby)?.acknowledge(&rebalance);
                answered.map(|()| None).map_err(|failed| error::raise(ruby, &failed))
            }
        }
    }

    fn subscribe(ruby: &Ruby, this: &Self, topics: Vec<String>) -> Result<(), Error> {
        this.handle.enter(ruby)?.subscribe(&topics).map_err(|failed| error::raise(ruby, &failed))
    }

    fn unsubscribe(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.enter(ruby)?.unsubscribe().map_err(|failed| error::raise(ruby, &failed))
    }

    fn subscription(ruby: &Ruby, this: &Self) -> Result<Vec<String>, Error> {
        this.handle.enter(ruby)?.subscription().map_err(|failed| error::raise(ruby, &failed))
    }

    fn assignment(ruby: &Ruby, this: &Self) -> Result<RHash, Error> {
        let partitions = this.handle.enter(ruby)?.assignment().map_err(|failed| error::raise(ruby, &failed))?;
        let hash = ruby.hash_new();
        for Partition { topic, partition, .. } in partitions {
            let topic = convert::interned(ruby, &topic);
            let list: RArray = match hash.get(topic) {
                Some(list) => TryConvert::try_convert(list)?,
                None => {
                    let list = ruby.ary_new();
                    hash.aset(topic, list)?;
                    list
                }
            };
            list.push(partition)?;
        }
        Ok(hash)
    }

    fn is_assignment_lost(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        Ok(this.handle.enter(ruby)?.assignment_lost())
    }

    fn position(ruby: &Ruby, this: &Self) -> Result<RHash, Error> {
        let partitions = this.handle.enter(ruby)?.position().map_err(|failed| error::raise(ruby, &failed))?;
        offsets(ruby, partitions)
    }

    fn committed(ruby: &Ruby, this: &Self, timeout: f64) -> Result<RHash, Error> {
        let wake = new_wake(ruby)?;
        let timeout = Duration::try_from_secs_f64(timeout)
            .map_err(|_| crate::error::argument(ruby, format!("a timeout is a number of seconds, not {timeout}")))?;
        loop {
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            if let Some(answer) = without_gvl(&wake, || visit.committed(timeout)) {
                return offsets(ruby, answer.map_err(|failed| error::raise(ruby, &failed))?);
            }
            drop(visit);
            check_interrupts(ruby)?;
        }
    }

    fn store(ruby: &Ruby, this: &Self, message: Obj<Message>) -> Result<(), Error> {
        let message = message.native();
        this.handle
            .enter(ruby)?
            .store_offset(message.topic(), message.partition(), message.offset() + 1, message.epoch())
            .map_err(|failed| error::raise(ruby, &failed))
    }

    fn store_at(ruby: &Ruby, this: &Self, topic: String, partition: i32, offset: i64) -> Result<(), Error> {
        let visit = this.handle.enter(ruby)?;
        visit.store_offset(&topic, partition, offset, -1).map_err(|failed| error::raise(ruby, &failed))
    }

    /// `offsets`: Messages, or `[topic, partition, next offset]`; nil is what is stored. The result is nil when there
    /// was nothing to commit, and true when a commit that nobody waits for was started.
    fn commit(
        ruby: &Ruby,
        this: &Self,
        offsets: Option<RArray>,
        waits: bool,
        timeout: Option<f64>,
    ) -> Result<Value, Error> {
        let list = offsets.map(|offsets| partitions_of(ruby, offsets)).transpose()?;
        if !waits {
            let answer = this.handle.enter(ruby)?.commit_later(list.as_ref());
            return match answer {
                Ok(()) => Ok(ruby.qtrue().as_value()),
                Err(failed) if failed.code == code::NO_OFFSET => Ok(ruby.qnil().as_value()),
                Err(failed) => Err(error::raise(ruby, &failed)),
            };
        }
        let deadline = convert::deadline(ruby, timeout)?;
        let wake = new_wake(ruby)?;
        let id = this.handle.enter(ruby)?.commit(list.as_ref()).map_err(|failed| error::raise(ruby, &failed))?;
        let answer = Self::commit_result(ruby, this, &id, &wake, deadline);
        if let Ok(visit) = this.handle.enter(ruby) {
            visit.forget_commit(id);
        }
        match answer? {
            Some(Ok(committed)) => offsets_or_nil(ruby, committed),
            Some(Err(failed)) if failed.code == code::NO_OFFSET => Ok(ruby.qnil().as_value()),
            Some(Err(failed)) => Err(error::raise(ruby, &failed)),
            None => {
                let message = format!("no answer to a commit within {} s", timeout.unwrap_or(0.0));
                Err(error::raise(ruby, &KafkaError::with(code::TIMED_OUT, message)))
            }
        }
    }

    fn commit_result(
        ruby: &Ruby,
        this: &Self,
        id: &CommitId,
        wake: &Arc<Wake>,
        deadline: Option<Instant>,
    ) -> Result<Option<Result<Vec<Partition>, KafkaError>>, Error> {
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, wake)?;
            let answer = without_gvl(wake, || visit.commit_result(id, wake, deadline));
            // A trap handler that closes the consumer waits for every visit to end, this one too.
            drop(visit);
            if let Some(Some(answer)) = answer {
                return Ok(Some(answer));
            }
            if convert::is_over(deadline) {
                return Ok(None);
            }
            check_interrupts(ruby)?;
        }
    }

    /// True when the group was left in time; nil when it was closed before.
    fn close(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Option<bool>, Error> {
        let deadline = convert::deadline(ruby, Some(timeout))?.unwrap_or_else(|| Instant::now() + ABANDONED);
        let Some(ending) = this.handle.close(ruby, move |consumer| consumer.finish(deadline))? else {
            return Ok(None);
        };
        Ok(Some(wait_for_end(ruby, &ending, Some(deadline + GRACE))?.unwrap_or(false)))
    }

    fn is_closed(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        this.handle.is_closed(ruby)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.abandon(|consumer| {
            consumer.finish(Instant::now() + ABANDONED);
        });
    }
}

fn partitions_of(ruby: &Ruby, offsets: RArray) -> Result<Partitions, Error> {
    let mut list = Partitions::default();
    for entry in offsets {
        let added = if let Ok(message) = Obj::<Message>::try_convert(entry) {
            let message = message.native();
            list.add(message.topic(), message.partition(), Some(message.offset() + 1), message.epoch())
        } else {
            let (topic, partition, offset): (String, i32, i64) = TryConvert::try_convert(entry)?;
            list.add(&topic, partition, Some(offset), -1)
        };
        added.map_err(|failed| error::raise(ruby, &failed))?;
    }
    Ok(list)
}

/// topic => { partition => offset }, without those that have none.
fn offsets(ruby: &Ruby, partitions: Vec<Partition>) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    for Partition { topic, partition, offset, .. } in partitions {
        let Some(offset) = offset else { continue };
        let topic = convert::interned(ruby, &topic);
        let inner: RHash = match hash.get(topic) {
            Some(inner) => TryConvert::try_convert(inner)?,
            None => {
                let inner = ruby.hash_new();
                hash.aset(topic, inner)?;
                inner
            }
        };
        inner.aset(partition, offset)?;
    }
    Ok(hash)
}

fn offsets_or_nil(ruby: &Ruby, partitions: Vec<Partition>) -> Result<Value, Error> {
    let hash = offsets(ruby, partitions)?;
    Ok(if hash.is_empty() { ruby.qnil().as_value() } else { hash.as_value() })
}

fn open(ruby: &Ruby, class: RClass, properties: RHash, made_at: String) -> Result<Value, Error> {
    let config = super::config::config(ruby, properties)?;
    let handle = Handle::open(ruby, "SwarmNative::Kafka::Consumer", made_at, move |lease| {
        consumer::Consumer::new(config, lease)
    })?;
    super::exit::remember_consumer(handle.door());
    let name = handle.enter(ruby)?.name();
    Ok(ruby.obj_wrap_as(Consumer { handle, name }, class).as_value())
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Consumer", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("native_open", method!(open, 2))?;
    class.define_private_method("native_poll_batch", method!(Consumer::poll_batch, 3))?;
    class.define_private_method("native_subscribe", method!(Consumer::subscribe, 1))?;
    class.define_private_method("native_unsubscribe", method!(Consumer::unsubscribe, 0))?;
    class.define_private_method("native_store", method!(Consumer::store, 1))?;
    class.define_private_method("native_store_at", method!(Consumer::store_at, 3))?;
    class.define_private_method("native_commit", method!(Consumer::commit, 3))?;
    class.define_private_method("native_committed", method!(Consumer::committed, 1))?;
    class.define_private_method("native_close", method!(Consumer::close, 1))?;
    class.define_method("subscription", method!(Consumer::subscription, 0))?;
    class.define_method("assignment", method!(Consumer::assignment, 0))?;
    class.define_method("assignment_lost?", method!(Consumer::is_assignment_lost, 0))?;
    class.define_method("position", method!(Consumer::position, 0))?;
    class.define_method("closed?", method!(Consumer::is_closed, 0))?;
    class.define_method("name", method!(Consumer::name, 0))
}
