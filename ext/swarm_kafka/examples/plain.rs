//! What librdkafka does without Ruby and without us: the yardstick of `bin/bench kafka`.
//!
//!     plain produce|consume SERVERS TOPIC COUNT
//!
//! It prints the seconds that COUNT messages of 100 bytes took: to be acknowledged, or from the first one to the last.

use std::ffi::{CStr, CString, c_char, c_void};
use std::time::Instant;

use rdkafka_sys::bindings as k;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, servers, topic, count] = arguments.as_slice() else { panic!("plain WHAT SERVERS TOPIC COUNT") };
    let count: usize = count.parse().expect("a count");
    let seconds = match what.as_str() {
        "produce" => produce(servers, topic, count),
        "consume" => consume(servers, topic, count),
        _ => panic!("produce or consume, not {what}"),
    };
    println!("{seconds}");
}

fn client(kind: k::rd_kafka_type_t, properties: &[(&str, &str)]) -> *mut k::rd_kafka_t {
    let mut reason = [0 as c_char; 512];
    // SAFETY: the strings end in NUL and are copied, the buffer has the size that is told, and the client takes the
    // configuration over.
    unsafe {
        let conf = k::rd_kafka_conf_new();
        for (name, value) in properties {
            let (name, value) = (CString::new(*name).expect("no NUL"), CString::new(*value).expect("no NUL"));
            k::rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), reason.as_mut_ptr(), reason.len());
        }
        let client = k::rd_kafka_new(kind, conf, reason.as_mut_ptr(), reason.len());
        assert!(!client.is_null(), "{}", CStr::from_ptr(reason.as_ptr()).to_string_lossy());
        client
    }
}

fn produce(servers: &str, topic: &str, count: usize) -> f64 {
    let payload = [b'x'; 100];
    let client = client(k::rd_kafka_type_t::RD_KAFKA_PRODUCER, &[("bootstrap.servers", servers)]);
    let topic = CString::new(topic).expect("no NUL");
    let start = Instant::now();
    // SAFETY: client and topic live until the end; the payload is copied.
    unsafe {
        let topic = k::rd_kafka_topic_new(client, topic.as_ptr(), std::ptr::null_mut());
        for _ in 0..count {
            let payload = payload.as_ptr().cast_mut().cast::<c_void>();
            while k::rd_kafka_produce(topic, -1, 2, payload, 100, std::ptr::null(), 0, std::ptr::null_mut()) != 0 {
                k::rd_kafka_poll(client, 1);
            }
        }
        k::rd_kafka_flush(client, 60_000);
        assert_eq!(k::rd_kafka_outq_len(client), 0);
    }
    start.elapsed().as_secs_f64()
}

fn consume(servers: &str, topic: &str, count: usize) -> f64 {
    let group = format!("plain-{}", std::process::id());
    let client = client(
        k::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        &[("bootstrap.servers", servers), ("group.id", &group), ("auto.offset.reset", "earliest")],
    );
    let topic = CString::new(topic).expect("no NUL");
    let mut start = None;
    let (mut seen, mut bytes) = (0, 0);
    // SAFETY: the client lives; each message is destroyed once, after it was read.
    unsafe {
        k::rd_kafka_poll_set_consumer(client);
        let topics = k::rd_kafka_topic_partition_list_new(1);
        k::rd_kafka_topic_partition_list_add(topics, topic.as_ptr(), -1);
        k::rd_kafka_subscribe(client, topics);
        while seen < count {
            let message = k::rd_kafka_consumer_poll(client, 1000);
            if message.is_null() {
                continue;
            }
            if !(*message).payload.is_null() && (*message).offset >= 0 {
                start.get_or_insert_with(Instant::now);
                let payload = std::slice::from_raw_parts((*message).payload.cast::<u8>(), (*message).len);
                bytes += payload.to_vec().len();
                seen += 1;
            }
            k::rd_kafka_message_destroy(message);
        }
    }
    let seconds = start.expect("messages").elapsed().as_secs_f64();
    assert_eq!(bytes, count * 100);
    seconds
}
