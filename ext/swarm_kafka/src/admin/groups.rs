//! Consumer groups and their offsets.

use std::ffi::c_int;
use std::time::Duration;

use super::{Admin, Answer, Objects, Options, by_topic, c_string, offset_or_failure, parts, sys, text_of};
use crate::error::{KafkaError, code};
use crate::partitions::Partitions;

const STATES: [&str; 6] = ["unknown", "preparing_rebalance", "completing_rebalance", "stable", "dead", "empty"];
const TYPES: [&str; 3] = ["unknown", "consumer", "classic"];

fn word(words: &[&str], number: c_int) -> Answer {
    let word = usize::try_from(number).ok().and_then(|number| words.get(number)).copied();
    Answer::Text(word.unwrap_or("unknown").to_owned())
}

impl Admin {
    /// name => what is known of the group without asking its coordinator. A broker that does not answer is an error:
    /// it may have groups that nobody else knows of.
    pub fn groups(&self, timeout: Duration) -> Result<Answer, KafkaError> {
        let options = Options::new(self, sys::op::LIST_GROUPS, timeout)?;
        let event = self.ask(&options, |client, options, queue| {
            // SAFETY: client, options and queue live.
            unsafe { sys::rd_kafka_ListConsumerGroups(client.as_ptr(), options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives and is this request's answer; its parts live as long, and the texts are copied.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.as_ptr());
            let first = parts(result, sys::rd_kafka_ListConsumerGroups_result_errors).next();
            if let Some(failed) = first.and_then(|error| KafkaError::read(error.cast())) {
                return Err(failed);
            }
            let groups = parts(result, sys::rd_kafka_ListConsumerGroups_result_valid).map(|group| {
                let name = text_of(group, sys::rd_kafka_ConsumerGroupListing_group_id);
                let simple = sys::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(group) != 0;
                let fields = vec![
                    ("name", name.clone()),
                    ("state", word(&STATES, sys::rd_kafka_ConsumerGroupListing_state(group))),
                    ("type", word(&TYPES, sys::rd_kafka_ConsumerGroupListing_type(group))),
                    ("simple", Answer::Flag(simple)),
                ];
                (name, Answer::Fields(fields))
            });
            Ok(Answer::Items(groups.collect()))
        }
    }

    /// name => what its coordinator knows of the group, or the failure.
    pub fn describe_groups(&self, names: &[String], timeout: Duration) -> Result<Answer, KafkaError> {
        if names.is_empty() {
            return Ok(Answer::Items(Vec::new()));
        }
        let names: Vec<_> = names.iter().map(|name| c_string("the group", name)).collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let options = Options::new(self, sys::op::DESCRIBE_GROUPS, timeout)?;
        let event = self.ask(&options, |client, options, queue| {
            let (names, count) = (pointers.as_mut_ptr(), pointers.len());
            // SAFETY: client, names, options and queue live; the names end in NUL and are copied.
            unsafe {
                sys::rd_kafka_DescribeConsumerGroups(client.as_ptr(), names, count, options.made, queue.as_ptr());
            }
        })?;
        // SAFETY: the event lives and is this request's answer; its parts live as long, and the texts are copied.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
            let groups = parts(result, sys::rd_kafka_DescribeConsumerGroups_result_groups).map(|group| {
                let name = text_of(group, sys::rd_kafka_ConsumerGroupDescription_group_id);
                match KafkaError::read(sys::rd_kafka_ConsumerGroupDescription_error(group)) {
                    Some(failed) => (name, Answer::Failed(failed)),
                    None => (name.clone(), description(name, group)),
                }
            });
            Ok(Answer::Items(groups.collect()))
        }
    }

    /// Deletes groups that have no members. name => true or the failure.
    pub fn delete_groups(&self, names: &[String], timeout: Duration) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_DeleteGroup_destroy);
        for name in names {
            let name = c_string("the group", name)?;
            // SAFETY: the name ends in NUL and is copied; the object that comes out is ours.
            objects.push(unsafe { sys::rd_kafka_DeleteGroup_new(name.as_ptr()) });
        }
        let options = Options::new(self, sys::op::DELETE_GROUPS, timeout)?;
        let mut items = Vec::new();
        self.ask_about(
            &options,
            &objects,
            sys::rd_kafka_DeleteGroups,
            sys::rd_kafka_event_DeleteGroups_result,
            sys::rd_kafka_DeleteGroups_result_groups,
            |group| {
                // SAFETY: the answer to this request consists of groups, which live as long as their event.
                let (name, failed) = unsafe {
                    (
                        text_of(group, sys::rd_kafka_group_result_name),
                        KafkaError::read(sys::rd_kafka_group_result_error(group)),
                    )
                };
                items.push((name, failed.map_or(Answer::Flag(true), Answer::Failed)));
                Answer::Nothing
            },
        )?;
        Ok(Answer::Items(items))
    }

    /// What the group has committed: topic => partition => offset or the failure. No list: all there is.
    pub fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&Partitions>,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        let options = Options::new(self, sys::op::LIST_GROUP_OFFSETS, timeout)?;
        // SAFETY: the options live; an error that comes out is ours. Offsets that a transaction under way may still
        // change are waited for.
        unsafe { KafkaError::take(sys::rd_kafka_AdminOptions_set_require_stable_offsets(options.made, 1))? };
        let kind = OffsetCall {
            make: sys::rd_kafka_ListConsumerGroupOffsets_new,
            destroy: sys::rd_kafka_ListConsumerGroupOffsets_destroy,
            start: sys::rd_kafka_ListConsumerGroupOffsets,
            take: sys::rd_kafka_event_ListConsumerGroupOffsets_result,
            read: sys::rd_kafka_ListConsumerGroupOffsets_result_groups,
        };
        let found = self.ask_offsets(&options, &kind, group, partitions)?;
        // Where nothing was committed there is nothing to tell.
        let known: Vec<_> = found.to_vec().into_iter().filter(|it| it.offset.is_some() || it.code != 0).collect();
        Ok(by_topic(&known, offset_or_failure))
    }

    /// Commits for a group that has no members: topic => partition => true or the failure.
    pub fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &Partitions,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        let options = Options::new(self, sys::op::ALTER_GROUP_OFFSETS, timeout)?;
        let kind = OffsetCall {
            make: sys::rd_kafka_AlterConsumerGroupOffsets_new,
            destroy: sys::rd_kafka_AlterConsumerGroupOffsets_destroy,
            start: sys::rd_kafka_AlterConsumerGroupOffsets,
            take: sys::rd_kafka_event_AlterConsumerGroupOffsets_result,
            read: sys::rd_kafka_AlterConsumerGroupOffsets_result_groups,
        };
        self.change_offsets(&options, &kind, group, offsets)
    }

    /// Forgets what a group has committed: topic => partition => true or the failure.
    pub fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &Partitions,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        let options = Options::new(self, sys::op::DELETE_GROUP_OFFSETS, timeout)?;
        let kind = OffsetCall {
            make: sys::rd_kafka_DeleteConsumerGroupOffsets_new,
            destroy: sys::rd_kafka_DeleteConsumerGroupOffsets_destroy,
            start: sys::rd_kafka_DeleteConsumerGroupOffsets,
            take: sys::rd_kafka_event_DeleteConsumerGroupOffsets_result,
            read: sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups,
        };
        self.change_offsets(&options, &kind, group, partitions)
    }

    fn change_offsets(
        &self,
        options: &Options,
        kind: &OffsetCall,
        group: &str,
        list: &Partitions,
    ) -> Result<Answer, KafkaError> {
        let changed = self.ask_offsets(options, kind, group, Some(list))?;
        Ok(by_topic(&changed.to_vec(), |partition| match partition.code {
            code::NO_ERROR => Answer::Flag(true),
            code => Answer::Failed(KafkaError::of(code)),
        }))
    }

    fn ask_offsets(
        &self,
        options: &Options,
        kind: &OffsetCall,
        group: &str,
        partitions: Option<&Partitions>,
    ) -> Result<Partitions, KafkaError> {
        let name = c_string("the group", group)?;
        let list = partitions.map_or(std::ptr::null_mut(), Partitions::as_ptr);
        let mut objects = Objects::new(kind.destroy);
        // SAFETY: the name ends in NUL, the list lives or is null, both are copied; the object that comes out is ours.
        objects.push(unsafe { (kind.make)(name.as_ptr(), list) });
        let mut failed = None;
        let mut found = Partitions::default();
        self.ask_about(options, &objects, kind.start, kind.take, kind.read, |group| {
            // SAFETY: the answers to these requests consist of groups, which live as long as their event; an error
            // belongs to its group, and the list is copied.
            unsafe {
                failed = KafkaError::read(sys::rd_kafka_group_result_error(group));
                found = Partitions::copy(sys::rd_kafka_group_result_partitions(group));
            }
            Answer::Nothing
        })?;
        failed.map_or(Ok(found), Err)
    }
}

type MakeOffsets =
    unsafe extern "C" fn(*const std::ffi::c_char, *const crate::sys::rd_kafka_topic_partition_list_t) -> sys::Made;

/// One of the three requests about a group's offsets: they differ in their functions only.
struct OffsetCall {
    make: MakeOffsets,
    destroy: unsafe extern "C" fn(sys::Made),
    start: sys::Start,
    take: sys::Take,
    read: sys::Read,
}

/// # Safety
/// `group` is a group's description that lives.
unsafe fn description(name: Answer, group: sys::Part) -> Answer {
    // SAFETY: the caller's promise; the group has as many members as it says.
    unsafe {
        let count = sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = (0..count).map(|index| member(sys::rd_kafka_ConsumerGroupDescription_member(group, index)));
        let simple = sys::rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(group) != 0;
        let coordinator = super::topics::broker_id(sys::rd_kafka_ConsumerGroupDescription_coordinator(group));
        Answer::Fields(vec![
            ("name", name),
            ("state", word(&STATES, sys::rd_kafka_ConsumerGroupDescription_state(group))),
            ("type", word(&TYPES, sys::rd_kafka_ConsumerGroupDescription_type(group))),
            ("simple", Answer::Flag(simple)),
            ("assignor", text_of(group, sys::rd_kafka_ConsumerGroupDescription_partition_assignor)),
            ("coordinator", coordinator),
            ("members", Answer::List(members.collect())),
        ])
    }
}

/// # Safety
/// `member` is a member of a description that lives.
unsafe fn member(member: sys::Part) -> Answer {
    // SAFETY: the caller's promise; the list belongs to the member and is copied.
    unsafe {
        let assignment = sys::rd_kafka_MemberDescription_assignment(member);
        let partitions = if assignment.is_null() {
            Partitions::default()
        } else {
            Partitions::copy(sys::rd_kafka_MemberAssignment_partitions(assignment))
        };
        let mut topics: Vec<(String, Vec<Answer>)> = Vec::new();
        for partition in partitions.to_vec() {
            let number = Answer::Number(partition.partition.into());
            match topics.iter_mut().find(|(topic, _)| *topic == partition.topic) {
                Some((_, known)) => known.push(number),
                None => topics.push((partition.topic, vec![number])),
            }
        }
        let topics = topics.into_iter().map(|(topic, numbers)| (topic.into(), Answer::List(numbers)));
        Answer::Fields(vec![
            ("id", text_of(member, sys::rd_kafka_MemberDescription_consumer_id)),
            ("instance_id", text_of(member, sys::rd_kafka_MemberDescription_group_instance_id)),
            ("client_id", text_of(member, sys::rd_kafka_MemberDescription_client_id)),
            ("host", text_of(member, sys::rd_kafka_MemberDescription_host)),
            ("assignment", Answer::Items(topics.collect())),
        ])
    }
}
