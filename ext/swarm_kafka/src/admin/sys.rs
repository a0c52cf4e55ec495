//! librdkafka's admin interface.
//!
//! It has some forty types, each made, passed on or read by functions of its own and never looked into, so here each is
//! a pointer to nothing in particular. Enums are integers: a broker may send a value that this version does not know,
//! which a Rust enum must not hold.

use std::ffi::{c_char, c_int, c_void};

use crate::sys::{rd_kafka_error_t, rd_kafka_event_t, rd_kafka_queue_t, rd_kafka_t, rd_kafka_topic_partition_list_t};

/// An object that was made for a request.
pub type Made = *mut c_void;
/// A part of an answer, which lives as long as its event.
pub type Part = *const c_void;
/// An array of such parts.
pub type Parts = *const Part;

/// Which request: `rd_kafka_admin_op_t`.
pub mod op {
    use std::ffi::c_int;

    pub const CREATE_TOPICS: c_int = 1;
    pub const DELETE_TOPICS: c_int = 2;
    pub const CREATE_PARTITIONS: c_int = 3;
    pub const DESCRIBE_CONFIGS: c_int = 5;
    pub const DELETE_RECORDS: c_int = 6;
    pub const DELETE_GROUPS: c_int = 7;
    pub const DELETE_GROUP_OFFSETS: c_int = 8;
    pub const CREATE_ACLS: c_int = 9;
    pub const DESCRIBE_ACLS: c_int = 10;
    pub const DELETE_ACLS: c_int = 11;
    pub const LIST_GROUPS: c_int = 12;
    pub const DESCRIBE_GROUPS: c_int = 13;
    pub const LIST_GROUP_OFFSETS: c_int = 14;
    pub const ALTER_GROUP_OFFSETS: c_int = 15;
    pub const ALTER_CONFIGS: c_int = 16;
    pub const DESCRIBE_TOPICS: c_int = 19;
    pub const DESCRIBE_CLUSTER: c_int = 20;
    pub const LIST_OFFSETS: c_int = 21;
}

/// How a request begins: the client, the objects with their number, the options, the queue for the answer.
pub type Start = unsafe extern "C" fn(*mut rd_kafka_t, *mut Made, usize, Made, *mut rd_kafka_queue_t);
/// How an array is read off a part.
pub type Read = unsafe extern "C" fn(Part, *mut usize) -> Parts;
/// How a text is read off a part.
pub type ReadText = unsafe extern "C" fn(Part) -> *const c_char;
/// How the answer is taken out of an event.
pub type Take = unsafe extern "C" fn(*mut rd_kafka_event_t) -> Part;

#[allow(clashing_extern_declarations, reason = "an int has the same ABI as a C enum, and a pointer as any other")]
unsafe extern "C" {
    pub fn rd_kafka_AdminOptions_new(rk: *mut rd_kafka_t, op: c_int) -> Made;
    pub fn rd_kafka_AdminOptions_destroy(options: Made);
    pub fn rd_kafka_AdminOptions_set_request_timeout(o: Made, ms: c_int, text: *mut c_char, size: usize) -> c_int;
    pub fn rd_kafka_AdminOptions_set_operation_timeout(o: Made, ms: c_int, text: *mut c_char, size: usize) -> c_int;
    pub fn rd_kafka_AdminOptions_set_validate_only(o: Made, on: c_int, text: *mut c_char, size: usize) -> c_int;
    pub fn rd_kafka_AdminOptions_set_isolation_level(o: Made, level: c_int) -> *mut rd_kafka_error_t;
    pub fn rd_kafka_AdminOptions_set_require_stable_offsets(o: Made, on: c_int) -> *mut rd_kafka_error_t;

    pub fn rd_kafka_NewTopic_new(n: *const c_char, p: c_int, r: c_int, text: *mut c_char, size: usize) -> Made;
    pub fn rd_kafka_NewTopic_destroy(topic: Made);
    pub fn rd_kafka_NewTopic_set_config(topic: Made, name: *const c_char, value: *const c_char) -> c_int;
    pub fn rd_kafka_CreateTopics(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_CreateTopics_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_CreateTopics_result_topics(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_topic_result_error(result: Part) -> c_int;
    pub fn rd_kafka_topic_result_error_string(result: Part) -> *const c_char;
    pub fn rd_kafka_topic_result_name(result: Part) -> *const c_char;

    pub fn rd_kafka_DeleteTopic_new(name: *const c_char) -> Made;
    pub fn rd_kafka_DeleteTopic_destroy(topic: Made);
    pub fn rd_kafka_DeleteTopics(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DeleteTopics_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DeleteTopics_result_topics(result: Part, count: *mut usize) -> Parts;

    pub fn rd_kafka_NewPartitions_new(name: *const c_char, total: usize, text: *mut c_char, size: usize) -> Made;
    pub fn rd_kafka_NewPartitions_destroy(partitions: Made);
    pub fn rd_kafka_CreatePartitions(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_CreatePartitions_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_CreatePartitions_result_topics(result: Part, count: *mut usize) -> Parts;

    pub fn rd_kafka_DeleteRecords_new(before: *const rd_kafka_topic_partition_list_t) -> Made;
    pub fn rd_kafka_DeleteRecords_destroy(records: Made);
    pub fn rd_kafka_DeleteRecords(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DeleteRecords_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DeleteRecords_result_offsets(result: Part) -> *const rd_kafka_topic_partition_list_t;

    pub fn rd_kafka_TopicCollection_of_topic_names(names: *mut *const c_char, count: usize) -> Made;
    pub fn rd_kafka_TopicCollection_destroy(topics: Made);
    pub fn rd_kafka_DescribeTopics(rk: *mut rd_kafka_t, topics: Made, options: Made, queue: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DescribeTopics_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DescribeTopics_result_topics(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_TopicDescription_name(topic: Part) -> *const c_char;
    pub fn rd_kafka_TopicDescription_error(topic: Part) -> *const rd_kafka_error_t;
    pub fn rd_kafka_TopicDescription_is_internal(topic: Part) -> c_int;
    pub fn rd_kafka_TopicDescription_partitions(topic: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_TopicPartitionInfo_partition(partition: Part) -> c_int;
    pub fn rd_kafka_TopicPartitionInfo_leader(partition: Part) -> Part;
    pub fn rd_kafka_TopicPartitionInfo_isr(partition: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_TopicPartitionInfo_replicas(partition: Part, count: *mut usize) -> Parts;

    pub fn rd_kafka_DescribeCluster(rk: *mut rd_kafka_t, options: Made, queue: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DescribeCluster_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DescribeCluster_result_nodes(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_DescribeCluster_result_controller(result: Part) -> Part;
    pub fn rd_kafka_DescribeCluster_result_cluster_id(result: Part) -> *const c_char;
    pub fn rd_kafka_Node_id(node: Part) -> c_int;
    pub fn rd_kafka_Node_host(node: Part) -> *const c_char;
    pub fn rd_kafka_Node_port(node: Part) -> u16;
    pub fn rd_kafka_Node_rack(node: Part) -> *const c_char;

    pub fn rd_kafka_ConfigResource_new(kind: c_int, name: *const c_char) -> Made;
    pub fn rd_kafka_ConfigResource_destroy(resource: Made);
    pub fn rd_kafka_ConfigResource_add_incremental_config(
        resource: Made,
        name: *const c_char,
        operation: c_int,
        value: *const c_char,
    ) -> *mut rd_kafka_error_t;
    pub fn rd_kafka_ConfigResource_type(resource: Part) -> c_int;
    pub fn rd_kafka_ConfigResource_name(resource: Part) -> *const c_char;
    pub fn rd_kafka_ConfigResource_error(resource: Part) -> c_int;
    pub fn rd_kafka_ConfigResource_error_string(resource: Part) -> *const c_char;
    pub fn rd_kafka_ConfigResource_configs(resource: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_ConfigEntry_name(entry: Part) -> *const c_char;
    pub fn rd_kafka_ConfigEntry_value(entry: Part) -> *const c_char;
    pub fn rd_kafka_ConfigEntry_source(entry: Part) -> c_int;
    pub fn rd_kafka_ConfigEntry_is_read_only(entry: Part) -> c_int;
    pub fn rd_kafka_ConfigEntry_is_sensitive(entry: Part) -> c_int;
    pub fn rd_kafka_DescribeConfigs(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DescribeConfigs_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DescribeConfigs_result_resources(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_IncrementalAlterConfigs(
        k: *mut rd_kafka_t,
        m: *mut Made,
        n: usize,
        o: Made,
        q: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_IncrementalAlterConfigs_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_IncrementalAlterConfigs_result_resources(result: Part, count: *mut usize) -> Parts;

    pub fn rd_kafka_ListConsumerGroups(rk: *mut rd_kafka_t, options: Made, queue: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_ListConsumerGroups_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_ListConsumerGroups_result_valid(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_ListConsumerGroups_result_errors(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_ConsumerGroupListing_group_id(group: Part) -> *const c_char;
    pub fn rd_kafka_ConsumerGroupListing_is_simple_consumer_group(group: Part) -> c_int;
    pub fn rd_kafka_ConsumerGroupListing_state(group: Part) -> c_int;
    pub fn rd_kafka_ConsumerGroupListing_type(group: Part) -> c_int;
    pub fn rd_kafka_DescribeConsumerGroups(
        rk: *mut rd_kafka_t,
        groups: *mut *const c_char,
        count: usize,
        options: Made,
        queue: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_DescribeConsumerGroups_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DescribeConsumerGroups_result_groups(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_ConsumerGroupDescription_group_id(group: Part) -> *const c_char;
    pub fn rd_kafka_ConsumerGroupDescription_error(group: Part) -> *const rd_kafka_error_t;
    pub fn rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(group: Part) -> c_int;
    pub fn rd_kafka_ConsumerGroupDescription_partition_assignor(group: Part) -> *const c_char;
    pub fn rd_kafka_ConsumerGroupDescription_state(group: Part) -> c_int;
    pub fn rd_kafka_ConsumerGroupDescription_type(group: Part) -> c_int;
    pub fn rd_kafka_ConsumerGroupDescription_coordinator(group: Part) -> Part;
    pub fn rd_kafka_ConsumerGroupDescription_member_count(group: Part) -> usize;
    pub fn rd_kafka_ConsumerGroupDescription_member(group: Part, index: usize) -> Part;
    pub fn rd_kafka_MemberDescription_client_id(member: Part) -> *const c_char;
    pub fn rd_kafka_MemberDescription_group_instance_id(member: Part) -> *const c_char;
    pub fn rd_kafka_MemberDescription_consumer_id(member: Part) -> *const c_char;
    pub fn rd_kafka_MemberDescription_host(member: Part) -> *const c_char;
    pub fn rd_kafka_MemberDescription_assignment(member: Part) -> Part;
    pub fn rd_kafka_MemberAssignment_partitions(assignment: Part) -> *const rd_kafka_topic_partition_list_t;

    pub fn rd_kafka_DeleteGroup_new(group: *const c_char) -> Made;
    pub fn rd_kafka_DeleteGroup_destroy(group: Made);
    pub fn rd_kafka_DeleteGroups(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DeleteGroups_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DeleteGroups_result_groups(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_group_result_error(result: Part) -> *const rd_kafka_error_t;
    pub fn rd_kafka_group_result_name(result: Part) -> *const c_char;
    pub fn rd_kafka_group_result_partitions(result: Part) -> *const rd_kafka_topic_partition_list_t;

    pub fn rd_kafka_ListConsumerGroupOffsets_new(g: *const c_char, p: *const rd_kafka_topic_partition_list_t) -> Made;
    pub fn rd_kafka_ListConsumerGroupOffsets_destroy(request: Made);
    pub fn rd_kafka_ListConsumerGroupOffsets(
        k: *mut rd_kafka_t,
        m: *mut Made,
        n: usize,
        o: Made,
        q: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_ListConsumerGroupOffsets_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_ListConsumerGroupOffsets_result_groups(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_AlterConsumerGroupOffsets_new(g: *const c_char, p: *const rd_kafka_topic_partition_list_t) -> Made;
    pub fn rd_kafka_AlterConsumerGroupOffsets_destroy(request: Made);
    pub fn rd_kafka_AlterConsumerGroupOffsets(
        k: *mut rd_kafka_t,
        m: *mut Made,
        n: usize,
        o: Made,
        q: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_AlterConsumerGroupOffsets_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_AlterConsumerGroupOffsets_result_groups(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_DeleteConsumerGroupOffsets_new(g: *const c_char, p: *const rd_kafka_topic_partition_list_t)
    -> Made;
    pub fn rd_kafka_DeleteConsumerGroupOffsets_destroy(request: Made);
    pub fn rd_kafka_DeleteConsumerGroupOffsets(
        k: *mut rd_kafka_t,
        m: *mut Made,
        n: usize,
        o: Made,
        q: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_DeleteConsumerGroupOffsets_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DeleteConsumerGroupOffsets_result_groups(result: Part, count: *mut usize) -> Parts;

    pub fn rd_kafka_ListOffsets(
        rk: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
        options: Made,
        queue: *mut rd_kafka_queue_t,
    );
    pub fn rd_kafka_event_ListOffsets_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_ListOffsets_result_infos(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_ListOffsetsResultInfo_topic_partition(info: Part) -> *const crate::sys::rd_kafka_topic_partition_t;
    pub fn rd_kafka_ListOffsetsResultInfo_timestamp(info: Part) -> i64;

    pub fn rd_kafka_AclBinding_new(
        resource: c_int,
        name: *const c_char,
        pattern: c_int,
        principal: *const c_char,
        host: *const c_char,
        operation: c_int,
        permission: c_int,
        text: *mut c_char,
        size: usize,
    ) -> Made;
    pub fn rd_kafka_AclBindingFilter_new(
        resource: c_int,
        name: *const c_char,
        pattern: c_int,
        principal: *const c_char,
        host: *const c_char,
        operation: c_int,
        permission: c_int,
        text: *mut c_char,
        size: usize,
    ) -> Made;
    pub fn rd_kafka_AclBinding_destroy(acl: Made);
    pub fn rd_kafka_AclBinding_restype(acl: Part) -> c_int;
    pub fn rd_kafka_AclBinding_name(acl: Part) -> *const c_char;
    pub fn rd_kafka_AclBinding_principal(acl: Part) -> *const c_char;
    pub fn rd_kafka_AclBinding_host(acl: Part) -> *const c_char;
    pub fn rd_kafka_AclBinding_operation(acl: Part) -> c_int;
    pub fn rd_kafka_AclBinding_permission_type(acl: Part) -> c_int;
    pub fn rd_kafka_AclBinding_resource_pattern_type(acl: Part) -> c_int;
    pub fn rd_kafka_acl_result_error(result: Part) -> *const rd_kafka_error_t;
    pub fn rd_kafka_CreateAcls(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_CreateAcls_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_CreateAcls_result_acls(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_DescribeAcls(rk: *mut rd_kafka_t, filter: Made, options: Made, queue: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DescribeAcls_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DescribeAcls_result_acls(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_DeleteAcls(k: *mut rd_kafka_t, m: *mut Made, n: usize, o: Made, q: *mut rd_kafka_queue_t);
    pub fn rd_kafka_event_DeleteAcls_result(event: *mut rd_kafka_event_t) -> Part;
    pub fn rd_kafka_DeleteAcls_result_responses(result: Part, count: *mut usize) -> Parts;
    pub fn rd_kafka_DeleteAcls_result_response_error(response: Part) -> *const rd_kafka_error_t;
    pub fn rd_kafka_DeleteAcls_result_response_matching_acls(response: Part, count: *mut usize) -> Parts;
}
