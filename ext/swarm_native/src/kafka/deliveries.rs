//! `Kafka::Producer#produce_many`, and `Kafka::Deliveries`: what became of many messages that were sent in one call.

use std::sync::Arc;

use magnus::{
    Class, Error, Integer, Module, Object as _, RArray, RHash, RModule, RString, Ruby, Symbol, TryConvert, Value,
    method, r_hash::ForEach, rb_sys::AsRawValue, typed_data::Obj, value::ReprValue,
};
use swarm_kafka::delivery::{Report, Slot, Waiters};
use swarm_kafka::door::Shut;
use swarm_kafka::error::{KafkaError, code};
use swarm_kafka::origin::Origin;
use swarm_kafka::producer::{self, Outgoing, Topic};

use super::convert;
use super::delivery::{Delivery, check_here};
use super::handle::new_wake;
use super::producer::{Headers, Producer, headers_of, topic_of};
use crate::gvl::{check_interrupts, without_gvl};

/// It holds no native handle, only the places where the answers will stand.
#[magnus::wrap(class = "SwarmNative::Kafka::Deliveries", free_immediately, size)]
pub struct Deliveries {
    slots: Vec<(Arc<Slot>, Arc<str>)>,
    waiters: Arc<Waiters>,
    origin: Origin,
}

/// A message as its Hash gives it. The Hash, which the caller holds, keeps the Strings alive.
struct Item {
    topic: Topic,
    payload: Option<RString>,
    key: Option<RString>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    headers: Headers,
}

/// A message whose bytes nobody can change.
struct Copied {
    name: Arc<str>,
    payload: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    headers: Headers,
    slot: Arc<Slot>,
}

/// Takes what the Hashes say. Nothing is queued unless all of them can be.
fn items_of(ruby: &Ruby, producer: &producer::Producer, messages: RArray) -> Result<Vec<Item>, Error> {
    let mut items = Vec::with_capacity(messages.len());
    let mut last: Option<(rb_sys::VALUE, Topic)> = None;
    for message in messages {
        let hash = RHash::from_value(message).ok_or_else(|| {
            Error::new(ruby.exception_type_error(), format!("a message is a Hash, not {}", message.inspect()))
        })?;
        let mut topic = None;
        let (mut payload, mut key, mut partition, mut timestamp) = (None, None, None, None);
        let mut headers = Headers::new();
        hash.foreach(|name: Symbol, value: Value| {
            match &*name.name()? {
                "topic" => topic = Some(RString::try_convert(value)?),
                "payload" => payload = Option::<RString>::try_convert(value)?,
                "key" => key = Option::<RString>::try_convert(value)?,
                "partition" => partition = Option::<i32>::try_convert(value)?,
                "timestamp" => timestamp = timestamp_of(value)?,
                "headers" if value.is_nil() => {}
                "headers" => headers = headers_of(ruby, value)?,
                other => {
                    let allowed = "topic, payload, key, partition, timestamp and headers";
                    return Err(crate::error::argument(ruby, format!("a message has no {other}, only {allowed}")));
                }
            }
            Ok(ForEach::Continue)
        })?;
        let name = topic.ok_or_else(|| crate::error::argument(ruby, "a message has a topic"))?;
        let topic = match &last {
            Some((raw, topic)) if *raw == name.as_raw() => topic.clone(),
            _ => topic_of(ruby, producer, name)?,
        };
        last = Some((name.as_raw(), topic.clone()));
        items.push(Item { topic, payload, key, partition, timestamp, headers });
    }
    Ok(items)
}

fn timestamp_of(value: Value) -> Result<Option<i64>, Error> {
    if value.is_nil() || Integer::from_value(value).is_some() {
        return Option::<i64>::try_convert(value);
    }
    let seconds: Value = value.funcall("to_r", ())?;
    seconds.funcall::<_, _, Value>("*", (1000,))?.funcall("floor", ()).map(Some)
}

fn borrowed(headers: &Headers) -> Vec<(&[u8], Option<&[u8]>)> {
    headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect()
}

fn refuse(slot: &Slot, failed: &KafkaError) {
    slot.fill(Report { code: failed.code, partition: -1, offset: -1 });
}

/// Queues what the Hashes say. A message that is refused has its answer at once.
fn produce_many(ruby: &Ruby, this: Obj<Producer>, messages: RArray) -> Result<Deliveries, Error> {
    let visit = this.handle.enter(ruby)?;
    let items = items_of(ruby, &visit, messages)?;
    let slots: Vec<_> = items.iter().map(|item| (Arc::new(Slot::default()), Arc::clone(item.topic.name()))).collect();
    let deliveries = Deliveries { slots, waiters: Arc::clone(visit.waiters()), origin: Origin::here() };
    let mut queued = 0;
    for (item, (slot, _)) in items.iter().zip(&deliveries.slots) {
        let headers = borrowed(&item.headers);
        // SAFETY: librdkafka copies both before `produce` returns, and no Ruby code runs until then.
        let (payload, key) = unsafe {
            (item.payload.as_ref().map(|payload| payload.as_slice()), item.key.as_ref().map(|key| key.as_slice()))
        };
        let message =
            Outgoing { payload, key, partition: item.partition, timestamp: item.timestamp, headers: &headers };
        match visit.produce(&item.topic, &message, slot) {
            Ok(()) => {}
            Err(failed) if failed.code == code::QUEUE_FULL => break,
            Err(failed) => refuse(slot, &failed),
        }
        queued += 1;
    }
    drop(visit);
    if queued < items.len() {
        // Other threads may change the Strings while this one waits, so what is left is copied.
        let left = items.into_iter().zip(&deliveries.slots).skip(queued).map(|(item, (slot, _))| copy(item, slot));
        wait_for_room(ruby, this, left.collect())?;
    }
    Ok(deliveries)
}

fn copy(item: Item, slot: &Arc<Slot>) -> Copied {
    // SAFETY: copied at once.
    let (payload, key) = unsafe {
        (item.payload.map(|payload| payload.as_slice().to_vec()), item.key.map(|key| key.as_slice().to_vec()))
    };
    Copied {
        name: Arc::clone(item.topic.name()),
        payload,
        key,
        partition: item.partition,
        timestamp: item.timestamp,
        headers: item.headers,
        slot: Arc::clone(slot),
    }
}

/// Queues the rest as room comes. What has none at the deadline is refused for that reason.
fn wait_for_room(ruby: &Ruby, this: Obj<Producer>, left: Vec<Copied>) -> Result<(), Error> {
    let deadline = convert::deadline(ruby, this.queue_timeout)?;
    let wake = new_wake(ruby)?;
    let mut queued = 0;
    loop {
        wake.clear();
        let visit = match this.handle.enter_unless_shut(ruby, &wake)? {
            Ok(visit) => visit,
            // What was queued before the rest is queued: only the rest of the messages are for the new handle.
            Err(Shut::Resting) => {
                this.funcall::<_, _, Value>("wake_up", ())?;
                continue;
            }
            Err(closed) => return Err(this.handle.shut(ruby, closed)),
        };
        let result = without_gvl(&wake, || {
            visit.wait_for_room(&wake, deadline, || {
                while let Some(item) = left.get(queued) {
                    // Looked up each time: a producer that rested meanwhile has topics of its own.
                    let produced = visit.topic(&item.name).and_then(|topic| {
                        let headers = borrowed(&item.headers);
                        let message = Outgoing {
                            payload: item.payload.as_deref(),
                            key: item.key.as_deref(),
                            partition: item.partition,
                            timestamp: item.timestamp,
                            headers: &headers,
                        };
                        visit.produce(&topic, &message, &item.slot)
                    });
                    match produced {
                        Err(full) if full.code == code::QUEUE_FULL => return Err(full),
                        Err(failed) => refuse(&item.slot, &failed),
                        Ok(()) => {}
                    }
                    queued += 1;
                }
                Ok(())
            })
        });
        drop(visit);
        match result {
            Some(Ok(())) => return Ok(()),
            Some(Err(full)) if convert::is_over(deadline) => {
                left[queued..].iter().for_each(|item| refuse(&item.slot, &full));
                return Ok(());
            }
            _ => check_interrupts(ruby)?,
        }
    }
}

impl Deliveries {
    fn size(&self) -> usize {
        self.slots.len()
    }

    fn at(&self, index: isize) -> Option<Delivery> {
        let index = usize::try_from(index).ok().or_else(|| self.slots.len().checked_sub(index.unsigned_abs()))?;
        let (slot, topic) = self.slots.get(index)?;
        Some(Delivery {
            slot: Arc::clone(slot),
            waiters: Arc::clone(&self.waiters),
            topic: Arc::clone(topic),
            origin: self.origin,
        })
    }

    /// The indexes of those that have failed.
    fn failed(&self) -> Vec<usize> {
        let failed = |slot: &Slot| slot.report().is_some_and(|report| report.code != code::NO_ERROR);
        (0..self.slots.len()).filter(|index| failed(&self.slots[*index].0)).collect()
    }

    fn pending(&self) -> usize {
        self.slots.iter().filter(|(slot, _)| slot.report().is_none()).count()
    }

    /// True when all have their answer; false at the deadline, and when no answer comes any more.
    fn wait(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<bool, Error> {
        let deadline = convert::deadline(ruby, timeout)?;
        let mut wake = None;
        for (slot, _) in &this.slots {
            while slot.report().is_none() {
                check_here(ruby, "SwarmNative::Kafka::Deliveries", this.origin)?;
                if convert::is_over(deadline) || this.waiters.are_closed() {
                    return Ok(false);
                }
                let wake = match &wake {
                    Some(wake) => wake,
                    None => wake.insert(new_wake(ruby)?),
                };
                wake.clear();
                if !matches!(without_gvl(wake, || this.waiters.wait_for(slot, wake, deadline)), Some(Some(_))) {
                    check_interrupts(ruby)?;
                }
            }
        }
        Ok(true)
    }
}

/// Defines the class and the method.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Deliveries", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Deliveries>(ruby);
    class.singleton_class()?.funcall::<_, _, Value>("undef_method", (ruby.to_symbol("new"),))?;
    class.define_method("size", method!(Deliveries::size, 0))?;
    class.define_method("pending", method!(Deliveries::pending, 0))?;
    class.define_private_method("native_at", method!(Deliveries::at, 1))?;
    class.define_private_method("native_failed", method!(Deliveries::failed, 0))?;
    class.define_private_method("native_wait", method!(Deliveries::wait, 1))?;
    let producer: magnus::RClass = kafka.const_get("Producer")?;
    producer.define_private_method("native_produce_many", method!(produce_many, 1))
}
