//! The consumer.
//!
//! Everything comes out of one queue, in order: messages, rebalances, errors. A poll drains what is there, copies each
//! message and frees librdkafka's own at once; only when there is nothing does it wait, on a descriptor.
//!
//! A rebalance is answered by the poll that finds it, unless somebody wants to hear of it first: then the poll ends,
//! the listener works, and [`Consumer::acknowledge`] answers. Until then librdkafka gives no partition away. One that
//! comes behind messages is left to the next poll, so that an application that works its batches off before it polls
//! again never holds a message of a partition that is somebody else's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use swarm_core::fork_gate::Lease;
use swarm_core::os::wake::Wake;

use crate::batch::{Batch, Names};
use crate::client::{Client, Role, Token};
use crate::config::{Config, ConfigError, OpenError};
use crate::error::{KafkaError, code, text};
use crate::lines::Line;
use crate::offsets::Commits;
use crate::partitions::{Partition, Partitions};
use crate::queue::{Event, Kind, Queue, Waited};
use crate::repeats::Repeats;
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
    /// Something that the caller wants to hear of.
    Notice(Notice),
    /// An error that the caller should know.
    Failed(KafkaError),
}

/// Something that a listener hears of.
pub enum Notice {
    /// The listener works, then [`Consumer::acknowledge`] answers. Without a listener it is answered at once, or, when
    /// there were messages before it, by the next poll: then those have been worked on.
    Rebalance(Told),
    /// An error that librdkafka repairs by itself. Without a listener it stands in the log only.
    Error(KafkaError),
    /// The end of a partition: topic, partition, offset.
    End(String, i32, i64),
    /// Statistics, as JSON.
    Statistics(String),
    /// A new OAUTHBEARER token is wanted, for this configuration.
    Token(String),
    /// Log lines are there: [`Consumer::next_line`] gives them.
    Lines,
}

/// A set of kinds of notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(pub u8);

impl Wants {
    /// Rebalances.
    pub const REBALANCE: Self = Self(1);
    /// Errors that need no answer.
    pub const ERROR: Self = Self(2);
    /// Ends of partitions.
    pub const END: Self = Self(4);
    /// Statistics.
    pub const STATISTICS: Self = Self(8);
    /// Log lines.
    pub const LINES: Self = Self(16);
}

/// How far the leaving of the group is.
pub enum Leaving {
    /// The group is left.
    Done,
    /// A listener has to hear of this, then [`Consumer::acknowledge`] answers and the leaving goes on.
    Rebalance(Told),
    /// The deadline has passed, or the wait was ended from elsewhere.
    NotYet,
}

/// What a listener is told when the group gives or takes partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// True when partitions come, false when they go.
    pub assigned: bool,
    /// The group has given them to somebody else already: it is too late to commit.
    pub lost: bool,
    /// The partitions that come or go.
    pub partitions: Vec<Partition>,
}

/// A rebalance that librdkafka waits for the answer to.
struct Rebalance {
    assigned: bool,
    lost: bool,
    cooperative: bool,
    partitions: Partitions,
}

/// What an earlier poll has left for the next one.
#[derive(Default)]
struct Left {
    failed: Option<KafkaError>,
    notice: Option<Notice>,
    rebalance: Option<Rebalance>,
    repeats: Repeats,
    /// librdkafka puts statistics in front of all messages. Here they wait for their turn.
    statistics: VecDeque<String>,
    /// What was handed out last was not in the order of the queue: it is the queue's turn.
    queue_first: bool,
    names: Names,
    /// What the last batch held, for the size of the next.
    messages: usize,
    bytes: usize,
}

/// A member of a consumer group.
pub struct Consumer {
    left: Mutex<Left>,
    /// What a listener is hearing of.
    unanswered: Mutex<Option<Rebalance>>,
    wants: AtomicU8,
    leaving: OnceLock<Option<Queue>>,
    // The queues go before the client.
    pub(crate) commits: Mutex<Commits>,
    queue: Queue,
    pub(crate) client: Client,
}

/// A poll marks the application as alive, so a long wait polls this often; the least `max.poll.interval.ms` is 1 s.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// With the GVL held nobody else runs.
const DRAIN_TIME: Duration = Duration::from_millis(5);

impl Consumer {
    /// Makes one; `group.id` is needed. `tokens`: a poll tells when an OAUTHBEARER token is wanted.
    pub fn new(config: Config, tokens: bool, lease: Lease) -> Result<Self, OpenError> {
        if !config.has("group.id") {
            return Err(ConfigError(vec!["group.id: a consumer needs one".into()]).into());
        }
        let events = sys::RD_KAFKA_EVENT_REBALANCE
            | sys::RD_KAFKA_EVENT_ERROR
            | sys::RD_KAFKA_EVENT_STATS
            | sys::RD_KAFKA_EVENT_OFFSET_COMMIT
            | if tokens { sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH } else { 0 };
        let client = Client::new(Role::Consumer, config, events, lease)?;
        // SAFETY: the client lives; a consumer with a group.id has a group queue; the reference is ours and goes
        // before the client.
        let queue = unsafe {
            sys::rd_kafka_poll_set_consumer(client.as_ptr());
            Queue::own(sys::rd_kafka_queue_get_consumer(client.as_ptr()))
        }
        .map_err(|errno| OpenError::Refused(format!("no descriptor for the consumer's queue: {errno}")))?;
        Ok(Self {
            left: Mutex::default(),
            unanswered: Mutex::default(),
            wants: AtomicU8::new(0),
            leaving: OnceLock::new(),
            commits: Mutex::default(),
            queue,
            client,
        })
    }

    /// librdkafka's name of it.
    pub fn name(&self) -> String {
        self.client.name()
    }

    /// What a poll is to tell of; the rest is dealt with here, as [`Notice`] says.
    pub fn listen(&self, wants: Wants) {
        self.wants.store(wants.0, Ordering::Relaxed);
        self.client.lines().want(self.wants(Wants::LINES));
    }

    fn wants(&self, what: Wants) -> bool {
        self.wants.load(Ordering::Relaxed) & what.0 != 0
    }

    /// Takes these partitions without a group's doing, each from its offset on: from the committed one where it has
    /// none.
    pub fn assign(&self, partitions: &Partitions) -> Result<(), KafkaError> {
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe { sys::rd_kafka_assign(self.client.as_ptr(), partitions.as_ptr()) })
    }

    /// Hands out no more messages of these partitions, or does so again.
    pub fn pause(&self, partitions: &Partitions, pause: bool) -> Result<(), KafkaError> {
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe {
            if pause {
                sys::rd_kafka_pause_partitions(self.client.as_ptr(), partitions.as_ptr())
            } else {
                sys::rd_kafka_resume_partitions(self.client.as_ptr(), partitions.as_ptr())
            }
        })?;
        partitions.first_error()
    }

    /// The group's protocol: `EAGER`, `COOPERATIVE` or `NONE`.
    pub fn rebalance_protocol(&self) -> String {
        // SAFETY: the client lives; the name is static and is copied.
        unsafe { text(sys::rd_kafka_rebalance_protocol(self.client.as_ptr())) }
    }

    /// Answers [`Notice::Token`].
    pub fn set_token(&self, token: &Token) -> Result<(), KafkaError> {
        self.client.set_token(token)
    }

    /// Answers [`Notice::Token`] when there is no token; it is asked for again in a while.
    pub fn refuse_token(&self, reason: &str) {
        self.client.refuse_token(reason);
    }

    /// True once the leaving of the group has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// The queue that a poll reads.
    pub fn queue(&self) -> &Queue {
        &self.queue
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

    pub(crate) fn assigned(&self) -> Result<Partitions, KafkaError> {
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

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message, where it is there already and nothing is to be dealt with before it. Whatever else there is is
    /// left to [`Consumer::poll_now`].
    pub fn next_message(&self) -> Option<Batch> {
        let answered = self.acknowledge();
        let mut left = self.left();
        if let Err(failed) = answered {
            left.failed = Some(failed);
        }
        let beside = !left.queue_first && (self.client.lines().any() || !left.statistics.is_empty());
        if beside || left.failed.is_some() || left.notice.is_some() || left.rebalance.is_some() {
            return None;
        }
        let event = self.queue.next()?;
        if event.kind() != Kind::Message {
            self.look_at(&event, &mut left);
            return None;
        }
        left.queue_first = false;
        let mut batch = Batch::with_capacity(1, 0);
        left.failed = copy(event, &mut batch, &mut left.names).err();
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes what is there, for at most a few milliseconds, and never waits.
    pub fn poll_now(&self, limits: Limits) -> Polled {
        // Who polls on has dealt with what a listener was told.
        if let Err(failed) = self.acknowledge() {
            return Polled::Failed(failed);
        }
        let mut left = self.left();
        let queue_first = std::mem::take(&mut left.queue_first);
        let mut batch = None;
        let until = Instant::now() + DRAIN_TIME;
        loop {
            // What was left comes first; with messages in hand it waits for the next poll.
            if batch.is_none() {
                if let Some(error) = left.failed.take() {
                    return Polled::Failed(error);
                }
                if let Some(notice) = left.notice.take() {
                    return Polled::Notice(notice);
                }
                if let Some(rebalance) = left.rebalance.take() {
                    if self.wants(Wants::REBALANCE) {
                        return Polled::Notice(Notice::Rebalance(self.tell(rebalance)));
                    }
                    left.failed = self.answer(&rebalance).err();
                    continue;
                }
                if !queue_first {
                    if let Some(notice) = self.beside_the_queue(&mut left) {
                        return Polled::Notice(notice);
                    }
                }
            }
            let Some(event) = self.queue.next() else { break };
            if event.kind() == Kind::Message {
                let batch = batch.get_or_insert_with(|| {
                    Batch::with_capacity(left.messages.min(limits.messages), left.bytes.min(limits.bytes))
                });
                left.failed = copy(event, batch, &mut left.names).err();
                if batch.len() >= limits.messages
                    || batch.content_size() >= limits.bytes
                    || (batch.len() % 64 == 63 && Instant::now() > until)
                {
                    break;
                }
            } else {
                self.look_at(&event, &mut left);
            }
            if batch.is_some() && (left.failed.is_some() || left.notice.is_some() || left.rebalance.is_some()) {
                break;
            }
        }
        match batch {
            Some(batch) if !batch.is_empty() => {
                left.messages = batch.len();
                left.bytes = batch.content_size();
                Polled::Messages(batch)
            }
            _ => match left.failed.take() {
                Some(error) => Polled::Failed(error),
                None => self.beside_the_queue(&mut left).map_or(Polled::Nothing, Polled::Notice),
            },
        }
    }

    /// Lines and statistics come whatever the queue holds. The queue has every second turn, so that a listener that is
    /// slower than they come keeps no message back.
    fn beside_the_queue(&self, left: &mut Left) -> Option<Notice> {
        let notice = if self.client.lines().any() {
            Some(Notice::Lines)
        } else {
            left.statistics.pop_front().map(Notice::Statistics)
        };
        left.queue_first = notice.is_some();
        notice
    }

    /// The oldest log line that nobody has heard of.
    pub fn next_line(&self) -> Option<Line> {
        self.client.lines().next()
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

    fn look_at(&self, event: &Event, left: &mut Left) {
        match event.kind() {
            Kind::Rebalance => left.rebalance = Some(self.rebalance(event)),
            Kind::Error => self.look_at_error(event, left),
            Kind::Commit => {
                let code = event.code();
                if code != code::NO_ERROR && code != code::NO_OFFSET {
                    let error = event.error();
                    tracing::warn!(target: "librdkafka", name = error.name, "a commit failed: {}", error.message);
                }
            }
            Kind::Statistics if self.wants(Wants::STATISTICS) => {
                left.statistics.push_back(event.statistics());
            }
            Kind::Token => left.notice = Some(Notice::Token(event.token_config())),
            Kind::Message | Kind::Delivery | Kind::Statistics | Kind::Other => {}
        }
    }

    fn look_at_error(&self, event: &Event, left: &mut Left) {
        let error = event.error();
        let partition = event.partition();
        if error.code == code::PARTITION_EOF {
            if let (true, Some((topic, number, offset))) = (self.wants(Wants::END), partition) {
                left.notice = Some(Notice::End(topic, number, offset));
            }
            return;
        }
        tracing::warn!(target: "librdkafka", name = error.name, fatal = error.fatal, "{}", error.message);
        if !left.repeats.is_new(&error, Instant::now()) {
            return;
        }
        if !is_only_news(&error) {
            left.failed = Some(about(error, partition));
        } else if self.wants(Wants::ERROR) {
            left.notice = Some(Notice::Error(error));
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

    /// Keeps a rebalance until [`Consumer::acknowledge`], and says what a listener is to be told.
    fn tell(&self, rebalance: Rebalance) -> Told {
        let told =
            Told { assigned: rebalance.assigned, lost: rebalance.lost, partitions: rebalance.partitions.to_vec() };
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = Some(rebalance);
        told
    }

    /// Answers the rebalance that a listener was told of last; no more than once.
    pub fn acknowledge(&self) -> Result<(), KafkaError> {
        let told = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take();
        told.map_or(Ok(()), |rebalance| self.answer(&rebalance))
    }

    fn answer(&self, rebalance: &Rebalance) -> Result<(), KafkaError> {
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

    /// Goes on leaving the group, until it is left, a listener has to hear of something, the deadline passes, or `wake`
    /// is woken from elsewhere. The first call begins it; from then on a poll brings nothing.
    pub fn leave(&self, wake: &Wake, deadline: Instant) -> Leaving {
        // One that nobody has answered holds up the group.
        let _ = self.acknowledge();
        if let Some(rebalance) = self.left().rebalance.take() {
            return Leaving::Rebalance(self.tell(rebalance));
        }
        let queue = self.leaving.get_or_init(|| {
            self.client.hurry();
            // SAFETY: the client lives; the queue is ours and goes before the client.
            let queue = unsafe { Queue::own(sys::rd_kafka_queue_new(self.client.as_ptr())) }.ok()?;
            // SAFETY: the client and the queue live.
            let begun =
                unsafe { KafkaError::take(sys::rd_kafka_consumer_close_queue(self.client.as_ptr(), queue.as_ptr())) };
            begun.ok().map(|()| queue)
        });
        // Without a queue, or with a client that is broken for good, there is nothing to wait for.
        let Some(queue) = queue else { return Leaving::Done };
        loop {
            while let Some(event) = queue.next() {
                if event.kind() == Kind::Rebalance {
                    return Leaving::Rebalance(self.tell(self.rebalance(&event)));
                }
            }
            // SAFETY: the client lives.
            if unsafe { sys::rd_kafka_consumer_closed(self.client.as_ptr()) } != 0 {
                return Leaving::Done;
            }
            // That it is closed may come without an event.
            let slice = Instant::now() + Duration::from_millis(20);
            if queue.wait(wake, Some(deadline.min(slice))) == Waited::Woken || deadline <= Instant::now() {
                return Leaving::NotYet;
            }
        }
    }

    /// Leaves the group, committing what `enable.auto.commit` promises, until the deadline; false when it has passed.
    /// The handle itself ends with the drop.
    pub fn finish(&self, deadline: Instant) -> bool {
        let Ok(never) = Wake::new() else { return false };
        loop {
            match self.leave(&never, deadline) {
                Leaving::Done => return true,
                // One that fails leaves a group that is being left anyway.
                Leaving::Rebalance(_) => drop(self.acknowledge()),
                Leaving::NotYet if deadline <= Instant::now() => return false,
                Leaving::NotYet => {}
            }
        }
    }
}

/// Copies the message of an event, and frees librdkafka's own.
fn copy(mut event: Event, batch: &mut Batch, names: &mut Names) -> Result<(), KafkaError> {
    while let Some(message) = event.next_message() {
        // SAFETY: the message is live.
        match unsafe { sys::message_error(message) } {
            code::NO_ERROR => batch.push(message, names),
            code => return Err(KafkaError::of(code)),
        }
    }
    Ok(())
}

/// Errors that librdkafka repairs by itself, by trying again.
fn is_only_news(error: &KafkaError) -> bool {
    !error.fatal && matches!(error.code, code::TRANSPORT | code::RESOLVE | code::ALL_BROKERS_DOWN)
}

fn about(error: KafkaError, partition: Option<(String, i32, i64)>) -> KafkaError {
    match partition {
        Some((topic, number, _)) if number >= 0 => {
            KafkaError { message: format!("{topic}/{number}: {}", error.message), ..error }
        }
        _ => error,
    }
}
