//! The producer.
//!
//! A thread of ours takes the delivery reports as they come: they free room in the queue and wake waiters, also while
//! Ruby has no time for either. The thread is one more reason that a fork needs the producer gone, and it ends before
//! the lease is given back.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_int};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use swarm_core::fork_gate::Lease;
use swarm_core::os::wake::Wake;

use crate::client::{Bearer, Client, Role, Token};
use crate::config::{Config, OpenError};
use crate::delivery::{Report, Slot, Waiters};
use crate::ending::spawn_without_signals;
use crate::error::{KafkaError, code, text};
use crate::mailbox::{Answered, Mailbox, News, wants};
use crate::queue::{Event, Kind, Queue};
use crate::repeats::Repeats;
use crate::sys;

/// A message to be sent. Everything is copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// The payload; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// The key; `None` for none.
    pub key: Option<&'a [u8]>,
    /// The partition; `None` leaves the choice to the partitioner.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; `None` is now.
    pub timestamp: Option<i64>,
    /// Names and values, in order.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// A topic as the producer knows it. The client keeps it until its end.
#[derive(Clone)]
pub struct Topic {
    handle: NonNull<sys::rd_kafka_topic_t>,
    name: Arc<str>,
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// The topic's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// What the report thread and the callers share.
struct Reports {
    queue: Queue,
    waiters: Arc<Waiters>,
    mailbox: Arc<Mailbox>,
    stop: AtomicBool,
    /// Messages without an answer. librdkafka's own count has errors and other events in it.
    pending: AtomicUsize,
    /// While closing: how many messages of which topic were not delivered.
    lost: Mutex<Option<BTreeMap<String, usize>>>,
    repeats: Repeats,
}

/// A producer.
pub struct Producer {
    topics: RwLock<HashMap<String, Topic>>,
    thread: Option<JoinHandle<()>>,
    // The queue in it goes before the client.
    reports: Arc<Reports>,
    pub(crate) client: Client,
}

impl Producer {
    /// Makes one. What it has to tell is put into the mailbox; `tokens`: also that an OAUTHBEARER token is wanted.
    pub fn new(config: Config, tokens: bool, mailbox: &Arc<Mailbox>, lease: Lease) -> Result<Self, OpenError> {
        let events = sys::RD_KAFKA_EVENT_DR
            | sys::RD_KAFKA_EVENT_ERROR
            | sys::RD_KAFKA_EVENT_STATS
            | if tokens { sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH } else { 0 };
        let client = Client::with_lines(Role::Producer, config, events, lease, Arc::clone(mailbox.lines()))?;
        // SAFETY: the client lives; the reference that comes out is ours, and goes before the client does.
        let queue = unsafe { Queue::own(sys::rd_kafka_queue_get_main(client.as_ptr())) }
            .map_err(|errno| OpenError::Refused(format!("no descriptor for the producer's queue: {errno}")))?;
        let reports = Arc::new(Reports {
            queue,
            waiters: Arc::default(),
            mailbox: Arc::clone(mailbox),
            stop: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            lost: Mutex::default(),
            repeats: Repeats::default(),
        });
        let thread = spawn_without_signals("swarm-reports", {
            let reports = Arc::clone(&reports);
            move || reports.run()
        })
        .map_err(|error| OpenError::Refused(format!("no thread for the delivery reports: {error}")))?;
        Ok(Self { topics: RwLock::default(), thread: Some(thread), reports, client })
    }

    /// librdkafka's name of it.
    pub fn name(&self) -> String {
        self.client.name()
    }

    /// Where the answers are waited for.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.reports.waiters
    }

    /// The error after which the producer can no longer be used, once there is one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        self.client.fatal_error()
    }

    /// Finds a topic by its name.
    pub fn topic(&self, name: &str) -> Result<Topic, KafkaError> {
        if let Some(topic) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(topic.clone());
        }
        let c_name = CString::new(name)
            .map_err(|_| KafkaError::with(17, format!("the topic name {name:?} holds a NUL byte")))?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Ok(topic.clone());
        }
        // SAFETY: the client lives and the name ends in NUL; without a configuration the client's own is used.
        let handle = unsafe { sys::rd_kafka_topic_new(self.client.as_ptr(), c_name.as_ptr(), null_mut()) };
        let Some(handle) = NonNull::new(handle) else {
            // SAFETY: no precondition.
            let code = unsafe { sys::rd_kafka_last_error() };
            return Err(KafkaError::with(code, format!("librdkafka refuses the topic name {name:?}")));
        };
        let topic = Topic { handle, name: name.into() };
        topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// Queues a message. The answer will stand in `slot`.
    pub fn produce(&self, topic: &Topic, message: &Outgoing<'_>, slot: &Arc<Slot>) -> Result<(), KafkaError> {
        let mut fields = Fields::default();
        fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT).rkt = topic.handle.as_ptr();
        if let Some(partition) = message.partition {
            fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION).i32_ = partition;
        }
        fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS).i = sys::RD_KAFKA_MSG_F_COPY;
        if let Some(payload) = message.payload {
            fields.bytes(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE, payload);
        }
        if let Some(key) = message.key {
            fields.bytes(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY, key);
        }
        if let Some(timestamp) = message.timestamp {
            fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP).i64_ = timestamp;
        }
        let headers = (!message.headers.is_empty()).then(|| NativeHeaders::new(message.headers)).transpose()?;
        if let Some(headers) = &headers {
            fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS).headers = headers.0;
        }
        let answer = Arc::into_raw(Arc::clone(slot));
        fields.add(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE).ptr = answer.cast_mut().cast();
        // Before the message is handed over: the answer may be there before this thread goes on.
        self.reports.pending.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the client lives; each field has the type that its tag says; key and payload are copied.
        let error = unsafe { sys::rd_kafka_produceva(self.client.as_ptr(), fields.list.as_ptr(), fields.count) };
        // SAFETY: the error is null or ours.
        match unsafe { KafkaError::take(error) } {
            Ok(()) => {
                // The message owns its headers now.
                std::mem::forget(headers);
                Ok(())
            }
            Err(error) => {
                self.reports.pending.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: the message was not taken, so no report will come that takes this count back.
                drop(unsafe { Arc::from_raw(answer) });
                Err(error)
            }
        }
    }

    /// Tries again when answers have come, until it succeeds, fails for another reason than a full queue, the deadline
    /// passes or `wake` is woken from elsewhere.
    pub fn wait_for_room(
        &self,
        wake: &Arc<Wake>,
        deadline: Option<Instant>,
        mut produce: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        let mut last = Ok(());
        self.reports.waiters.wait_for_room(wake, deadline, || {
            last = produce();
            !matches!(&last, Err(error) if error.code == code::QUEUE_FULL)
        });
        last
    }

    /// Messages that have no answer yet.
    pub fn queue_size(&self) -> usize {
        self.reports.pending.load(Ordering::Relaxed)
    }

    /// Waits until every message has its answer; false at the deadline, when `interrupted` says so, and now and then:
    /// librdkafka's wait does not end with a signal, and a trap handler may be waiting for this thread.
    pub fn flush(&self, deadline: Option<Instant>, interrupted: impl Fn() -> bool) -> bool {
        let pause = Instant::now() + FLUSH_PAUSE;
        loop {
            let remaining = deadline.map_or(FLUSH_SLICE, |at| at.saturating_duration_since(Instant::now()));
            let slice = c_int::try_from(remaining.min(FLUSH_SLICE).as_millis()).expect("a short slice");
            // SAFETY: the client lives. The reports are taken by our thread meanwhile.
            let code = unsafe { sys::rd_kafka_flush(self.client.as_ptr(), slice) };
            if code == code::NO_ERROR {
                return true;
            }
            if remaining.is_zero() || interrupted() || Instant::now() > pause {
                return false;
            }
        }
    }

    /// Gives up every message that has no answer yet; their answers say so.
    pub fn purge(&self) {
        self.client.hurry();
        // SAFETY: the client lives.
        unsafe {
            sys::rd_kafka_purge(self.client.as_ptr(), sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT)
        };
    }

    /// Flushes until the deadline and gives up the rest. Tells how many messages of which topic were not delivered.
    /// The handle itself ends with the drop.
    pub fn finish(&self, deadline: Option<Instant>) -> BTreeMap<String, usize> {
        *self.reports.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(BTreeMap::new());
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= Instant::now());
        while !self.flush(deadline, || false) {
            if is_over(deadline) {
                self.purge();
                // A purged message has its answer as soon as its broker's thread has looked.
                let answers = Some(Instant::now() + PURGE_TIME);
                while !self.flush(answers, || false) && !is_over(answers) {}
                break;
            }
        }
        self.reports.lost.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

impl Bearer for Producer {
    fn set_token(&self, token: &Token) -> Result<(), KafkaError> {
        self.client.set_token(token)
    }

    fn refuse_token(&self, reason: &str) {
        self.client.refuse_token(reason);
    }
}

const FLUSH_SLICE: Duration = Duration::from_millis(20);
const FLUSH_PAUSE: Duration = Duration::from_millis(200);
const PURGE_TIME: Duration = Duration::from_secs(1);

impl Drop for Producer {
    fn drop(&mut self) {
        self.reports.stop.store(true, Ordering::Release);
        self.reports.queue.interrupt();
        if let Some(thread) = self.thread.take() {
            // It lets no panic out; and with it goes the second reference to the queue.
            let _ = thread.join();
        }
        self.reports.waiters.close();
        for topic in self.topics.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            // SAFETY: the reference is ours, and no call that uses it is left: `self` is borrowed alone.
            unsafe { sys::rd_kafka_topic_destroy(topic.handle.as_ptr()) };
        }
    }
}

impl Reports {
    fn run(&self) {
        loop {
            match self.queue.next_within(-1) {
                Some(event) => self.take(event),
                None if self.stop.load(Ordering::Acquire) => break,
                None => {}
            }
        }
    }

    fn take(&self, mut event: Event) {
        match event.kind() {
            Kind::Delivery => {
                let mut answered = self.mailbox.wants(wants::ANSWERS).then(Vec::new);
                let mut delivered = false;
                while let Some(message) = event.next_message() {
                    // SAFETY: the message is live.
                    delivered |= unsafe { sys::message_error(message) } == code::NO_ERROR;
                    self.answer(message, answered.as_mut());
                }
                if delivered {
                    self.waiters.set_trouble(None);
                }
                // The room in the queue is free when the event is gone.
                drop(event);
                self.waiters.answers_came();
                if let Some(answered) = answered {
                    self.mailbox.put(News::Answered(answered));
                }
            }
            Kind::Error => {
                let error = event.error();
                tracing::warn!(target: "librdkafka", name = error.name, fatal = error.fatal, "{}", error.message);
                // That all brokers are down says less than what was wrong with each.
                if error.code != code::ALL_BROKERS_DOWN {
                    self.waiters.set_trouble(Some(&error));
                }
                if self.repeats.is_new(&error, Instant::now()) {
                    self.mailbox.put_error(error);
                }
            }
            Kind::Statistics if self.mailbox.wants(wants::STATISTICS) => {
                self.mailbox.put(News::Statistics(event.statistics(), 0));
            }
            Kind::Token => self.mailbox.put(News::Token(event.token_config())),
            _ => {}
        }
    }

    fn answer(&self, message: &sys::rd_kafka_message_t, answered: Option<&mut Vec<Answered>>) {
        // SAFETY: the message is live.
        let code = unsafe { sys::message_error(message) };
        if code != code::NO_ERROR {
            if let Some(lost) = self.lost.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                // SAFETY: the message holds a reference to its topic.
                let topic = unsafe { text(sys::rd_kafka_topic_name(message.rkt)) };
                *lost.entry(topic).or_default() += 1;
            }
        }
        let slot = NonNull::new(message._private.cast::<Slot>());
        if let Some(slot) = slot {
            // SAFETY: `produce` gave this count to the message, and a message is answered once.
            let slot = unsafe { Arc::from_raw(slot.as_ptr()) };
            self.pending.fetch_sub(1, Ordering::Relaxed);
            slot.fill(Report { code, partition: message.partition, offset: message.offset });
            if let Some(answered) = answered {
                // SAFETY: as above.
                let topic = unsafe { text(sys::rd_kafka_topic_name(message.rkt)) };
                // Messages of one topic mostly come one after the other.
                let topic = match answered.last() {
                    Some(last) if *last.topic == *topic => Arc::clone(&last.topic),
                    _ => topic.into(),
                };
                answered.push(Answered { slot, topic });
            }
        }
    }
}

/// The fields of one message, as librdkafka takes them.
struct Fields {
    list: [sys::rd_kafka_vu_t; 8],
    count: usize,
}

impl Default for Fields {
    fn default() -> Self {
        // SAFETY: the tag's 0 is `END`, and the union holds plain integers and pointers, for which 0 is valid.
        Self { list: unsafe { std::mem::zeroed() }, count: 0 }
    }
}

impl Fields {
    fn add(&mut self, tag: sys::rd_kafka_vtype_t) -> &mut sys::rd_kafka_field_t {
        let field = &mut self.list[self.count];
        self.count += 1;
        field.vtype = tag;
        &mut field.u
    }

    fn bytes(&mut self, tag: sys::rd_kafka_vtype_t, bytes: &[u8]) {
        // librdkafka copies and does not write, though its type does not say so.
        self.add(tag).mem = sys::rd_kafka_bytes_t { ptr: bytes.as_ptr().cast_mut().cast(), size: bytes.len() };
    }
}

/// Headers that no message owns yet.
struct NativeHeaders(*mut sys::rd_kafka_headers_t);

impl NativeHeaders {
    fn new(headers: &[(&[u8], Option<&[u8]>)]) -> Result<Self, KafkaError> {
        // SAFETY: no precondition; the object is ours.
        let native = Self(unsafe { sys::rd_kafka_headers_new(headers.len()) });
        for (name, value) in headers {
            let (value, size) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            // SAFETY: the object is ours, and librdkafka copies as many bytes as it is told.
            let code = unsafe {
                sys::rd_kafka_header_add(
                    native.0,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    value.cast(),
                    size as isize,
                )
            };
            KafkaError::check(code)?;
        }
        Ok(native)
    }
}

impl Drop for NativeHeaders {
    fn drop(&mut self) {
        // SAFETY: no message has taken the object over: `produce` forgets it then.
        unsafe { sys::rd_kafka_headers_destroy(self.0) };
    }
}
