//! The consumer.
//!
//! Everything comes out of one queue, in order: messages, rebalances, errors. A poll drains what is there, copies each
//! message and frees librdkafka's own at once; only when there is nothing does it wait, on a descriptor.
//!
//! A rebalance is answered in the poll that finds it, unless somebody wants to hear of it first: then the poll ends,
//! the listener works, and [`Consumer::acknowledge`] answers. Until then librdkafka gives no partition away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swarm_core::fork_gate::Lease;
use swarm_core::os::wake::Wake;

use crate::batch::Batch;
use crate::client::{Client, Role};
use crate::config::{Config, ConfigError, OpenError};
use crate::error::{KafkaError, code, text};
use crate::partitions::{Partition, Partitions};
use crate::queue::{Event, Kind, Queue, Waited};
use crate::sys;

/// How much a poll may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Bytes of keys, payloads and headers; the message that passes the limit still belongs to the batch.
    pub bytes: usize,
}

/// What a poll brought.
pub enum Polled {
    /// Messages, at least one.
    Messages(Batch),
    /// Nothing is there.
    Nothing,
    /// A listener has to hear of this, then [`Consumer::acknowledge`].
    Rebalance(Rebalance),
    /// An error that the caller should know.
    Failed(KafkaError),
}

/// The group gives or takes partitions.
pub struct Rebalance {
    /// True when partitions come, false when they go.
    pub assigned: bool,
    /// The group has given them to somebody else already: it is too late to commit.
    pub lost: bool,
    cooperative: bool,
    partitions: Partitions,
}

impl Rebalance {
    /// The partitions that come or go.
    pub fn partitions(&self) -> Vec<Partition> {
        self.partitions.to_vec()
    }
}

/// What an earlier poll has left for the next one.
#[derive(Default)]
struct Left {
    failed: Option<KafkaError>,
    rebalance: Option<Rebalance>,
    /// What the last batch held, for the size of the next.
    messages: usize,
    bytes: usize,
}

/// A commit under way.
pub struct CommitId(u64);

/// The queues to which results of commits come. They stay with the consumer, because they must not outlive it, while
/// who waits may leave it for a moment to run a trap handler.
#[derive(Default)]
struct Commits {
    next_id: u64,
    queues: HashMap<u64, Arc<Queue>>,
}

/// A member of a consumer group.
pub struct Consumer {
    left: Mutex<Left>,
    listens: AtomicBool,
    // The queues go before the client.
    commits: Mutex<Commits>,
    queue: Queue,
    client: Client,
}

/// A poll marks the application as alive, so a long wait polls this often; the least `max.poll.interval.ms` is 1 s.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// With the GVL held nobody else runs.
const DRAIN_TIME: Duration = Duration::from_millis(5);

impl Consumer {
    /// Makes one; `group.id` is needed.
    pub fn new(config: Config, lease: Lease) -> Result<Self, OpenError> {
        if !config.has("group.id") {
            return Err(ConfigError(vec!["group.id: a consumer needs one".into()]).into());
        }
        let events = sys::RD_KAFKA_EVENT_REBALANCE
            | sys::RD_KAFKA_EVENT_ERROR
            | sys::RD_KAFKA_EVENT_STATS
            | sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
        let client = Client::new(Role::Consumer, config, events, lease)?;
        // SAFETY: the client lives; a consumer with a group.id has a group queue; the reference is ours and goes
        // before the client.
        let queue = unsafe {
            sys::rd_kafka_poll_set_consumer(client.as_ptr());
            Queue::own(sys::rd_kafka_queue_get_consumer(client.as_ptr()))
        }
        .map_err(|errno| OpenError::Refused(format!("no descriptor for the consumer's queue: {errno}")))?;
        Ok(Self { left: Mutex::default(), listens: AtomicBool::new(false), commits: Mutex::default(), queue, client })
    }

    /// librdkafka's name of it.
    pub fn name(&self) -> String {
        self.client.name()
    }

    /// Whether a poll ends at a rebalance, for a listener to hear of it before it is answered.
    pub fn listen(&self, listens: bool) {
        self.listens.store(listens, Ordering::Relaxed);
    }

    /// Joins the group for these topics; one that begins with `^` is a pattern.
    pub fn subscribe(&self, topics: &[String]) -> Result<(), KafkaError> {
        let mut list = Partitions::default();
        for topic in topics {
            list.add(topic, -1, None, -1)?;
        }
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe { sys::rd_kafka_subscribe(self.client.as_ptr(), list.as_ptr()) })
    }

    /// Leaves the group's topics.
    pub fn unsubscribe(&self) -> Result<(), KafkaError> {
        // SAFETY: the client lives.
        KafkaError::check(unsafe { sys::rd_kafka_unsubscribe(self.client.as_ptr()) })
    }

    /// The topics and patterns subscribed to.
    pub fn subscription(&self) -> Result<Vec<String>, KafkaError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the client lives, and the list that comes out is ours.
        KafkaError::check(unsafe { sys::rd_kafka_subscription(self.client.as_ptr(), &mut list) })?;
        // SAFETY: as above.
        let list = unsafe { Partitions::own(list) }.unwrap_or_default();
        Ok(list.to_vec().into_iter().map(|entry| entry.topic).collect())
    }

    /// The partitions that this member has.
    pub fn assignment(&self) -> Result<Vec<Partition>, KafkaError> {
        Ok(self.assigned()?.to_vec())
    }

    fn assigned(&self) -> Result<Partitions, KafkaError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the client lives, and the list that comes out is ours.
        KafkaError::check(unsafe { sys::rd_kafka_assignment(self.client.as_ptr(), &mut list) })?;
        // SAFETY: as above.
        Ok(unsafe { Partitions::own(list) }.unwrap_or_default())
    }

    /// True when the assignment was lost and its revocation has not been answered yet.
    pub fn assignment_lost(&self) -> bool {
        // SAFETY: the client lives.
        unsafe { sys::rd_kafka_assignment_lost(self.client.as_ptr()) != 0 }
    }

    /// The offset after the last message that was handed out, of each assigned partition.
    pub fn position(&self) -> Result<Vec<Partition>, KafkaError> {
        let list = self.assigned()?;
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe { sys::rd_kafka_position(self.client.as_ptr(), list.as_ptr()) })?;
        Ok(list.to_vec())
    }

    /// The group's committed offsets of the assigned partitions. It asks a broker, and waits up to `timeout`.
    pub fn committed(&self, timeout: Duration) -> Result<Vec<Partition>, KafkaError> {
        let list = self.assigned()?;
        let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe { sys::rd_kafka_committed(self.client.as_ptr(), list.as_ptr(), timeout) })?;
        Ok(list.to_vec())
    }

    /// Remembers the offset as the next one to commit, by hand or by `enable.auto.commit`.
    pub fn store_offset(&self, topic: &str, partition: i32, offset: i64, epoch: i32) -> Result<(), KafkaError> {
        let mut list = Partitions::default();
        list.add(topic, partition, Some(offset), epoch)?;
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe { sys::rd_kafka_offsets_store(self.client.as_ptr(), list.as_ptr()) })
            .map_err(|error| list.first_error().err().unwrap_or(error))
    }

    /// Starts a commit and does not wait for its end. No list: the stored offsets.
    pub fn commit_later(&self, offsets: Option<&Partitions>) -> Result<(), KafkaError> {
        let list = offsets.map_or(std::ptr::null_mut(), Partitions::as_ptr);
        // SAFETY: the client lives, and so does the list if there is one.
        KafkaError::check(unsafe { sys::rd_kafka_commit(self.client.as_ptr(), list, 1) })
    }

    /// Starts a commit whose result is asked for by [`Consumer::commit_result`]. No list: the stored offsets.
    pub fn commit(&self, offsets: Option<&Partitions>) -> Result<CommitId, KafkaError> {
        let list = offsets.map_or(std::ptr::null_mut(), Partitions::as_ptr);
        // SAFETY: the client lives; the queue is ours and goes before the client, since `self` keeps both.
        let queue = unsafe { Queue::own(sys::rd_kafka_queue_new(self.client.as_ptr())) }
            .map_err(|errno| KafkaError::with(code::TRANSPORT, format!("no descriptor for a commit: {errno}")))?;
        // SAFETY: client, queue and list live; there is no callback.
        KafkaError::check(unsafe {
            sys::rd_kafka_commit_queue(self.client.as_ptr(), list, queue.as_ptr(), None, std::ptr::null_mut())
        })?;
        let mut commits = self.commits();
        commits.next_id += 1;
        let id = commits.next_id;
        commits.queues.insert(id, Arc::new(queue));
        Ok(CommitId(id))
    }

    /// Waits for the result; `None` at the deadline or when `wake` is woken from elsewhere.
    pub fn commit_result(
        &self,
        id: &CommitId,
        wake: &Wake,
        deadline: Option<Instant>,
    ) -> Option<Result<Vec<Partition>, KafkaError>> {
        let queue = self.commits().queues.get(&id.0).cloned()?;
        loop {
            while let Some(event) = queue.next() {
                if event.kind() == Kind::Commit {
                    // SAFETY: the event lives; its list is copied.
                    let list = unsafe { Partitions::copy(sys::rd_kafka_event_topic_partition_list(event.as_ptr())) };
                    return Some(match event.code() {
                        code::NO_ERROR => list.first_error().map(|()| list.to_vec()),
                        code => Err(KafkaError::of(code)),
                    });
                }
            }
            if queue.wait(wake, deadline) != Waited::Filled {
                return None;
            }
        }
    }

    /// Nobody asks for the result any more.
    pub fn forget_commit(&self, id: CommitId) {
        self.commits().queues.remove(&id.0);
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there, for at most a few milliseconds, and never waits.
    pub fn poll_now(&self, limits: Limits) -> Polled {
        let mut left = self.left();
        if let Some(error) = left.failed.take() {
            return Polled::Failed(error);
        }
        if let Some(rebalance) = left.rebalance.take() {
            return Polled::Rebalance(rebalance);
        }
        let first = self.queue.next();
        let Some(first) = first else { return Polled::Nothing };
        let room = left.messages.min(limits.messages);
        let mut batch = Batch::with_capacity(room, left.bytes.min(limits.bytes));
        let until = Instant::now() + DRAIN_TIME;
        let mut next = Some(first);
        while let Some(event) = next {
            self.take(event, &mut batch, &mut left);
            let stop = left.failed.is_some()
                || left.rebalance.is_some()
                || batch.len() >= limits.messages
                || batch.content_size() >= limits.bytes
                || (batch.len() % 64 == 63 && Instant::now() > until);
            next = if stop { None } else { self.queue.next() };
        }
        if batch.is_empty() {
            if let Some(error) = left.failed.take() {
                return Polled::Failed(error);
            }
            return left.rebalance.take().map_or(Polled::Nothing, Polled::Rebalance);
        }
        left.messages = batch.len();
        left.bytes = batch.content_size();
        Polled::Messages(batch)
    }

    /// Waits until something comes and takes it; `Nothing` at the deadline, and when `wake` is woken from
    /// elsewhere.
    pub fn wait_and_poll(&self, limits: Limits, wake: &Wake, deadline: Option<Instant>) -> Polled {
        loop {
            let polled = self.poll_now(limits);
            if !matches!(polled, Polled::Nothing) {
                return polled;
            }
            let alive = Instant::now() + SIGN_OF_LIFE;
            let until = deadline.map_or(alive, |deadline| deadline.min(alive));
            let waited = self.queue.wait(wake, Some(until));
            if waited == Waited::Woken || (waited == Waited::Late && deadline.is_some_and(|at| at <= Instant::now())) {
                return self.poll_now(limits);
            }
        }
    }

    fn take(&self, mut event: Event, batch: &mut Batch, left: &mut Left) {
        match event.kind() {
            Kind::Message => {
                while let Some(message) = event.next_message() {
                    // SAFETY: the message is live.
                    match unsafe { sys::message_error(message) } {
                        code::NO_ERROR => batch.push(message),
                        code => left.failed = Some(KafkaError::of(code)),
                    }
                }
            }
            Kind::Rebalance => {
                let rebalance = self.rebalance(&event);
                if self.listens.load(Ordering::Relaxed) {
                    left.rebalance = Some(rebalance);
                } else {
                    left.failed = self.acknowledge(&rebalance).err();
                }
            }
            Kind::Error => {
                let error = event.error();
                tracing::warn!(target: "librdkafka", name = error.name, fatal = error.fatal, "{}", error.message);
                if !is_only_news(&error) {
                    left.failed = Some(about(error, event.partition()));
                }
            }
            Kind::Commit => {
                let code = event.code();
                if code != code::NO_ERROR && code != code::NO_OFFSET {
                    let error = event.error();
                    tracing::warn!(target: "librdkafka", name = error.name, "a commit failed: {}", error.message);
                }
            }
            Kind::Delivery | Kind::Statistics | Kind::Token | Kind::Other => {}
        }
    }

    fn rebalance(&self, event: &Event) -> Rebalance {
        const ASSIGN: i32 = -175;
        // SAFETY: the client and the event live; the list belongs to the event and is copied; the protocol's name is
        // static.
        let (partitions, protocol) = unsafe {
            (
                Partitions::copy(sys::rd_kafka_event_topic_partition_list(event.as_ptr())),
                text(sys::rd_kafka_rebalance_protocol(self.client.as_ptr())),
            )
        };
        Rebalance {
            assigned: event.code() == ASSIGN,
            lost: self.assignment_lost(),
            cooperative: protocol == "COOPERATIVE",
            partitions,
        }
    }

    /// Answers a rebalance.
    pub fn acknowledge(&self, rebalance: &Rebalance) -> Result<(), KafkaError> {
        let (rk, list) = (self.client.as_ptr(), rebalance.partitions.as_ptr());
        // SAFETY: the client and the list live; an error that comes out is ours.
        unsafe {
            match (rebalance.assigned, rebalance.cooperative) {
                (true, true) => KafkaError::take(sys::rd_kafka_incremental_assign(rk, list)),
                (false, true) => KafkaError::take(sys::rd_kafka_incremental_unassign(rk, list)),
                (true, false) => KafkaError::check(sys::rd_kafka_assign(rk, list)),
                (false, false) => KafkaError::check(sys::rd_kafka_assign(rk, std::ptr::null())),
            }
        }
    }

    /// Leaves the group, committing what `enable.auto.commit` promises, until the deadline; false when it has passed.
    /// The handle itself ends with the drop.
    pub fn finish(&self, deadline: Instant) -> bool {
        // SAFETY: the client lives; the queue is ours and goes before the client.
        let Ok(queue) = (unsafe { Queue::own(sys::rd_kafka_queue_new(self.client.as_ptr())) }) else {
            return false;
        };
        // SAFETY: the client and the queue live. An error (it is closed already, or broken for good) leaves nothing to
        // wait for.
        if unsafe { KafkaError::take(sys::rd_kafka_consumer_close_queue(self.client.as_ptr(), queue.as_ptr())) }
            .is_err()
        {
            return true;
        }
        // SAFETY: the client lives.
        while unsafe { sys::rd_kafka_consumer_closed(self.client.as_ptr()) } == 0 {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            let slice = i32::try_from(remaining.as_millis().clamp(1, 100)).expect("a short slice");
            if let Some(event) = queue.next_within(slice) {
                if event.kind() == Kind::Rebalance {
                    // One that fails leaves a group that is being left anyway.
                    let _ = self.acknowledge(&self.rebalance(&event));
                }
            }
        }
        true
    }
}

/// Errors that librdkafka repairs by itself, by trying again.
fn is_only_news(error: &KafkaError) -> bool {
    !error.fatal && matches!(error.code, code::TRANSPORT | code::RESOLVE | code::ALL_BROKERS_DOWN)
}

fn about(error: KafkaError, partition: Option<(String, i32)>) -> KafkaError {
    match partition {
        Some((topic, number)) if number >= 0 => {
            KafkaError { message: format!("{topic}/{number}: {}", error.message), ..error }
        }
        _ => error,
    }
}
