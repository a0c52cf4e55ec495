//! A consumer's place in its group: partitions that come and go, and the leaving.
//!
//! A rebalance is answered by the poll that finds it, unless somebody wants to hear of it first: then the poll ends,
//! the listener works, and [`Consumer::acknowledge`] answers. Until then librdkafka gives no partition away. One that
//! comes behind messages is left to the next poll, so that an application that works its batches off before it polls
//! again never holds a message of a partition that is somebody else's.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use swarm_core::os::wake::Wake;

use super::Consumer;
use crate::error::{KafkaError, text};
use crate::partitions::{Partition, Partitions};
use crate::queue::{Event, Kind, Queue, Waited};
use crate::sys;

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
pub(super) struct Rebalance {
    assigned: bool,
    lost: bool,
    cooperative: bool,
    partitions: Partitions,
}

impl Consumer {
    /// True when the assignment was lost and its revocation has not been answered yet.
    pub fn assignment_lost(&self) -> bool {
        // SAFETY: the client lives.
        unsafe { sys::rd_kafka_assignment_lost(self.client.as_ptr()) != 0 }
    }

    /// True once the leaving of the group has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    pub(super) fn rebalance(&self, event: &Event) -> Rebalance {
        const ASSIGN: i32 = -175;
        // SAFETY: the client and the event live; the list belongs to the event and is copied; the protocol's name is
        // static.
        let (partitions, protocol) = unsafe {
            (
                Partitions::copy(sys::rd_kafka_event_topic_partition_list(event.as_ptr())),
                text(sys::rd_kafka_rebalance_protocol(self.client.as_ptr())),
            )
        };
        let assigned = event.code() == ASSIGN;
        if assigned {
            self.forget_pauses(&partitions);
        }
        Rebalance { assigned, lost: self.assignment_lost(), cooperative: protocol == "COOPERATIVE", partitions }
    }

    /// Resumes what comes back: librdkafka keeps the pause of a partition that was taken, and would not fetch from it.
    fn forget_pauses(&self, partitions: &Partitions) {
        // SAFETY: the list lives. It is copied, since the call writes into it.
        let list = unsafe { Partitions::copy(partitions.as_ptr()) };
        // What the client knows nothing of was not paused.
        let _ = self.pause(&list, false);
    }

    /// Keeps a rebalance until [`Consumer::acknowledge`], and says what a listener is to be told.
    pub(super) fn tell(&self, rebalance: Rebalance) -> Told {
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

    pub(super) fn answer(&self, rebalance: &Rebalance) -> Result<(), KafkaError> {
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
                match event.kind() {
                    Kind::Rebalance => return Leaving::Rebalance(self.tell(self.rebalance(&event))),
                    Kind::Commit => super::commits::log_failure(&event),
                    _ => {}
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
