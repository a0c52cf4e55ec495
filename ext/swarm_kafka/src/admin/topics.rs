//! Topics and the cluster that has them.

use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

use super::{Admin, Answer, Objects, Options, c_string, done_or, make, parts, sys, text_of};
use crate::error::{KafkaError, code, text};
use crate::offsets::milliseconds;
use crate::partitions::Partitions;

/// librdkafka's call for metadata ends by nothing but its own time, so it gets little as long as there is no broker.
const WITHOUT_BROKER: Duration = Duration::from_millis(200);

/// A topic to be.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 is the broker's default.
    pub partitions: i32,
    /// How many copies of each; -1 is the broker's default.
    pub replication: i32,
    /// Its own configuration.
    pub config: Vec<(String, String)>,
}

impl Admin {
    /// Makes topics. name => true or the failure.
    pub fn create_topics(&self, topics: &[NewTopic], only_try: bool, timeout: Duration) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_NewTopic_destroy);
        for topic in topics {
            let name = c_string("the topic name", &topic.name)?;
            // SAFETY: the name ends in NUL and is copied, here and below; the object that comes out is ours.
            objects.push(make(|text, size| unsafe {
                sys::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, topic.replication, text, size)
            })?);
            for (name, value) in &topic.config {
                let (name, value) = (c_string("the property", name)?, c_string("the value", value)?);
                // SAFETY: the object lives; both strings end in NUL and are copied.
                let code = unsafe { sys::rd_kafka_NewTopic_set_config(objects.last(), name.as_ptr(), value.as_ptr()) };
                KafkaError::check(code)?;
            }
        }
        let options = Options::new(self, sys::op::CREATE_TOPICS, timeout)?.wait_for_the_end()?.only_try(only_try)?;
        let take = sys::rd_kafka_event_CreateTopics_result;
        let read = sys::rd_kafka_CreateTopics_result_topics;
        self.ask_topics(&options, &objects, sys::rd_kafka_CreateTopics, take, read)
    }

    /// Deletes topics. name => true or the failure.
    pub fn delete_topics(&self, names: &[String], timeout: Duration) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_DeleteTopic_destroy);
        for name in names {
            let name = c_string("the topic name", name)?;
            // SAFETY: as above.
            objects.push(unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) });
        }
        let options = Options::new(self, sys::op::DELETE_TOPICS, timeout)?.wait_for_the_end()?;
        let take = sys::rd_kafka_event_DeleteTopics_result;
        let read = sys::rd_kafka_DeleteTopics_result_topics;
        self.ask_topics(&options, &objects, sys::rd_kafka_DeleteTopics, take, read)
    }

    /// Gives topics more partitions: so many in the end. name => true or the failure.
    pub fn create_partitions(
        &self,
        totals: &[(String, usize)],
        only_try: bool,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_NewPartitions_destroy);
        for (name, total) in totals {
            let name = c_string("the topic name", name)?;
            // SAFETY: as above.
            objects.push(make(|text, size| unsafe {
                sys::rd_kafka_NewPartitions_new(name.as_ptr(), *total, text, size)
            })?);
        }
        let options =
            Options::new(self, sys::op::CREATE_PARTITIONS, timeout)?.wait_for_the_end()?.only_try(only_try)?;
        let take = sys::rd_kafka_event_CreatePartitions_result;
        let read = sys::rd_kafka_CreatePartitions_result_topics;
        self.ask_topics(&options, &objects, sys::rd_kafka_CreatePartitions, take, read)
    }

    fn ask_topics(
        &self,
        options: &Options,
        objects: &Objects,
        start: sys::Start,
        take: sys::Take,
        read: sys::Read,
    ) -> Result<Answer, KafkaError> {
        let mut items = Vec::new();
        self.ask_about(options, objects, start, take, read, |topic| {
            // SAFETY: the answers to these requests are of this kind, and live as long as their event; the texts are
            // copied.
            let (name, code, reason) = unsafe {
                (
                    text(sys::rd_kafka_topic_result_name(topic)),
                    sys::rd_kafka_topic_result_error(topic),
                    text(sys::rd_kafka_topic_result_error_string(topic)),
                )
            };
            items.push((name.into(), done_or(code, reason)));
            Answer::Nothing
        })?;
        Ok(Answer::Items(items))
    }

    /// Deletes what is before these offsets. topic => partition => the first offset that is left, or the failure.
    pub fn delete_records(&self, before: &Partitions, timeout: Duration) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_DeleteRecords_destroy);
        // SAFETY: the list lives and is copied.
        objects.push(unsafe { sys::rd_kafka_DeleteRecords_new(before.as_ptr()) });
        let options = Options::new(self, sys::op::DELETE_RECORDS, timeout)?.wait_for_the_end()?;
        let mut pointers = objects.pointers();
        let event = self.ask(&options, |client, options, queue| {
            let (objects, count) = (pointers.as_mut_ptr(), pointers.len());
            // SAFETY: client, objects, options and queue live.
            unsafe { sys::rd_kafka_DeleteRecords(client.as_ptr(), objects, count, options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives and is this request's answer; its list is copied.
        let left = unsafe {
            Partitions::copy(sys::rd_kafka_DeleteRecords_result_offsets(sys::rd_kafka_event_DeleteRecords_result(
                event.as_ptr(),
            )))
        };
        Ok(super::by_topic(&left.to_vec(), super::offset_or_failure))
    }

    /// name => what is known of the topic, or the failure.
    pub fn describe_topics(&self, names: &[String], timeout: Duration) -> Result<Answer, KafkaError> {
        if names.is_empty() {
            return Ok(Answer::Items(Vec::new()));
        }
        let names: Vec<_> = names.iter().map(|name| c_string("the topic name", name)).collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let mut collection = Objects::new(sys::rd_kafka_TopicCollection_destroy);
        // SAFETY: the names end in NUL and are copied.
        collection.push(unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) });
        let options = Options::new(self, sys::op::DESCRIBE_TOPICS, timeout)?;
        let event = self.ask(&options, |client, options, queue| {
            // SAFETY: client, collection, options and queue live.
            unsafe {
                sys::rd_kafka_DescribeTopics(client.as_ptr(), collection.last(), options.made, queue.as_ptr());
            }
        })?;
        // SAFETY: the event lives and is this request's answer, here and in what is called.
        let topics = unsafe {
            parts(sys::rd_kafka_event_DescribeTopics_result(event.as_ptr()), sys::rd_kafka_DescribeTopics_result_topics)
        };
        let described = topics.map(|topic| {
            // SAFETY: the part lives as long as the event; an error belongs to it.
            unsafe {
                let name = text_of(topic, sys::rd_kafka_TopicDescription_name);
                match KafkaError::read(sys::rd_kafka_TopicDescription_error(topic)) {
                    Some(failed) => (name, Answer::Failed(failed)),
                    None => (name.clone(), description(name, topic)),
                }
            }
        });
        Ok(Answer::Items(described.collect()))
    }

    /// Names of all topics, with the number of their partitions.
    pub fn topics(&self, timeout: Duration) -> Result<Answer, KafkaError> {
        let (began, mut slice) = (self.trouble.begin(&self.client), WITHOUT_BROKER);
        let metadata = loop {
            let rest = (began + timeout).saturating_duration_since(Instant::now());
            let mut metadata = std::ptr::null();
            // SAFETY: the client lives, no single topic is asked for, and the metadata that comes out is ours.
            let code = unsafe {
                crate::sys::rd_kafka_metadata(
                    self.client.as_ptr(),
                    1,
                    std::ptr::null_mut(),
                    &mut metadata,
                    milliseconds(rest.min(slice)),
                )
            };
            match code {
                code::NO_ERROR => break metadata,
                code::TRANSPORT if rest > slice => self.check_to_go_on(began)?,
                // A broker is there, and needs more time.
                code::TIMED_OUT if rest > slice => slice = Duration::MAX,
                code => return Err(self.trouble.explain(&self.client, KafkaError::of(code))),
            }
        };
        self.trouble.is_over();
        // SAFETY: the metadata lives until it is destroyed below; `topics` has `topic_cnt` elements, of which the names
        // are copied.
        let items = unsafe {
            let count = usize::try_from((*metadata).topic_cnt).unwrap_or(0);
            let topic = |index| (*metadata).topics.add(index);
            let name = |index| text((*topic(index)).topic);
            let partitions = |index| Answer::Number((*topic(index)).partition_cnt.into());
            let items = (0..count).map(|index| (name(index).into(), partitions(index))).collect();
            crate::sys::rd_kafka_metadata_destroy(metadata);
            items
        };
        Ok(Answer::Items(items))
    }

    /// The cluster's id, its controller and its brokers.
    pub fn cluster(&self, timeout: Duration) -> Result<Answer, KafkaError> {
        let options = Options::new(self, sys::op::DESCRIBE_CLUSTER, timeout)?;
        let event = self.ask(&options, |client, options, queue| {
            // SAFETY: client, options and queue live.
            unsafe { sys::rd_kafka_DescribeCluster(client.as_ptr(), options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives and is this request's answer; its parts live as long.
        unsafe {
            let result = sys::rd_kafka_event_DescribeCluster_result(event.as_ptr());
            Ok(Answer::Fields(vec![
                ("id", text_of(result, sys::rd_kafka_DescribeCluster_result_cluster_id)),
                ("controller", broker_id(sys::rd_kafka_DescribeCluster_result_controller(result))),
                (
                    "brokers",
                    Answer::List(
                        parts(result, sys::rd_kafka_DescribeCluster_result_nodes).map(|it| broker(it)).collect(),
                    ),
                ),
            ]))
        }
    }
}

/// # Safety
/// `topic` is a topic's description that lives.
unsafe fn description(name: Answer, topic: sys::Part) -> Answer {
    // SAFETY: the caller's promise; what the parts have lives as long.
    unsafe {
        let partitions = parts(topic, sys::rd_kafka_TopicDescription_partitions).map(|partition| {
            let ids = |read| Answer::List(parts(partition, read).map(|broker| broker_id(broker)).collect());
            Answer::Fields(vec![
                ("partition", Answer::Number(sys::rd_kafka_TopicPartitionInfo_partition(partition).into())),
                ("leader", broker_id(sys::rd_kafka_TopicPartitionInfo_leader(partition))),
                ("replicas", ids(sys::rd_kafka_TopicPartitionInfo_replicas)),
                ("in_sync", ids(sys::rd_kafka_TopicPartitionInfo_isr)),
            ])
        });
        Answer::Fields(vec![
            ("name", name),
            ("internal", Answer::Flag(sys::rd_kafka_TopicDescription_is_internal(topic) != 0)),
            ("partitions", Answer::List(partitions.collect())),
        ])
    }
}

/// # Safety
/// `node` is null or a broker that lives.
pub(super) unsafe fn broker_id(node: sys::Part) -> Answer {
    if node.is_null() {
        return Answer::Nothing;
    }
    // SAFETY: the caller's promise.
    let id = unsafe { sys::rd_kafka_Node_id(node) };
    if id < 0 { Answer::Nothing } else { Answer::Number(id.into()) }
}

/// # Safety
/// `node` is a broker that lives.
unsafe fn broker(node: sys::Part) -> Answer {
    // SAFETY: the caller's promise; the texts are copied.
    unsafe {
        let rack: *const c_char = sys::rd_kafka_Node_rack(node);
        let rack =
            if rack.is_null() || CStr::from_ptr(rack).is_empty() { Answer::Nothing } else { Answer::Text(text(rack)) };
        Answer::Fields(vec![
            ("id", broker_id(node)),
            ("host", text_of(node, sys::rd_kafka_Node_host)),
            ("port", Answer::Number(sys::rd_kafka_Node_port(node).into())),
            ("rack", rack),
        ])
    }
}
