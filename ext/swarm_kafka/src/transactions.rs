//! A producer's transactions. librdkafka's calls wait until they are done or their time is over, so they are made on a
//! thread that nobody needs meanwhile.

use std::time::Duration;

use crate::error::KafkaError;
use crate::offsets::{GroupMetadata, milliseconds};
use crate::partitions::Partitions;
use crate::producer::Producer;
use crate::sys;

impl Producer {
    /// Takes over the `transactional.id`: a producer that had it before is fenced off. Once, before the first
    /// transaction.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: the client lives; an error that comes out is ours, here and below.
        unsafe { KafkaError::take(sys::rd_kafka_init_transactions(self.client.as_ptr(), milliseconds(timeout))) }
    }

    /// Begins a transaction: what is produced from now on belongs to it.
    pub fn begin_transaction(&self) -> Result<(), KafkaError> {
        // SAFETY: as above.
        unsafe { KafkaError::take(sys::rd_kafka_begin_transaction(self.client.as_ptr())) }
    }

    /// Commits a consumer's offsets with the transaction.
    pub fn send_offsets(
        &self,
        offsets: &Partitions,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        // SAFETY: as above; the list and the metadata live.
        unsafe {
            KafkaError::take(sys::rd_kafka_send_offsets_to_transaction(
                self.client.as_ptr(),
                offsets.as_ptr(),
                group.as_ptr(),
                milliseconds(timeout),
            ))
        }
    }

    /// Flushes and commits. After a retriable error the same call goes on where it was.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: as above.
        unsafe { KafkaError::take(sys::rd_kafka_commit_transaction(self.client.as_ptr(), milliseconds(timeout))) }
    }

    /// Gives the transaction up, and what is queued of it.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        // SAFETY: as above.
        unsafe { KafkaError::take(sys::rd_kafka_abort_transaction(self.client.as_ptr(), milliseconds(timeout))) }
    }
}
