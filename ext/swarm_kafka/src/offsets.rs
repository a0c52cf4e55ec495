//! Offsets: where a consumer stands, what its group has committed, and where a partition begins and ends.
//!
//! Calls with a `timeout` ask a broker and wait for the answer; nothing but the time ends that wait, so they are made on
//! a thread that nobody needs meanwhile.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use swarm_core::os::wake::Wake;

use crate::consumer::Consumer;
use crate::error::{KafkaError, code};
use crate::partitions::{Partition, Partitions};
use crate::queue::{Kind, Queue, Waited};
use crate::sys;

/// A commit under way.
pub struct CommitId(u64);

/// The queues to which results of commits come. They stay with the consumer, because they must not outlive it, while
/// who waits may leave it for a moment to run a trap handler.
#[derive(Default)]
pub(crate) struct Commits {
    next_id: u64,
    queues: HashMap<u64, Arc<Queue>>,
}

impl Consumer {
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
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe {
            sys::rd_kafka_committed(self.client.as_ptr(), list.as_ptr(), milliseconds(timeout))
        })?;
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

    /// Starts a commit and does not wait for its end: a failure is told by a poll. No list: the stored offsets.
    pub fn commit_later(&self, offsets: Option<&Partitions>) -> Result<(), KafkaError> {
        let list = offsets.map_or(std::ptr::null_mut(), Partitions::as_ptr);
        // SAFETY: client and queue live, and so does the list if there is one; there is no callback, so the result comes
        // to the queue.
        KafkaError::check(unsafe {
            sys::rd_kafka_commit_queue(self.client.as_ptr(), list, self.queue().as_ptr(), None, std::ptr::null_mut())
        })
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

    /// Goes to these offsets, each in its partition; the partitions have to be assigned.
    pub fn seek(&self, list: &Partitions, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: the client and the list live; an error that comes out is ours.
        unsafe {
            KafkaError::take(sys::rd_kafka_seek_partitions(
                self.client.as_ptr(),
                list.as_ptr(),
                milliseconds(timeout),
            ))?;
        }
        list.first_error()
    }

    /// The first offset of a partition and the one after its last. It asks the partition's leader.
    pub fn watermarks(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(i64, i64), KafkaError> {
        let topic = CString::new(topic)
            .map_err(|_| KafkaError::with(17, format!("the topic name {topic:?} holds a NUL byte")))?;
        let (mut low, mut high) = (0, 0);
        // SAFETY: the client lives; the name ends in NUL; both offsets are written before the call returns.
        KafkaError::check(unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.client.as_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
                milliseconds(timeout),
            )
        })?;
        Ok((low, high))
    }

    /// The first offset at or after a moment, which stands in the list as milliseconds since 1970; none where the
    /// partition ends before it.
    pub fn offsets_for_times(&self, list: &Partitions, timeout: Duration) -> Result<Vec<Partition>, KafkaError> {
        // SAFETY: the client and the list live.
        KafkaError::check(unsafe {
            sys::rd_kafka_offsets_for_times(self.client.as_ptr(), list.as_ptr(), milliseconds(timeout))
        })?;
        list.first_error()?;
        Ok(list.to_vec())
    }

    /// How many messages of each assigned partition the group has not committed yet.
    pub fn lag(&self, timeout: Duration) -> Result<Vec<Partition>, KafkaError> {
        let until = Instant::now() + timeout;
        let committed = self.committed(timeout)?;
        let lag = |partition: Partition| {
            let rest = until.saturating_duration_since(Instant::now());
            let (low, high) = self.watermarks(&partition.topic, partition.partition, rest)?;
            let done = partition.offset.unwrap_or(low).max(low);
            Ok(Partition { offset: Some((high - done).max(0)), ..partition })
        };
        committed.into_iter().map(lag).collect()
    }

    /// Who this member is, for a producer that commits its offsets within a transaction.
    pub fn group(&self) -> Option<GroupMetadata> {
        // SAFETY: the client lives, and the object that comes out is ours.
        unsafe { GroupMetadata::own(sys::rd_kafka_consumer_group_metadata(self.client.as_ptr())) }
    }
}

/// Who a member of a group is.
pub struct GroupMetadata(std::ptr::NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: it is a plain object with one owner.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// # Safety
    /// The caller hands the object over.
    unsafe fn own(metadata: *mut sys::rd_kafka_consumer_group_metadata_t) -> Option<Self> {
        std::ptr::NonNull::new(metadata).map(Self)
    }

    pub(crate) fn as_ptr(&self) -> *const sys::rd_kafka_consumer_group_metadata_t {
        self.0.as_ptr()
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: the object is ours.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}

/// librdkafka's way to write a timeout.
pub(crate) fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
