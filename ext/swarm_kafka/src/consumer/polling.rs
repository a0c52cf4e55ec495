//! What a consumer's polls bring: messages, and what a listener hears of between them.

use std::time::{Duration, Instant};

use swarm_core::os::wake::Wake;

use super::Consumer;
use super::commits::Failing;
use super::rebalance::{Rebalance, Told};
use crate::batch::{Batch, Names};
use crate::error::{KafkaError, code};
use crate::lines::Line;
use crate::partitions::Partition;
use crate::queue::{Event, Kind, Waited};
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
    /// A commit that nobody waits for has failed, for these partitions. Without a listener it stands in the log only.
    Commit(KafkaError, Vec<Partition>),
    /// The end of a partition: topic, partition, offset.
    End(String, i32, i64),
    /// Statistics, as JSON, and how many older ones nobody has heard in time.
    Statistics(String, u64),
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

/// What an earlier poll has left for the next one.
#[derive(Default)]
pub(super) struct Left {
    failed: Option<KafkaError>,
    pub(super) notice: Option<Notice>,
    pub(super) rebalance: Option<Rebalance>,
    repeats: Repeats,
    pub(super) failing: Failing,
    /// librdkafka puts statistics in front of all messages. Here the newest wait for their turn, with the number of those
    /// that they have taken the place of.
    statistics: Option<(String, u64)>,
    /// What was handed out last was not in the order of the queue: it is the queue's turn.
    queue_first: bool,
    names: Names,
    /// What the last batch held, for the size of the next.
    messages: usize,
    bytes: usize,
}

/// A poll marks the application as alive, so a long wait polls this often; the least `max.poll.interval.ms` is 1 s.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// With the GVL held nobody else runs.
const DRAIN_TIME: Duration = Duration::from_millis(5);

impl Consumer {
    /// The next message, where it is there already and nothing is to be dealt with before it. Whatever else there is is
    /// left to [`Consumer::poll_now`].
    pub fn next_message(&self) -> Option<Batch> {
        let answered = self.acknowledge();
        let mut left = self.left();
        if let Err(failed) = answered {
            left.failed = Some(failed);
        }
        let beside = !left.queue_first && (self.client.lines().any() || left.statistics.is_some());
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
            left.statistics.take().map(|(json, missed)| Notice::Statistics(json, missed))
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
            Kind::Commit => self.look_at_commit(event, left),
            Kind::Statistics if self.wants(Wants::STATISTICS) => {
                let missed = left.statistics.take().map_or(0, |(_, missed)| missed + 1);
                left.statistics = Some((event.statistics(), missed));
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
