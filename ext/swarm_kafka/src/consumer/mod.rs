//! The consumer.
//!
//! Everything comes out of one queue, in order: messages, rebalances, errors. A poll drains what is there, copies each
//! message and frees librdkafka's own at once; only when there is nothing does it wait, on a descriptor.

mod commits;
mod polling;
mod rebalance;

pub use polling::{Limits, Notice, Polled, Wants};
pub use rebalance::{Leaving, Told};

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use swarm_core::fork_gate::Lease;

use crate::client::{Bearer, Client, Role, Token};
use crate::config::{Config, ConfigError, OpenError};
use crate::error::{KafkaError, text};
use crate::offsets::Commits;
use crate::partitions::{Partition, Partitions};
use crate::queue::Queue;
use crate::sys;
use polling::Left;
use rebalance::Rebalance;

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

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bearer for Consumer {
    fn set_token(&self, token: &Token) -> Result<(), KafkaError> {
        self.client.set_token(token)
    }

    fn refuse_token(&self, reason: &str) {
        self.client.refuse_token(reason);
    }
}
