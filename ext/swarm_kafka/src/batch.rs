//! Consumed messages, copied into one buffer that Rust owns.
//!
//! librdkafka's own message is freed as soon as it is copied: one that lived on would hold up the consumer's close
//! until somebody dropped it. A hundred bytes are copied in less time than a second allocation takes.

use std::ffi::CStr;
use std::sync::Arc;

use crate::sys;

/// Where bytes stand in the buffer; `None` for a null key, payload or value.
type Range = Option<(usize, u32)>;

#[derive(Clone, Copy)]
struct Record {
    offset: i64,
    timestamp: i64,
    topic: u32,
    partition: i32,
    epoch: i32,
    headers: u32,
    key: Range,
    payload: Range,
    headers_at: usize,
}

/// Messages of one poll. It does not change any more.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Record>,
    topics: Vec<Arc<str>>,
    /// librdkafka's handle of each topic, to find the name without comparing it.
    handles: Vec<usize>,
}

/// Names of topics that were met lately, so that not each batch makes its own.
#[derive(Default)]
pub(crate) struct Names(Vec<Arc<str>>);

impl Names {
    const MOST: usize = 16;

    fn find(&mut self, name: &CStr) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| known.as_bytes() == name.to_bytes()) {
            return Arc::clone(known);
        }
        if self.0.len() == Self::MOST {
            self.0.clear();
        }
        let name: Arc<str> = name.to_string_lossy().into();
        self.0.push(Arc::clone(&name));
        name
    }
}

/// One message of a batch.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    batch: &'a Batch,
    record: &'a Record,
}

impl Batch {
    /// An empty one with room for what the last one held.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), records: Vec::with_capacity(messages), ..Self::default() }
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The message at `index`.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        self.records.get(index).map(|record| Message { batch: self, record })
    }

    /// The bytes of keys, payloads and headers.
    pub fn content_size(&self) -> usize {
        self.bytes.len()
    }

    /// The memory that it takes.
    pub fn memory_size(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.records.capacity() * size_of::<Record>()
    }

    /// Gives back the room that is not used.
    pub fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        if self.records.capacity() > 2 * self.records.len() {
            self.records.shrink_to_fit();
        }
    }

    /// The bytes of keys, payloads and headers of the messages from `start` on, up to `end`.
    pub fn content_between(&self, start: usize, end: usize) -> usize {
        self.begin_of(end) - self.begin_of(start)
    }

    /// Where a message's bytes begin; for the index after the last one, where they all end.
    fn begin_of(&self, index: usize) -> usize {
        let size = |range: Range| range.map_or(0, |(_, size)| size as usize);
        // A message's key and payload stand right before its headers.
        self.records.get(index).map_or(self.bytes.len(), |it| it.headers_at - size(it.key) - size(it.payload))
    }

    /// One batch for each partition, each with a buffer of its own, in the order in which they first come: who keeps
    /// a partition's messages keeps no other's.
    pub fn split(&self) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        let mut known: Vec<(u32, i32)> = Vec::new();
        let mut last = 0;
        for (index, record) in self.records.iter().enumerate() {
            let of = (record.topic, record.partition);
            // Messages of one partition mostly come one after the other.
            if known.get(last) != Some(&of) {
                last = known.iter().position(|known| *known == of).unwrap_or_else(|| {
                    known.push(of);
                    parts.push(Self {
                        topics: vec![Arc::clone(&self.topics[record.topic as usize])],
                        ..Self::default()
                    });
                    parts.len() - 1
                });
            }
            let (begin, end) = (self.begin_of(index), self.begin_of(index + 1));
            let part = &mut parts[last];
            // What stood at `begin` stands at `to` now.
            let to = part.bytes.len();
            let moved = |range: Range| range.map(|(at, size)| (at - begin + to, size));
            part.bytes.extend_from_slice(&self.bytes[begin..end]);
            part.records.push(Record {
                topic: 0,
                key: moved(record.key),
                payload: moved(record.payload),
                headers_at: record.headers_at - begin + to,
                ..*record
            });
        }
        parts
    }

    /// Copies a message.
    pub(crate) fn push(&mut self, message: &sys::rd_kafka_message_t, names: &mut Names) {
        let topic = self.topic_of(message.rkt, names);
        self.bytes.reserve(message.key_len + message.len);
        // SAFETY: librdkafka keeps key and payload alive as long as the message that is borrowed here.
        let (key, payload) =
            unsafe { (self.copy(message.key.cast(), message.key_len), self.copy(message.payload.cast(), message.len)) };
        let headers_at = self.bytes.len();
        let headers = self.copy_headers(message);
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let (timestamp, epoch) = unsafe {
            (sys::rd_kafka_message_timestamp(message, &mut kind), sys::rd_kafka_message_leader_epoch(message))
        };
        self.records.push(Record {
            offset: message.offset,
            timestamp,
            topic,
            partition: message.partition,
            epoch,
            headers,
            key,
            payload,
            headers_at,
        });
    }

    fn topic_of(&mut self, handle: *mut sys::rd_kafka_topic_t, names: &mut Names) -> u32 {
        let known = self.handles.iter().position(|known| *known == handle as usize);
        let index = known.unwrap_or_else(|| {
            // SAFETY: the message that is being copied holds a reference to its topic, which has a name.
            let name = names.find(unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(handle)) });
            self.handles.push(handle as usize);
            self.topics.push(name);
            self.topics.len() - 1
        });
        u32::try_from(index).expect("a batch has far fewer topics")
    }

    /// # Safety
    /// `from` is null or has `size` readable bytes.
    unsafe fn copy(&mut self, from: *const u8, size: usize) -> Range {
        if from.is_null() {
            return None;
        }
        let at = self.bytes.len();
        // SAFETY: the caller's promise.
        self.bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(from, size) });
        // Kafka's own lengths are 32-bit and signed.
        Some((at, u32::try_from(size).expect("a Kafka field is shorter than 2 GiB")))
    }

    /// Each header as: length of the name, name, 1 + length of the value or 0 for none, value.
    fn copy_headers(&mut self, message: &sys::rd_kafka_message_t) -> u32 {
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is live; the headers that come out belong to it.
        if unsafe { sys::rd_kafka_message_headers(message, &mut headers) } != 0 {
            return 0;
        }
        let mut count = 0;
        loop {
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
            // SAFETY: `headers` is live; name and value point into it. An index past the end is an error code.
            let name = unsafe {
                if sys::rd_kafka_header_get_all(headers, count as usize, &mut name, &mut value, &mut size) != 0 {
                    return count;
                }
                CStr::from_ptr(name).to_bytes()
            };
            self.length(name.len());
            self.bytes.extend_from_slice(name);
            if value.is_null() {
                self.length(0);
            } else {
                self.length(size + 1);
                // SAFETY: librdkafka told the size of what `value` points to.
                self.bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(value.cast(), size) });
            }
            count += 1;
        }
    }

    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("a Kafka header is shorter than 2 GiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
    }

    fn slice(&self, range: Range) -> Option<&[u8]> {
        range.map(|(at, size)| &self.bytes[at..at + size as usize])
    }
}

impl<'a> Message<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a Arc<str> {
        &self.batch.topics[self.record.topic as usize]
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.record.partition
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The epoch of the partition's leader, or -1.
    pub fn epoch(&self) -> i32 {
        self.record.epoch
    }

    /// Milliseconds since 1970, or `None`.
    pub fn timestamp(&self) -> Option<i64> {
        Some(self.record.timestamp).filter(|timestamp| *timestamp >= 0)
    }

    /// The key; `None` for null.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.batch.slice(self.record.key)
    }

    /// The payload; `None` for null.
    pub fn payload(&self) -> Option<&'a [u8]> {
        self.batch.slice(self.record.payload)
    }

    /// Names and values in the order in which they were sent.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: &self.batch.bytes[self.record.headers_at..], left: self.record.headers }
    }
}

/// The headers of a message.
pub struct Headers<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Headers<'a> {
    fn take(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(size);
        self.rest = rest;
        taken
    }

    fn length(&mut self) -> usize {
        let bytes = self.take(4).try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let size = self.length();
        let name = self.take(size);
        let value = self.length().checked_sub(1).map(|size| self.take(size));
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Topic, partition, offset, key, payload.
    type Given = (u32, i32, i64, Option<&'static str>, Option<&'static str>);

    fn batch(messages: &[Given]) -> Batch {
        let mut batch = Batch { topics: vec!["a".into(), "b".into()], ..Batch::default() };
        for &(topic, partition, offset, key, payload) in messages {
            let mut put = |text: Option<&str>| {
                let at = batch.bytes.len();
                batch.bytes.extend_from_slice(text?.as_bytes());
                Some((at, u32::try_from(text?.len()).ok()?))
            };
            let (key, payload) = (put(key), put(payload));
            let headers_at = batch.bytes.len();
            batch.length(1);
            batch.bytes.push(b'n');
            batch.length(0);
            let record =
                Record { offset, timestamp: 0, topic, partition, epoch: -1, headers: 1, key, payload, headers_at };
            batch.records.push(record);
        }
        batch
    }

    type Seen = (String, i32, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Vec<u8>>);

    fn seen(batch: &Batch) -> Vec<Seen> {
        let all = (0..batch.len()).filter_map(|index| batch.get(index));
        all.map(|it| {
            let headers = it.headers().map(|(name, _)| name.to_vec()).collect();
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            (it.topic().to_string(), it.partition(), it.offset(), owned(it.key()), owned(it.payload()), headers)
        })
        .collect()
    }

    #[test]
    fn splitting_gives_each_partition_its_messages_in_order_and_a_buffer_of_its_own() {
        let whole = batch(&[
            (0, 1, 7, Some("k"), Some("one")),
            (1, 1, 3, None, Some("two")),
            (0, 1, 8, None, None),
            (0, 0, 1, Some(""), Some("four")),
            (0, 1, 9, Some("kk"), Some("five")),
        ]);
        let parts = whole.split();
        let whole_seen = seen(&whole);
        let of = |topic: &str, partition| -> Vec<Seen> {
            whole_seen.iter().filter(|it| it.0 == topic && it.1 == partition).cloned().collect()
        };
        assert_eq!(parts.iter().map(seen).collect::<Vec<_>>(), [of("a", 1), of("b", 1), of("a", 0)]);
        let sizes: Vec<_> = parts.iter().map(Batch::content_size).collect();
        assert_eq!(sizes.iter().sum::<usize>(), whole.content_size());
        assert_eq!(sizes[1], whole.content_between(1, 2));
        assert_eq!(parts[0].content_between(0, 3), sizes[0]);
    }

    #[test]
    fn a_topics_name_is_kept_once_and_not_for_ever() {
        let mut names = Names::default();
        let first = names.find(c"a");
        assert!(Arc::ptr_eq(&first, &names.find(c"a")));
        for number in 0..Names::MOST {
            let name = std::ffi::CString::new(number.to_string()).unwrap();
            assert_eq!(*names.find(&name), *number.to_string());
        }
        assert!(!Arc::ptr_eq(&first, &names.find(c"a")));
        assert!(names.0.len() <= Names::MOST);
    }

    #[test]
    fn nothing_splits_into_nothing() {
        assert!(Batch::default().split().is_empty());
    }
}
