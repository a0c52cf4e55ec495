//! What can go wrong, with Kafka's own codes and names.

use std::ffi::{CStr, c_char, c_int};

use crate::sys;

/// Codes that this crate itself looks for. Negative ones are librdkafka's own, the others come from a broker.
pub mod code {
    /// No error.
    pub const NO_ERROR: i32 = 0;
    /// The handle is being destroyed, or is gone.
    pub const DESTROY: i32 = -197;
    /// A broker's connection broke.
    pub const TRANSPORT: i32 = -195;
    /// A broker's host name was not found.
    pub const RESOLVE: i32 = -193;
    /// The end of a partition was reached.
    pub const PARTITION_EOF: i32 = -191;
    /// The broker's certificate, or the client's, was refused.
    pub const SSL: i32 = -181;
    /// The broker does not take who the client says it is.
    pub const AUTHENTICATION: i32 = -169;
    /// No broker is reachable.
    pub const ALL_BROKERS_DOWN: i32 = -187;
    /// An argument cannot be.
    pub const INVALID_ARG: i32 = -186;
    /// A deadline passed.
    pub const TIMED_OUT: i32 = -185;
    /// The local queue of unsent messages is full.
    pub const QUEUE_FULL: i32 = -184;
    /// The client is in a state in which the call makes no sense.
    pub const STATE: i32 = -172;
    /// There is no stored offset to commit.
    pub const NO_OFFSET: i32 = -168;
    /// No broker has taken a message in time.
    pub const MSG_TIMED_OUT: i32 = -192;
    /// A message was given up, because the producer was closed or purged.
    pub const PURGE_QUEUE: i32 = -152;
    /// The client can no longer be used.
    pub const FATAL: i32 = -150;
    /// A commit names a generation of the group that is over.
    pub const ILLEGAL_GENERATION: i32 = 22;
    /// The group does not know this member, or no longer.
    pub const UNKNOWN_MEMBER_ID: i32 = 25;
    /// The group is between two generations.
    pub const REBALANCE_IN_PROGRESS: i32 = 27;
    /// The same as a generation that is over, in the newer protocol.
    pub const STALE_MEMBER_EPOCH: i32 = 113;
}

/// Codes after which the same call may succeed later: librdkafka's own, then those that Kafka's protocol marks so.
const RETRIABLE: &[i32] = &[
    code::TRANSPORT,
    code::RESOLVE,
    code::ALL_BROKERS_DOWN,
    code::TIMED_OUT,
    code::QUEUE_FULL,
    -180, // _WAIT_COORD
    -166, // _TIMED_OUT_QUEUE
    -164, // _WAIT_CACHE
    -163, // _INTR
    -153, // _RETRY
    2,
    3,
    5,
    6,
    7,
    9,
    13,
    14,
    15,
    16,
    19,
    20,
    41,
    51,
    56,
    70,
    71,
    72,
    74,
    75,
    78,
    80,
    83,
    88,
    89,
    100,
    103,
];

/// An error of librdkafka or of a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name})")]
pub struct KafkaError {
    /// The number: negative where the client itself found the error.
    pub code: i32,
    /// The word, such as `unknown_topic_or_part`.
    pub name: String,
    /// What happened, as a sentence.
    pub message: String,
    /// The client can no longer be used.
    pub fatal: bool,
    /// The same call may succeed later.
    pub retriable: bool,
    /// The transaction under way has to be aborted.
    pub requires_abort: bool,
}

impl KafkaError {
    /// The error of a bare code.
    pub fn of(code: i32) -> Self {
        // SAFETY: librdkafka answers any integer with a static or thread-local string.
        let message = unsafe { text(sys::rd_kafka_err2str(code)) };
        Self {
            code,
            name: name_of(code),
            message,
            fatal: code == code::FATAL,
            retriable: RETRIABLE.contains(&code),
            requires_abort: false,
        }
    }

    /// The error of a code with a message that says more than the code's own.
    pub fn with(code: i32, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::of(code) }
    }

    /// Lasts until somebody has put something right: a certificate, a password.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self.code, code::SSL | code::AUTHENTICATION)
    }

    /// `Ok` for 0.
    pub(crate) fn check(code: c_int) -> Result<(), Self> {
        if code == code::NO_ERROR { Ok(()) } else { Err(Self::of(code)) }
    }

    /// Takes an error object of librdkafka's; null is no error.
    ///
    /// # Safety
    /// `error` is null or an error object that the caller owns and no longer uses.
    pub(crate) unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        // SAFETY: the caller's promise; the object is ours until it is destroyed.
        unsafe {
            let Some(taken) = Self::copy(error) else { return Ok(()) };
            sys::rd_kafka_error_destroy(error);
            Err(taken)
        }
    }

    /// Reads an error object that belongs to an item of an answer; null, or a code of 0, is no error.
    ///
    /// # Safety
    /// `error` is null or a live error object.
    pub(crate) unsafe fn read(error: *const sys::rd_kafka_error_t) -> Option<Self> {
        // SAFETY: the caller's promise. librdkafka marks hardly any such error as retriable, so the code decides too.
        let copied = unsafe { Self::copy(error) }.filter(|error| error.code != code::NO_ERROR);
        copied.map(|error| Self { retriable: error.retriable || RETRIABLE.contains(&error.code), ..error })
    }

    /// # Safety
    /// `error` is null or a live error object.
    unsafe fn copy(error: *const sys::rd_kafka_error_t) -> Option<Self> {
        if error.is_null() {
            return None;
        }
        // SAFETY: the caller's promise; the text is copied.
        unsafe {
            Some(Self {
                fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                retriable: sys::rd_kafka_error_is_retriable(error) != 0,
                requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
                ..Self::with(sys::rd_kafka_error_code(error), text(sys::rd_kafka_error_string(error)))
            })
        }
    }
}

/// The word for a code: librdkafka's constant in lower case, without the underscore that marks its own errors.
pub fn name_of(code: i32) -> String {
    // SAFETY: librdkafka answers any integer with a static or thread-local string.
    let constant = unsafe { text(sys::rd_kafka_err2name(code)) };
    constant.trim_start_matches('_').trim_end_matches('?').to_ascii_lowercase()
}

/// A C string as text; bytes that are not UTF-8 are replaced.
///
/// # Safety
/// `string` is null or points to a NUL-terminated string.
pub(crate) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_kafkas_name() {
        assert_eq!(KafkaError::of(3).name, "unknown_topic_or_part");
        assert_eq!(KafkaError::of(code::QUEUE_FULL).name, "queue_full");
        assert!(KafkaError::of(code::QUEUE_FULL).retriable);
        assert!(!KafkaError::of(10).retriable);
    }

    #[test]
    fn a_code_that_nobody_knows_is_still_an_error() {
        let error = KafkaError::of(31_000);
        assert_eq!(error.code, 31_000);
        assert!(!error.message.is_empty());
    }

    #[test]
    fn the_codes_above_are_librdkafkas() {
        for (code, name) in [
            (code::DESTROY, "destroy"),
            (code::TRANSPORT, "transport"),
            (code::RESOLVE, "resolve"),
            (code::PARTITION_EOF, "partition_eof"),
            (code::ALL_BROKERS_DOWN, "all_brokers_down"),
            (code::INVALID_ARG, "invalid_arg"),
            (code::TIMED_OUT, "timed_out"),
            (code::STATE, "state"),
            (code::NO_OFFSET, "no_offset"),
            (code::PURGE_QUEUE, "purge_queue"),
            (code::FATAL, "fatal"),
            (code::MSG_TIMED_OUT, "msg_timed_out"),
            (code::SSL, "ssl"),
            (code::AUTHENTICATION, "authentication"),
            (code::ILLEGAL_GENERATION, "illegal_generation"),
            (code::UNKNOWN_MEMBER_ID, "unknown_member_id"),
            (code::REBALANCE_IN_PROGRESS, "rebalance_in_progress"),
            (code::STALE_MEMBER_EPOCH, "stale_member_epoch"),
        ] {
            assert_eq!(name_of(code), name);
        }
    }
}
