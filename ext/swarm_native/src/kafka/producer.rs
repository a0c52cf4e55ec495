//! `Kafka::Producer`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use magnus::{
    Class, Error, Module, Object as _, RArray, RClass, RHash, RModule, RString, Ruby, Value, method, r_hash::ForEach,
    value::ReprValue,
};
use swarm_kafka::delivery::Slot;
use swarm_kafka::delivery::Waiters;
use swarm_kafka::ending::Ending;
use swarm_kafka::error::code;
use swarm_kafka::mailbox::{Ended, Mailbox, News};
use swarm_kafka::origin::Origin;
use swarm_kafka::producer::{self, Outgoing, Topic};

use super::convert;
use super::delivery::Delivery;
use super::error;
use super::handle::{Handle, new_wake, wait_for_end};
use super::token::{self, TakesTokens};
use crate::gvl::{check_interrupts, without_gvl};

/// How long a producer that nobody has closed may still deliver, in the background.
const ABANDONED: Duration = Duration::from_secs(5);
/// A close waits this much longer than its deadline for the answers to what is given up, and for the handle's end.
const GRACE: Duration = Duration::from_secs(5);

#[magnus::wrap(class = "SwarmNative::Kafka::Producer", free_immediately, size)]
pub struct Producer {
    pub handle: Handle<producer::Producer>,
    name: Mutex<String>,
    mailbox: Arc<Mailbox>,
    /// Whether somebody gives OAUTHBEARER tokens.
    tokens: bool,
    /// Seconds that a full queue is waited for.
    pub queue_timeout: Option<f64>,
}

impl TakesTokens for Producer {
    type Client = producer::Producer;

    fn handle(&self) -> &Handle<Self::Client> {
        &self.handle
    }
}

/// Header names and values, copied.
pub type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Producer {
    fn open(
        ruby: &Ruby,
        class: RClass,
        properties: RHash,
        made_at: String,
        queue_timeout: Option<f64>,
        tokens: bool,
    ) -> Result<Value, Error> {
        convert::deadline(ruby, queue_timeout)?;
        let mailbox = Mailbox::new().map(Arc::new);
        let mailbox = mailbox.map_err(|errno| crate::error::errno(ruby, errno, "making a producer's mailbox"))?;
        let config = super::config::config(ruby, properties)?;
        let made_with = Arc::clone(&mailbox);
        let handle = Handle::open(ruby, "SwarmNative::Kafka::Producer", made_at, move |lease| {
            producer::Producer::new(config, tokens, &made_with, lease)
        })?;
        super::exit::remember_producer(handle.door());
        let name = handle.enter(ruby)?.name();
        Ok(ruby.obj_wrap_as(Self { handle, name: Mutex::new(name), mailbox, tokens, queue_timeout }, class).as_value())
    }

    /// `None`: the queue is full, and this fiber must not wait, because a scheduler waits for all.
    #[expect(clippy::too_many_arguments, reason = "what a message consists of, from a Ruby method with keywords")]
    fn produce(
        ruby: &Ruby,
        this: &Self,
        topic: RString,
        payload: Option<RString>,
        key: Option<RString>,
        partition: Option<i32>,
        headers: Option<Value>,
        timestamp: Option<i64>,
    ) -> Result<Option<Delivery>, Error> {
        let headers = headers.map(|given| headers_of(ruby, given)).transpose()?.unwrap_or_default();
        let visit = this.handle.enter(ruby)?;
        let topic = topic_of(ruby, &visit, topic)?;
        let slot = Arc::new(Slot::default());
        let borrowed: Vec<_> = headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        let message = Outgoing { payload: None, key: None, partition, timestamp, headers: &borrowed };
        // SAFETY: librdkafka copies both before `produce` returns, and no Ruby code runs until then.
        let first = unsafe {
            let (payload, key) = (payload.as_ref().map(|p| p.as_slice()), key.as_ref().map(|k| k.as_slice()));
            visit.produce(&topic, &Outgoing { payload, key, ..message }, &slot)
        };
        let delivery = |visit: &producer::Producer| Delivery {
            slot: Arc::clone(&slot),
            waiters: Arc::clone(visit.waiters()),
            topic: Arc::clone(topic.name()),
            origin: Origin::here(),
        };
        match first {
            Ok(()) => return Ok(Some(delivery(&visit))),
            Err(failed) if failed.code != code::QUEUE_FULL => return Err(error::raise(ruby, &failed)),
            Err(_) => drop(visit),
        }
        if this.queue_timeout != Some(0.0) && convert::is_scheduled(ruby)? {
            return Ok(None);
        }

        // The queue is full. Other threads may change the Strings while this one waits, so they are copied.
        let deadline = convert::deadline(ruby, this.queue_timeout)?;
        // SAFETY: copied at once.
        let (payload, key) =
            unsafe { (payload.map(|payload| payload.as_slice().to_vec()), key.map(|key| key.as_slice().to_vec())) };
        let message = Outgoing { payload: payload.as_deref(), key: key.as_deref(), ..message };
        let wake = new_wake(ruby)?;
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            // A producer that rested meanwhile has topics of its own.
            let topic = visit.topic(topic.name()).map_err(|failed| error::raise(ruby, &failed))?;
            let queued =
                without_gvl(&wake, || visit.wait_for_room(&wake, deadline, || visit.produce(&topic, &message, &slot)));
            match queued {
                Some(Ok(())) => return Ok(Some(delivery(&visit))),
                Some(Err(failed)) if failed.code != code::QUEUE_FULL || convert::is_over(deadline) => {
                    return Err(error::raise(ruby, &failed));
                }
                _ => {}
            }
            drop(visit);
            check_interrupts(ruby)?;
        }
    }

    fn flush(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<bool, Error> {
        let deadline = convert::deadline(ruby, timeout)?;
        let wake = new_wake(ruby)?;
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            let flushed = without_gvl(&wake, || visit.flush(deadline, || wake.clear()));
            if flushed == Some(true) {
                return Ok(true);
            }
            if flushed.is_some() && convert::is_over(deadline) {
                return Ok(false);
            }
            drop(visit);
            check_interrupts(ruby)?;
        }
    }

    /// nil when it was closed before; else a Hash: topic to the number of messages that were not delivered.
    fn close(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<Option<RHash>, Error> {
        let deadline = convert::deadline(ruby, timeout)?;
        let ending = this.handle.close(ruby, move |producer| producer.finish(deadline))?;
        ending.map(|ending| lost(ruby, &ending, deadline)).transpose()
    }

    /// The same, until it is made anew.
    fn rest(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<Option<RHash>, Error> {
        let deadline = convert::deadline(ruby, timeout)?;
        let ending = this.handle.rest(ruby, move |producer| producer.finish(deadline))?;
        ending.map(|ending| lost(ruby, &ending, deadline)).transpose()
    }

    fn listen(ruby: &Ruby, this: &Self, wants: u8) -> Result<(), Error> {
        this.handle.check_here(ruby)?;
        this.mailbox.listen(wants);
        Ok(())
    }

    /// An Array that begins with the kind of what is to be told; nil when nothing more comes.
    fn hear(ruby: &Ruby, this: &Self) -> Result<Option<RArray>, Error> {
        let wake = new_wake(ruby)?;
        loop {
            this.handle.check_here(ruby)?;
            wake.clear();
            match without_gvl(&wake, || this.mailbox.take(&wake)) {
                Some(Ok(Some(news))) => return news_of(ruby, news).map(Some),
                Some(Err(Ended)) => return Ok(None),
                _ => check_interrupts(ruby)?,
            }
        }
    }

    fn untold(ruby: &Ruby, this: &Self) -> Result<usize, Error> {
        this.handle.check_here(ruby)?;
        Ok(this.mailbox.untold())
    }

    fn end_hearing(&self) {
        self.mailbox.end();
    }

    fn is_closed(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        this.handle.is_closed(ruby)
    }

    fn queue_size(ruby: &Ruby, this: &Self) -> Result<usize, Error> {
        Ok(this.handle.enter(ruby)?.queue_size())
    }

    fn purge(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.enter(ruby)?.purge();
        Ok(())
    }

    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the native handle anew, where it rests.
    fn reopen(ruby: &Ruby, this: &Self, properties: RHash, made_at: String) -> Result<(), Error> {
        let config = super::config::config(ruby, properties)?;
        let (tokens, mailbox) = (this.tokens, Arc::clone(&this.mailbox));
        this.handle.reopen(ruby, made_at, move |lease| producer::Producer::new(config, tokens, &mailbox, lease))?;
        if let Ok(visit) = this.handle.enter(ruby) {
            *this.name.lock().unwrap_or_else(PoisonError::into_inner) = visit.name();
        }
        Ok(())
    }
}

/// Waits for the end of a producer, and counts what it has not delivered.
fn lost(ruby: &Ruby, ending: &Ending<BTreeMap<String, usize>>, deadline: Option<Instant>) -> Result<RHash, Error> {
    let lost = wait_for_end(ruby, ending, deadline.and_then(|deadline| deadline.checked_add(GRACE)))?;
    let hash = ruby.hash_new();
    for (topic, count) in lost.unwrap_or_default() {
        hash.aset(convert::interned(ruby, &topic), count)?;
    }
    Ok(hash)
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.handle.abandon(|producer| {
            report_lost(&producer.finish(Some(Instant::now() + ABANDONED)));
        });
    }
}

/// What is to be told, as an Array that begins with its kind.
fn news_of(ruby: &Ruby, news: News) -> Result<RArray, Error> {
    let array = ruby.ary_new();
    match news {
        News::Answered(answered) => {
            // Nobody waits for an answer that is there.
            let waiters = Arc::new(Waiters::default());
            let deliveries = ruby.ary_new_capa(answered.len());
            for it in answered {
                let waiters = Arc::clone(&waiters);
                let delivery = Delivery { slot: it.slot, waiters, topic: it.topic, origin: Origin::here() };
                deliveries.push(ruby.obj_wrap(delivery))?;
            }
            array.push(ruby.to_symbol("delivered"))?;
            array.push(deliveries)?;
        }
        News::Error(failed) => {
            array.push(ruby.to_symbol("error"))?;
            array.push(error::exception(ruby, &failed)?)?;
        }
        News::Statistics(json, missed) => {
            array.push(ruby.to_symbol("statistics"))?;
            array.push(json)?;
            array.push(missed)?;
        }
        News::Token(config) => {
            array.push(ruby.to_symbol("token"))?;
            array.push(config)?;
        }
        News::Lines(lines) => {
            array.push(ruby.to_symbol("log"))?;
            array.push(convert::lines(ruby, lines)?)?;
        }
    }
    Ok(array)
}

/// Tells the log what a producer that nobody has closed could not deliver.
pub fn report_lost(lost: &BTreeMap<String, usize>) {
    for (topic, count) in lost {
        tracing::error!(topic, count, "messages were not delivered by a producer that was not closed");
    }
}

/// The topic of that name.
pub fn topic_of(ruby: &Ruby, producer: &producer::Producer, name: RString) -> Result<Topic, Error> {
    // SAFETY: the name is looked up, and copied if it is new, before any Ruby code can run.
    match std::str::from_utf8(unsafe { name.as_slice() }) {
        Ok(text) if !text.is_empty() => producer.topic(text).map_err(|failed| error::raise(ruby, &failed)),
        _ => {
            let message = format!("a topic's name is a String of UTF-8, not {}", name.inspect());
            Err(crate::error::argument(ruby, message))
        }
    }
}

/// Headers come as a Hash (a name to a String, nil, or an Array of those) or as an Array of pairs.
pub fn headers_of(ruby: &Ruby, given: Value) -> Result<Headers, Error> {
    let mut headers = Headers::new();
    if let Some(hash) = RHash::from_value(given) {
        hash.foreach(|name: Value, value: Value| {
            match RArray::from_value(value) {
                Some(values) => {
                    for value in values {
                        headers.push(header(ruby, name, value)?);
                    }
                }
                None => headers.push(header(ruby, name, value)?),
            }
            Ok(ForEach::Continue)
        })?;
    } else if let Some(pairs) = RArray::from_value(given) {
        for pair in pairs {
            match RArray::from_value(pair).filter(|pair| pair.len() == 2) {
                Some(pair) => headers.push(header(ruby, pair.entry(0)?, pair.entry(1)?)?),
                None => return Err(not_headers(ruby, pair)),
            }
        }
    } else {
        return Err(not_headers(ruby, given));
    }
    Ok(headers)
}

fn header(ruby: &Ruby, name: Value, value: Value) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
    let bytes = |value: Value| {
        match magnus::Symbol::from_value(value) {
            Some(symbol) => Some(symbol.name().ok()?.as_bytes().to_vec()),
            // SAFETY: copied at once.
            None => RString::from_value(value).map(|string| unsafe { string.as_slice() }.to_vec()),
        }
    };
    let name = bytes(name).ok_or_else(|| not_headers(ruby, name))?;
    if name.contains(&0) {
        return Err(crate::error::argument(ruby, "a header's name holds a NUL byte, which librdkafka cuts off"));
    }
    if value.is_nil() {
        return Ok((name, None));
    }
    bytes(value).map(|value| (name, Some(value))).ok_or_else(|| not_headers(ruby, value))
}

fn not_headers(ruby: &Ruby, found: Value) -> Error {
    let message = format!(
        "headers are a Hash (name => String, nil or an Array of those) or an Array of [name, value], and {} is neither",
        found.inspect()
    );
    Error::new(ruby.exception_type_error(), message)
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Producer", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Producer>(ruby);
    class.define_singleton_method("native_open", method!(open, 4))?;
    class.define_private_method("native_listen", method!(Producer::listen, 1))?;
    class.define_private_method("native_hear", method!(Producer::hear, 0))?;
    class.define_private_method("native_end_hearing", method!(Producer::end_hearing, 0))?;
    class.define_private_method("native_set_token", method!(token::set::<Producer>, 4))?;
    class.define_private_method("native_refuse_token", method!(token::refuse::<Producer>, 1))?;
    class.define_private_method("native_produce", method!(Producer::produce, 6))?;
    class.define_private_method("native_flush", method!(Producer::flush, 1))?;
    class.define_private_method("native_close", method!(Producer::close, 1))?;
    class.define_private_method("native_rest", method!(Producer::rest, 1))?;
    class.define_private_method("native_reopen", method!(Producer::reopen, 2))?;
    class.define_private_method("native_purge", method!(Producer::purge, 0))?;
    super::transactions::init(class)?;
    class.define_method("closed?", method!(Producer::is_closed, 0))?;
    class.define_method("queue_size", method!(Producer::queue_size, 0))?;
    class.define_method("untold", method!(Producer::untold, 0))?;
    class.define_method("name", method!(Producer::name, 0))
}

fn open(
    ruby: &Ruby,
    class: RClass,
    properties: RHash,
    made_at: String,
    queue_timeout: Option<f64>,
    tokens: bool,
) -> Result<Value, Error> {
    Producer::open(ruby, class, properties, made_at, queue_timeout, tokens)
}
