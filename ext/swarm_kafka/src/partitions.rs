//! Lists of topics, partitions and offsets, as librdkafka takes and gives them.

use std::ffi::CString;
use std::ptr::NonNull;

use crate::error::{KafkaError, text};
use crate::sys;

/// One partition of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset, where there is one.
    pub offset: Option<i64>,
    /// What went wrong with this partition alone; 0 for nothing.
    pub code: i32,
}

/// A list that Rust owns.
pub struct Partitions(NonNull<sys::rd_kafka_topic_partition_list_t>);

// SAFETY: the list is a plain object with one owner.
unsafe impl Send for Partitions {}

impl Default for Partitions {
    fn default() -> Self {
        // SAFETY: no precondition; librdkafka gives a list or aborts.
        unsafe { Self::own(sys::rd_kafka_topic_partition_list_new(8)) }.expect("a list")
    }
}

impl Partitions {
    /// Owns a list; `None` for null.
    ///
    /// # Safety
    /// The caller hands the list over.
    pub(crate) unsafe fn own(list: *mut sys::rd_kafka_topic_partition_list_t) -> Option<Self> {
        NonNull::new(list).map(Self)
    }

    /// Copies a list of librdkafka's; a null one is empty.
    ///
    /// # Safety
    /// `list` is null or points to a live list.
    pub(crate) unsafe fn copy(list: *const sys::rd_kafka_topic_partition_list_t) -> Self {
        if list.is_null() {
            return Self::default();
        }
        // SAFETY: the caller's promise; the copy is ours.
        unsafe { Self::own(sys::rd_kafka_topic_partition_list_copy(list)) }.expect("a copy")
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// Adds a partition. `offset`: where to start or what to commit; `epoch`: the leader's epoch, where known.
    pub fn add(&mut self, topic: &str, partition: i32, offset: Option<i64>, epoch: i32) -> Result<(), KafkaError> {
        let topic = CString::new(topic)
            .map_err(|_| KafkaError::with(17, format!("the topic name {topic:?} holds a NUL byte")))?;
        // SAFETY: the list is ours and the name ends in NUL and is copied; the element that comes back belongs to the
        // list and is written before anybody else can add to it.
        unsafe {
            let added = sys::rd_kafka_topic_partition_list_add(self.as_ptr(), topic.as_ptr(), partition);
            if let Some(offset) = offset {
                (*added).offset = offset;
            }
            if epoch >= 0 {
                sys::rd_kafka_topic_partition_set_leader_epoch(added, epoch);
            }
        }
        Ok(())
    }

    /// What stands in the list.
    pub fn to_vec(&self) -> Vec<Partition> {
        // SAFETY: the list is ours; `elems` has `cnt` live elements, or is null when `cnt` is 0.
        unsafe {
            let list = self.0.as_ref();
            let count = usize::try_from(list.cnt).unwrap_or(0);
            (0..count)
                .map(|i| {
                    let element = list.elems.add(i);
                    Partition {
                        topic: text((*element).topic),
                        partition: (*element).partition,
                        offset: Some((*element).offset).filter(|offset| *offset >= 0),
                        code: sys::partition_error(element),
                    }
                })
                .collect()
        }
    }

    /// The first partition's own error, if any has one.
    pub fn first_error(&self) -> Result<(), KafkaError> {
        match self.to_vec().into_iter().find(|partition| partition.code != 0) {
            None => Ok(()),
            Some(found) => {
                let error = KafkaError::of(found.code);
                let message = format!("{}/{}: {}", found.topic, found.partition, error.message);
                Err(KafkaError { message, ..error })
            }
        }
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: the list is ours.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.as_ptr()) };
    }
}
