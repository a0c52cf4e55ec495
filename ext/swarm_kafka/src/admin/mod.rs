//! What an operator asks of a cluster: topics, configurations, groups, access rules.
//!
//! Each call makes its objects, sends one request, waits for the answer and turns it into an [`Answer`]: plain data with
//! a result, or an error, for each item. A call waits until its own time is over and by nothing else, so it is made on a
//! thread that nobody needs meanwhile.

mod acls;
mod configs;
mod groups;
mod offsets;
mod sys;
mod tokens;
mod topics;
mod trouble;

pub use acls::Acl;
pub use configs::{Change, Resource};
pub use topics::NewTopic;

use std::ffi::{CString, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use swarm_core::fork_gate::Lease;

use crate::client::{Client, Role};
use crate::config::{Config, OpenError};
use crate::error::{KafkaError, code, text};
use crate::offsets::milliseconds;
use crate::partitions::Partition;
use crate::queue::{Event, Queue};
use trouble::Trouble;

/// What a broker has answered, as data.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// There is no such value.
    Nothing,
    /// Yes or no; an item that was dealt with and has no value is a yes.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Values in their order.
    List(Vec<Answer>),
    /// Values that the library names.
    Fields(Vec<(&'static str, Answer)>),
    /// Values that the user or the cluster names.
    Items(Vec<(Answer, Answer)>),
    /// What has become of one item.
    Failed(KafkaError),
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// An administrator's client.
pub struct Admin {
    // Its queue goes before the client.
    trouble: Trouble,
    pub(crate) client: Client,
    closing: AtomicBool,
}

/// A broker's answer must have come this much after the time that it was given.
const GRACE: Duration = Duration::from_secs(2);
/// How often who waits looks whether the client is to be closed.
const LOOK_AROUND_MS: c_int = 50;

impl Admin {
    /// Makes one. `tokens`: [`Admin::wait_for_token`] tells when an OAUTHBEARER token is wanted.
    pub fn new(config: Config, tokens: bool, lease: Lease) -> Result<Self, OpenError> {
        let events = crate::sys::RD_KAFKA_EVENT_ERROR
            | if tokens { crate::sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH } else { 0 };
        let patience = trouble::patience(&config);
        let client = Client::new(Role::Producer, config, events, lease)?;
        let trouble = Trouble::new(&client, patience)
            .map_err(|errno| OpenError::Refused(format!("no descriptor for the client's queue: {errno}")))?;
        Ok(Self { trouble, client, closing: AtomicBool::new(false) })
    }

    /// librdkafka's name of it.
    pub fn name(&self) -> String {
        self.client.name()
    }

    /// Lets nobody wait any longer for an answer: the client is about to be closed.
    pub fn stop_waiting(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Sends one request and waits for its answer. `start` gets the options and the queue for the answer.
    fn ask(&self, options: &Options, start: impl FnOnce(&Client, &Options, &Queue)) -> Result<Event, KafkaError> {
        // SAFETY: the client lives; the queue is ours and goes before the client.
        let queue = unsafe { Queue::own(crate::sys::rd_kafka_queue_new(self.client.as_ptr())) }
            .map_err(|errno| KafkaError::with(code::TRANSPORT, format!("no descriptor for an answer: {errno}")))?;
        let began = self.trouble.begin(&self.client);
        start(&self.client, options, &queue);
        let late = || KafkaError::with(code::TIMED_OUT, "the cluster has not answered in time");
        let until = Instant::now() + options.timeout + GRACE;
        let event = loop {
            if let Some(event) = queue.next_within(LOOK_AROUND_MS) {
                break event;
            }
            self.check_to_go_on(began)?;
            if Instant::now() > until {
                return Err(self.trouble.explain(&self.client, late()));
            }
        };
        if event.code() != code::NO_ERROR {
            return Err(self.trouble.explain(&self.client, event.error()));
        }
        self.trouble.is_over();
        Ok(event)
    }

    /// Whether a call that began then should wait any longer.
    fn check_to_go_on(&self, began: Instant) -> Result<(), KafkaError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(KafkaError::of(code::DESTROY));
        }
        self.trouble.ends(&self.client, began).map_or(Ok(()), Err)
    }

    /// Sends a request that consists of objects, and reads an array off its answer.
    fn ask_about(
        &self,
        options: &Options,
        objects: &Objects,
        start: sys::Start,
        take: sys::Take,
        read: sys::Read,
        each: impl FnMut(sys::Part) -> Answer,
    ) -> Result<Vec<Answer>, KafkaError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let mut pointers = objects.pointers();
        let event = self.ask(options, |client, options, queue| {
            // SAFETY: client, objects, options and queue live, and librdkafka copies what it needs of the objects.
            unsafe { start(client.as_ptr(), pointers.as_mut_ptr(), pointers.len(), options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives, and is of the kind that the request asks for, since it has no error.
        Ok(unsafe { parts(take(event.as_ptr()), read) }.map(each).collect())
    }
}

/// How a request is to be made.
struct Options {
    made: sys::Made,
    timeout: Duration,
}

impl Options {
    fn new(admin: &Admin, op: c_int, timeout: Duration) -> Result<Self, KafkaError> {
        // SAFETY: the client lives; the options are ours.
        let made = unsafe { sys::rd_kafka_AdminOptions_new(admin.client.as_ptr(), op) };
        let options = Self { made, timeout };
        // SAFETY: the options live; the buffer has the size that is told, here and below.
        with_reason(|text, size| unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(made, milliseconds(timeout), text, size)
        })?;
        Ok(options)
    }

    /// The answer is to come once the change has been made everywhere, not only once it was begun.
    fn wait_for_the_end(self) -> Result<Self, KafkaError> {
        let milliseconds = milliseconds(self.timeout);
        // SAFETY: as above.
        with_reason(|text, size| unsafe {
            sys::rd_kafka_AdminOptions_set_operation_timeout(self.made, milliseconds, text, size)
        })?;
        Ok(self)
    }

    /// Nothing is to be changed: would it work?
    fn only_try(self, only: bool) -> Result<Self, KafkaError> {
        // SAFETY: as above.
        with_reason(|text, size| unsafe {
            sys::rd_kafka_AdminOptions_set_validate_only(self.made, only.into(), text, size)
        })?;
        Ok(self)
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the options are ours.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.made) };
    }
}

/// Objects of one request.
struct Objects {
    made: Vec<sys::Made>,
    destroy: unsafe extern "C" fn(sys::Made),
}

impl Objects {
    fn new(destroy: unsafe extern "C" fn(sys::Made)) -> Self {
        Self { made: Vec::new(), destroy }
    }

    /// Owns an object that was made by librdkafka for this kind of request.
    fn push(&mut self, made: sys::Made) {
        assert!(!made.is_null(), "librdkafka gives an object or a reason");
        self.made.push(made);
    }

    fn last(&self) -> sys::Made {
        *self.made.last().expect("an object was pushed")
    }

    fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    fn pointers(&self) -> Vec<sys::Made> {
        self.made.clone()
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for made in &self.made {
            // SAFETY: the object is ours, and is of the kind that this function destroys.
            unsafe { (self.destroy)(*made) };
        }
    }
}

/// A C string of text that the user gave.
fn c_string(what: &str, given: &str) -> Result<CString, KafkaError> {
    CString::new(given).map_err(|_| KafkaError::with(code::INVALID_ARG, format!("{what} {given:?} holds a NUL byte")))
}

/// Calls what gives a code and fills a buffer with a reason.
fn with_reason(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), KafkaError> {
    let mut reason = [0 as c_char; 512];
    match call(reason.as_mut_ptr(), reason.len()) {
        code::NO_ERROR => Ok(()),
        // SAFETY: librdkafka has filled the buffer with a string that ends in NUL.
        code => Err(KafkaError::with(code, unsafe { text(reason.as_ptr()) })),
    }
}

/// Calls what makes an object, or gives null and fills a buffer with a reason.
fn make(call: impl FnOnce(*mut c_char, usize) -> sys::Made) -> Result<sys::Made, KafkaError> {
    let mut reason = [0 as c_char; 512];
    let made = call(reason.as_mut_ptr(), reason.len());
    if made.is_null() {
        // SAFETY: as above.
        return Err(KafkaError::with(code::INVALID_ARG, unsafe { text(reason.as_ptr()) }));
    }
    Ok(made)
}

/// The parts of an answer, which live as long as its event.
///
/// # Safety
/// `of` is a part from which `read` reads an array.
unsafe fn parts(of: sys::Part, read: sys::Read) -> impl Iterator<Item = sys::Part> {
    let mut count = 0;
    // SAFETY: the caller's promise; the array has `count` elements, or is null where there are none.
    let array = unsafe { read(of, &mut count) };
    let count = if array.is_null() { 0 } else { count };
    // SAFETY: as above.
    (0..count).map(move |index| unsafe { *array.add(index) })
}

/// A text of a part; a null one is nothing.
///
/// # Safety
/// `read` reads a text off `part`.
unsafe fn text_of(part: sys::Part, read: sys::ReadText) -> Answer {
    // SAFETY: the caller's promise; the text lives as long as the part and is copied.
    unsafe {
        let found = read(part);
        if found.is_null() { Answer::Nothing } else { Answer::Text(text(found)) }
    }
}

/// The item is done, or failed with this code.
fn done_or(code: c_int, reason: String) -> Answer {
    match code {
        code::NO_ERROR => Answer::Flag(true),
        code if reason.is_empty() => Answer::Failed(KafkaError::of(code)),
        code => Answer::Failed(KafkaError::with(code, reason)),
    }
}

/// topic => { partition => what `value` says }.
fn by_topic(partitions: &[Partition], value: impl Fn(&Partition) -> Answer) -> Answer {
    let mut topics: Vec<(String, Vec<(Answer, Answer)>)> = Vec::new();
    for partition in partitions {
        let found = (Answer::Number(partition.partition.into()), value(partition));
        match topics.iter_mut().find(|(topic, _)| *topic == partition.topic) {
            Some((_, known)) => known.push(found),
            None => topics.push((partition.topic.clone(), vec![found])),
        }
    }
    Answer::Items(topics.into_iter().map(|(topic, known)| (topic.into(), Answer::Items(known))).collect())
}

/// The partition's offset, or its failure.
fn offset_or_failure(partition: &Partition) -> Answer {
    match partition.code {
        code::NO_ERROR => partition.offset.map_or(Answer::Nothing, Answer::Number),
        code => Answer::Failed(KafkaError::of(code)),
    }
}
