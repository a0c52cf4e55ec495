//! librdkafka's C interface as this crate sees it.
//!
//! `rdkafka-sys` gives error codes as a Rust enum. A code that a newer broker sends and this enum lacks would be an
//! invalid value, which is undefined behaviour. So every function that passes such a code is declared here again, with
//! an integer, and a code in a struct is read as one.

use std::ffi::{c_char, c_int, c_void};

pub use rdkafka_sys::bindings::rd_kafka_vu_s__bindgen_ty_1 as rd_kafka_field_t;
pub use rdkafka_sys::bindings::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 as rd_kafka_bytes_t;

pub use rdkafka_sys::bindings::{
    RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE, RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_FETCH,
    RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH, RD_KAFKA_EVENT_OFFSET_COMMIT, RD_KAFKA_EVENT_REBALANCE,
    RD_KAFKA_EVENT_STATS, RD_KAFKA_MSG_F_COPY, RD_KAFKA_PURGE_F_INFLIGHT, RD_KAFKA_PURGE_F_QUEUE,
    rd_kafka_abort_transaction, rd_kafka_assignment_lost, rd_kafka_begin_transaction, rd_kafka_commit_transaction,
    rd_kafka_conf_destroy, rd_kafka_conf_dump, rd_kafka_conf_dump_free, rd_kafka_conf_new,
    rd_kafka_conf_properties_show, rd_kafka_conf_res_t, rd_kafka_conf_set, rd_kafka_conf_set_connect_cb,
    rd_kafka_conf_set_events, rd_kafka_conf_set_log_cb, rd_kafka_conf_set_opaque, rd_kafka_conf_set_socket_cb,
    rd_kafka_conf_t, rd_kafka_consumer_close_queue, rd_kafka_consumer_closed, rd_kafka_consumer_group_metadata,
    rd_kafka_consumer_group_metadata_destroy, rd_kafka_consumer_group_metadata_t, rd_kafka_destroy_flags,
    rd_kafka_error_destroy, rd_kafka_error_is_fatal, rd_kafka_error_is_retriable, rd_kafka_error_string,
    rd_kafka_error_t, rd_kafka_error_txn_requires_abort, rd_kafka_event_config_string, rd_kafka_event_destroy,
    rd_kafka_event_error_is_fatal, rd_kafka_event_error_string, rd_kafka_event_message_next, rd_kafka_event_stats,
    rd_kafka_event_t, rd_kafka_event_topic_partition, rd_kafka_event_topic_partition_list, rd_kafka_event_type,
    rd_kafka_headers_destroy, rd_kafka_headers_new, rd_kafka_headers_t, rd_kafka_incremental_assign,
    rd_kafka_incremental_unassign, rd_kafka_init_transactions, rd_kafka_message_leader_epoch, rd_kafka_message_t,
    rd_kafka_message_timestamp, rd_kafka_metadata_destroy, rd_kafka_mock_cluster_bootstraps,
    rd_kafka_mock_cluster_destroy, rd_kafka_mock_cluster_new, rd_kafka_mock_cluster_t,
    rd_kafka_mock_group_initial_rebalance_delay_ms, rd_kafka_mock_set_group_consumer_heartbeat_interval_ms,
    rd_kafka_mock_set_group_consumer_session_timeout_ms, rd_kafka_name, rd_kafka_new, rd_kafka_opaque,
    rd_kafka_produceva, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer, rd_kafka_queue_get_main,
    rd_kafka_queue_io_event_enable, rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_queue_t, rd_kafka_queue_yield,
    rd_kafka_rebalance_protocol, rd_kafka_seek_partitions, rd_kafka_send_offsets_to_transaction, rd_kafka_t,
    rd_kafka_timestamp_type_t, rd_kafka_topic_destroy, rd_kafka_topic_name, rd_kafka_topic_new,
    rd_kafka_topic_partition_destroy, rd_kafka_topic_partition_list_add, rd_kafka_topic_partition_list_copy,
    rd_kafka_topic_partition_list_destroy, rd_kafka_topic_partition_list_new, rd_kafka_topic_partition_list_t,
    rd_kafka_topic_partition_set_leader_epoch, rd_kafka_topic_partition_t, rd_kafka_topic_t, rd_kafka_type_t,
    rd_kafka_vtype_t, rd_kafka_vu_t,
};

#[allow(clashing_extern_declarations, reason = "an int has the same ABI as a C enum, and any value is valid")]
unsafe extern "C" {
    pub fn rd_kafka_err2name(code: c_int) -> *const c_char;
    pub fn rd_kafka_err2str(code: c_int) -> *const c_char;
    pub fn rd_kafka_last_error() -> c_int;
    pub fn rd_kafka_error_code(error: *const rd_kafka_error_t) -> c_int;
    pub fn rd_kafka_fatal_error(rk: *mut rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
    pub fn rd_kafka_event_error(event: *mut rd_kafka_event_t) -> c_int;
    pub fn rd_kafka_poll_set_consumer(rk: *mut rd_kafka_t) -> c_int;
    pub fn rd_kafka_subscribe(rk: *mut rd_kafka_t, topics: *const rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_unsubscribe(rk: *mut rd_kafka_t) -> c_int;
    pub fn rd_kafka_subscription(rk: *mut rd_kafka_t, topics: *mut *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_assign(rk: *mut rd_kafka_t, partitions: *const rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_assignment(rk: *mut rd_kafka_t, partitions: *mut *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_position(rk: *mut rd_kafka_t, partitions: *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_committed(
        rk: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
    pub fn rd_kafka_offsets_store(rk: *mut rd_kafka_t, offsets: *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_commit_queue(
        rk: *mut rd_kafka_t,
        offsets: *const rd_kafka_topic_partition_list_t,
        queue: *mut rd_kafka_queue_t,
        callback: Option<
            unsafe extern "C" fn(*mut rd_kafka_t, c_int, *mut rd_kafka_topic_partition_list_t, *mut c_void),
        >,
        opaque: *mut c_void,
    ) -> c_int;
    pub fn rd_kafka_pause_partitions(rk: *mut rd_kafka_t, list: *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_resume_partitions(rk: *mut rd_kafka_t, list: *mut rd_kafka_topic_partition_list_t) -> c_int;
    pub fn rd_kafka_query_watermark_offsets(
        rk: *mut rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
        timeout_ms: c_int,
    ) -> c_int;
    pub fn rd_kafka_offsets_for_times(
        rk: *mut rd_kafka_t,
        list: *mut rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
    pub fn rd_kafka_oauthbearer_set_token(
        rk: *mut rd_kafka_t,
        value: *const c_char,
        expires_at_ms: i64,
        principal: *const c_char,
        extensions: *mut *const c_char,
        extensions_count: usize,
        text: *mut c_char,
        size: usize,
    ) -> c_int;
    pub fn rd_kafka_oauthbearer_set_token_failure(rk: *mut rd_kafka_t, reason: *const c_char) -> c_int;
    pub fn rd_kafka_metadata(
        rk: *mut rd_kafka_t,
        all_topics: c_int,
        only: *mut rd_kafka_topic_t,
        metadata: *mut *const rdkafka_sys::bindings::rd_kafka_metadata,
        timeout_ms: c_int,
    ) -> c_int;
    pub fn rd_kafka_flush(rk: *mut rd_kafka_t, timeout_ms: c_int) -> c_int;
    pub fn rd_kafka_purge(rk: *mut rd_kafka_t, flags: c_int) -> c_int;
    pub fn rd_kafka_message_headers(message: *const rd_kafka_message_t, headers: *mut *mut rd_kafka_headers_t)
    -> c_int;
    pub fn rd_kafka_header_add(
        headers: *mut rd_kafka_headers_t,
        name: *const c_char,
        name_size: isize,
        value: *const c_void,
        value_size: isize,
    ) -> c_int;
    pub fn rd_kafka_header_get_all(
        headers: *const rd_kafka_headers_t,
        index: usize,
        name: *mut *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> c_int;
    pub fn rd_kafka_mock_topic_create(
        cluster: *mut rd_kafka_mock_cluster_t,
        topic: *const c_char,
        partitions: c_int,
        replication_factor: c_int,
    ) -> c_int;
    pub fn rd_kafka_mock_topic_set_error(cluster: *mut rd_kafka_mock_cluster_t, topic: *const c_char, code: c_int);
    pub fn rd_kafka_mock_broker_set_down(cluster: *mut rd_kafka_mock_cluster_t, broker_id: i32) -> c_int;
    pub fn rd_kafka_mock_broker_set_up(cluster: *mut rd_kafka_mock_cluster_t, broker_id: i32) -> c_int;
}

/// The error code of a message.
///
/// # Safety
/// `message` points to a message of librdkafka's.
pub unsafe fn message_error(message: *const rd_kafka_message_t) -> c_int {
    // SAFETY: the caller's promise; the field has the size and the alignment of a C int, and is read as one.
    unsafe { (&raw const (*message).err).cast::<c_int>().read() }
}

/// The error code of one partition in a list.
///
/// # Safety
/// `partition` points to an element of a list of librdkafka's.
pub unsafe fn partition_error(partition: *const rd_kafka_topic_partition_t) -> c_int {
    // SAFETY: as in `message_error`.
    unsafe { (&raw const (*partition).err).cast::<c_int>().read() }
}
