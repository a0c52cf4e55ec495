//! librdkafka's event queues and the events that come out of them.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use swarm_core::os::wake::Wake;

use crate::error::text;
use crate::sys;

/// A queue whose filling wakes a descriptor.
///
/// librdkafka writes to the descriptor when an entry comes to a queue that its reader had seen empty. So a reader
/// polls until it gets nothing and then waits on the descriptor, and no entry can slip between the two.
pub struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    filled: Wake,
}

// SAFETY: librdkafka's queues may be used from any thread, and the Wake is an eventfd.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// There may be something in the queue.
    Filled,
    /// The caller's own Wake was woken, or a signal came.
    Woken,
    /// The deadline passed.
    Late,
}

impl Queue {
    /// Owns `queue`.
    ///
    /// # Safety
    /// `queue` is a live reference to a queue that the caller hands over, and is dropped before its client is.
    pub(crate) unsafe fn own(queue: *mut sys::rd_kafka_queue_t) -> rustix::io::Result<Self> {
        let queue = NonNull::new(queue).expect("librdkafka gives a queue or aborts");
        let filled = Wake::new().inspect_err(|_| {
            // SAFETY: the reference is ours, and nobody else has it.
            unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) }
        })?;
        let one = 1u64.to_ne_bytes();
        // SAFETY: the queue lives; librdkafka copies the payload; the descriptor outlives the registration, which
        // `drop` takes back before it closes it.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(
                queue.as_ptr(),
                filled.as_fd().as_raw_fd(),
                one.as_ptr().cast(),
                one.len(),
            );
        }
        Ok(Self { queue, filled })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// The next event that is there already.
    pub fn next(&self) -> Option<Event> {
        self.next_within(0)
    }

    /// The next event, waiting up to `milliseconds` (below 0: without end) or until [`Queue::interrupt`].
    pub fn next_within(&self, milliseconds: c_int) -> Option<Event> {
        // SAFETY: the queue lives, and the event that comes out is ours.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.as_ptr(), milliseconds) }).map(Event)
    }

    /// Forgets that entries came: from then on the descriptor tells of those that come after the queue was read empty.
    pub fn rearm(&self) {
        self.filled.clear();
    }

    /// Ends a wait as if an entry had come.
    pub(crate) fn fill(&self) {
        self.filled.wake();
    }

    /// A descriptor of the caller's own that turns readable when an entry comes.
    pub fn descriptor(&self) -> rustix::io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.filled, 3)
    }

    /// Ends a wait in [`Queue::next_within`], the one under way or the next one.
    pub fn interrupt(&self) {
        // SAFETY: the queue lives.
        unsafe { sys::rd_kafka_queue_yield(self.as_ptr()) };
    }

    /// Waits until an entry comes, `wake` is woken, a signal comes, or the deadline passes. The queue must have been
    /// read empty.
    pub fn wait(&self, wake: &Wake, deadline: Option<Instant>) -> Waited {
        let waited = wait_readable(self.filled.as_fd(), wake, deadline);
        if waited == Waited::Filled {
            self.filled.clear();
        }
        waited
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the registration is taken back before the descriptor is closed; the reference is ours.
        unsafe {
            sys::rd_kafka_queue_io_event_enable(self.as_ptr(), -1, std::ptr::null(), 0);
            sys::rd_kafka_queue_destroy(self.as_ptr());
        }
    }
}

/// Waits until a descriptor is readable (`Filled`), `wake` is woken or a signal came (`Woken`), or the deadline passed.
///
/// A signal ends the wait, because Ruby does not always wake the main thread for one: its trap handlers run when the
/// thread asks for them, and it asks when it comes back from here.
pub fn wait_readable(descriptor: BorrowedFd<'_>, wake: &Wake, deadline: Option<Instant>) -> Waited {
    let mut polled =
        [PollFd::from_borrowed_fd(descriptor, PollFlags::IN), PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
    if poll_until(&mut polled, deadline).is_err() || !polled[1].revents().is_empty() {
        return Waited::Woken;
    }
    if polled[0].revents().is_empty() { Waited::Late } else { Waited::Filled }
}

/// Waits until `wake` is woken, a signal comes, or the deadline passes.
pub fn wait_for_wake(wake: &Wake, deadline: Option<Instant>) {
    let _ = poll_until(&mut [PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)], deadline);
}

fn poll_until(polled: &mut [PollFd<'_>], deadline: Option<Instant>) -> rustix::io::Result<usize> {
    let timeout = deadline.map(|deadline| {
        let remaining = deadline.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: i64::try_from(remaining.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: remaining.subsec_nanos().into(),
        }
    });
    poll(polled, timeout.as_ref())
}

/// One entry of a queue.
pub struct Event(NonNull<sys::rd_kafka_event_t>);

// SAFETY: an event is a plain object with one owner.
unsafe impl Send for Event {}

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A consumed message.
    Message,
    /// Delivery reports of one or more messages.
    Delivery,
    /// An error of the client, a topic or a partition.
    Error,
    /// The group gives or takes partitions.
    Rebalance,
    /// The result of a commit.
    Commit,
    /// Statistics, as JSON.
    Statistics,
    /// The client wants a new OAUTHBEARER token.
    Token,
    /// Something that nobody has asked for.
    Other,
}

impl Event {
    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    /// What kind of entry it is.
    pub fn kind(&self) -> Kind {
        // SAFETY: the event lives as long as `self`.
        match unsafe { sys::rd_kafka_event_type(self.as_ptr()) } {
            sys::RD_KAFKA_EVENT_FETCH => Kind::Message,
            sys::RD_KAFKA_EVENT_DR => Kind::Delivery,
            sys::RD_KAFKA_EVENT_ERROR => Kind::Error,
            sys::RD_KAFKA_EVENT_REBALANCE => Kind::Rebalance,
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => Kind::Commit,
            sys::RD_KAFKA_EVENT_STATS => Kind::Statistics,
            sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => Kind::Token,
            _ => Kind::Other,
        }
    }

    /// The next message of a `Message` or `Delivery` event; it is valid as long as the event.
    pub(crate) fn next_message(&mut self) -> Option<&sys::rd_kafka_message_t> {
        // SAFETY: the event lives, and owns the message.
        unsafe { sys::rd_kafka_event_message_next(self.as_ptr()).as_ref() }
    }

    /// The event's error code; for a rebalance it says which way.
    pub fn code(&self) -> i32 {
        // SAFETY: the event lives.
        unsafe { sys::rd_kafka_event_error(self.as_ptr()) }
    }

    /// The event's error, in its own words.
    pub fn error(&self) -> crate::error::KafkaError {
        // SAFETY: the event lives; the text belongs to it and is copied.
        unsafe {
            let mut error =
                crate::error::KafkaError::with(self.code(), text(sys::rd_kafka_event_error_string(self.as_ptr())));
            error.fatal |= sys::rd_kafka_event_error_is_fatal(self.as_ptr()) != 0;
            error
        }
    }

    /// The topic, the partition and the offset that an error is about.
    pub fn partition(&self) -> Option<(String, i32, i64)> {
        // SAFETY: the event lives; the object is made for us, copied and destroyed.
        unsafe {
            let partition = sys::rd_kafka_event_topic_partition(self.as_ptr());
            let read = partition.as_ref().map(|found| (text(found.topic), found.partition, found.offset));
            if !partition.is_null() {
                sys::rd_kafka_topic_partition_destroy(partition);
            }
            read
        }
    }

    /// The JSON of a `Statistics` event.
    pub fn statistics(&self) -> String {
        // SAFETY: the event lives; the text belongs to it and is copied.
        unsafe { text(sys::rd_kafka_event_stats(self.as_ptr())) }
    }

    /// `sasl.oauthbearer.config`, for a `Token` event.
    pub fn token_config(&self) -> String {
        // SAFETY: the event lives; the text belongs to it and is copied; `text` takes a null one.
        unsafe { text(sys::rd_kafka_event_config_string(self.as_ptr())) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours.
        unsafe { sys::rd_kafka_event_destroy(self.as_ptr()) };
    }
}
