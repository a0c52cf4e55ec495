//! Where partitions begin and end.

use std::time::Duration;

use super::{Admin, Answer, Options, by_topic, parts, sys};
use crate::error::{KafkaError, code};
use crate::partitions::{Partition, Partitions};

impl Admin {
    /// topic => partition => offset and timestamp, or the failure. What is asked for stands in the list as its offset: a
    /// moment in milliseconds, -1 for the end, -2 for the beginning, -3 for the newest timestamp.
    pub fn list_offsets(
        &self,
        asked: &Partitions,
        committed_only: bool,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        if asked.to_vec().is_empty() {
            return Ok(Answer::Items(Vec::new()));
        }
        let options = Options::new(self, sys::op::LIST_OFFSETS, timeout)?;
        // SAFETY: the options live; an error that comes out is ours.
        unsafe {
            KafkaError::take(sys::rd_kafka_AdminOptions_set_isolation_level(options.made, committed_only.into()))?;
        };
        let event = self.ask(&options, |client, options, queue| {
            // SAFETY: client, list, options and queue live.
            unsafe { sys::rd_kafka_ListOffsets(client.as_ptr(), asked.as_ptr(), options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives and is this request's answer; its parts live as long, and the text is copied.
        let found: Vec<_> = unsafe {
            parts(sys::rd_kafka_event_ListOffsets_result(event.as_ptr()), sys::rd_kafka_ListOffsets_result_infos)
                .map(|info| {
                    let element = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                    let partition = Partition {
                        topic: crate::error::text((*element).topic),
                        partition: (*element).partition,
                        offset: Some((*element).offset).filter(|offset| *offset >= 0),
                        code: crate::sys::partition_error(element),
                    };
                    (partition, sys::rd_kafka_ListOffsetsResultInfo_timestamp(info))
                })
                .collect()
        };
        let partitions: Vec<_> = found.iter().map(|(partition, _)| partition.clone()).collect();
        Ok(by_topic(&partitions, |partition| {
            if partition.code != code::NO_ERROR {
                return Answer::Failed(KafkaError::of(partition.code));
            }
            let timestamp = found.iter().find(|(other, _)| other == partition).map_or(-1, |(_, timestamp)| *timestamp);
            Answer::Fields(vec![
                ("offset", partition.offset.map_or(Answer::Nothing, Answer::Number)),
                ("timestamp_ms", if timestamp < 0 { Answer::Nothing } else { Answer::Number(timestamp) }),
            ])
        }))
    }
}
