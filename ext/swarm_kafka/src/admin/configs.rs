//! Configurations of topics, brokers and groups.

use std::time::Duration;

use super::{Admin, Answer, Objects, Options, c_string, done_or, parts, sys, text_of};
use crate::error::{KafkaError, code, text};

/// What a configuration belongs to.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `rd_kafka_ResourceType_t`: 2 a topic, 3 a group, 4 a broker.
    pub kind: i32,
    /// The topic's or the group's name, the broker's id.
    pub name: String,
}

/// A change of one property.
#[derive(Clone, Debug)]
pub struct Change {
    /// The property.
    pub name: String,
    /// `rd_kafka_AlterConfigOpType_t`: 0 set, 1 back to the default, 2 append to the list, 3 take out of the list.
    pub operation: i32,
    /// The value; none to go back to the default.
    pub value: Option<String>,
}

const SOURCES: [&str; 9] = [
    "unknown",
    "dynamic_topic",
    "dynamic_broker",
    "dynamic_default_broker",
    "static_broker",
    "default",
    "unknown",
    "unknown",
    "group",
];

impl Admin {
    /// In the order of the resources: properties by their names, or the failure.
    pub fn describe_configs(&self, resources: &[Resource], timeout: Duration) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_ConfigResource_destroy);
        for resource in resources {
            push(&mut objects, resource)?;
        }
        let options = Options::new(self, sys::op::DESCRIBE_CONFIGS, timeout)?;
        let answers = self.ask_about(
            &options,
            &objects,
            sys::rd_kafka_DescribeConfigs,
            sys::rd_kafka_event_DescribeConfigs_result,
            sys::rd_kafka_DescribeConfigs_result_resources,
            |resource| {
                // SAFETY: the answer to this request consists of resources, which live as long as their event.
                unsafe {
                    result(resource, |resource| {
                        let entries = parts(resource, sys::rd_kafka_ConfigResource_configs);
                        Answer::Items(entries.map(|entry| property(entry)).collect())
                    })
                }
            },
        )?;
        Ok(Answer::List(answers))
    }

    /// Changes some properties and leaves the others. In the order of the resources: true, or the failure.
    pub fn alter_configs(
        &self,
        changes: &[(Resource, Vec<Change>)],
        only_try: bool,
        timeout: Duration,
    ) -> Result<Answer, KafkaError> {
        let mut objects = Objects::new(sys::rd_kafka_ConfigResource_destroy);
        for (resource, changes) in changes {
            push(&mut objects, resource)?;
            for change in changes {
                let name = c_string("the property", &change.name)?;
                let value = change.value.as_deref().map(|value| c_string("the value", value)).transpose()?;
                let value = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
                // SAFETY: the object lives; the strings end in NUL and are copied; an error that comes out is ours.
                unsafe {
                    KafkaError::take(sys::rd_kafka_ConfigResource_add_incremental_config(
                        objects.last(),
                        name.as_ptr(),
                        change.operation,
                        value,
                    ))?;
                }
            }
        }
        let options = Options::new(self, sys::op::ALTER_CONFIGS, timeout)?.only_try(only_try)?;
        let answers = self.ask_about(
            &options,
            &objects,
            sys::rd_kafka_IncrementalAlterConfigs,
            sys::rd_kafka_event_IncrementalAlterConfigs_result,
            sys::rd_kafka_IncrementalAlterConfigs_result_resources,
            // SAFETY: as above.
            |resource| unsafe { result(resource, |_| Answer::Flag(true)) },
        )?;
        Ok(Answer::List(answers))
    }
}

fn push(objects: &mut Objects, resource: &Resource) -> Result<(), KafkaError> {
    let name = c_string("the name", &resource.name)?;
    // SAFETY: the name ends in NUL and is copied; the object that comes out is ours.
    let made = unsafe { sys::rd_kafka_ConfigResource_new(resource.kind, name.as_ptr()) };
    if made.is_null() {
        let message = format!("{:?} has no configuration", resource.name);
        return Err(KafkaError::with(code::INVALID_ARG, message));
    }
    objects.push(made);
    Ok(())
}

/// Kind, name, and what has become of it.
///
/// # Safety
/// `resource` is a resource of an answer that lives.
unsafe fn result(resource: sys::Part, value: impl FnOnce(sys::Part) -> Answer) -> Answer {
    // SAFETY: the caller's promise; the texts are copied.
    unsafe {
        let reason = text(sys::rd_kafka_ConfigResource_error_string(resource));
        let outcome = match done_or(sys::rd_kafka_ConfigResource_error(resource), reason) {
            Answer::Flag(_) => value(resource),
            failed => failed,
        };
        Answer::List(vec![
            Answer::Number(sys::rd_kafka_ConfigResource_type(resource).into()),
            text_of(resource, sys::rd_kafka_ConfigResource_name),
            outcome,
        ])
    }
}

/// # Safety
/// `entry` is a property of an answer that lives.
unsafe fn property(entry: sys::Part) -> (Answer, Answer) {
    // SAFETY: the caller's promise; the texts are copied.
    unsafe {
        let name = text_of(entry, sys::rd_kafka_ConfigEntry_name);
        let source = usize::try_from(sys::rd_kafka_ConfigEntry_source(entry)).ok();
        let source = source.and_then(|source| SOURCES.get(source)).copied().unwrap_or(SOURCES[0]);
        let fields = vec![
            ("name", name.clone()),
            ("value", text_of(entry, sys::rd_kafka_ConfigEntry_value)),
            ("source", Answer::Text(source.to_owned())),
            ("read_only", Answer::Flag(sys::rd_kafka_ConfigEntry_is_read_only(entry) > 0)),
            ("sensitive", Answer::Flag(sys::rd_kafka_ConfigEntry_is_sensitive(entry) > 0)),
        ];
        (name, Answer::Fields(fields))
    }
}
