//! librdkafka's mock cluster: brokers in memory, which speak Kafka's protocol on 127.0.0.1.

use std::ffi::CString;
use std::ptr::NonNull;

use swarm_core::fork_gate::Lease;

use crate::client::{Client, Role};
use crate::config::{Config, OpenError};
use crate::error::{KafkaError, text};
use crate::sys;

/// A running cluster. It ends with its drop.
pub struct MockCluster {
    cluster: NonNull<sys::rd_kafka_mock_cluster_t>,
    /// Goes after the cluster, which belongs to it.
    _client: Client,
}

// SAFETY: librdkafka sends each call to the cluster's own thread.
unsafe impl Send for MockCluster {}
// SAFETY: as above.
unsafe impl Sync for MockCluster {}

impl MockCluster {
    /// Starts `brokers` of them, with ids from 1 on.
    pub fn start(brokers: u16, lease: Lease) -> Result<Self, OpenError> {
        let client = Client::new(Role::Producer, Config::new(&[])?, 0, lease)?;
        // SAFETY: the client lives longer than the cluster.
        let cluster = unsafe { sys::rd_kafka_mock_cluster_new(client.as_ptr(), brokers.into()) };
        match NonNull::new(cluster) {
            Some(cluster) => {
                // A classic group is formed at once; the default of 3 s waits for members that may never come. Members
                // of the newer protocol take these times from the broker: the defaults of 30 s and 3 s are for
                // clusters, not for tests.
                // SAFETY: the cluster lives.
                unsafe {
                    sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster.as_ptr(), 0);
                    sys::rd_kafka_mock_set_group_consumer_session_timeout_ms(cluster.as_ptr(), 2000);
                    sys::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(cluster.as_ptr(), 100);
                };
                Ok(Self { cluster, _client: client })
            }
            None => Err(OpenError::Refused(format!("librdkafka could not start {brokers} brokers"))),
        }
    }

    /// What a client's `bootstrap.servers` is to be.
    pub fn bootstrap_servers(&self) -> String {
        // SAFETY: the cluster lives; the string belongs to it and is copied.
        unsafe { text(sys::rd_kafka_mock_cluster_bootstraps(self.cluster.as_ptr())) }
    }

    /// Makes a topic, each partition on one broker.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), KafkaError> {
        let name = topic_name(name)?;
        // SAFETY: the cluster lives and the name ends in NUL.
        KafkaError::check(unsafe {
            sys::rd_kafka_mock_topic_create(self.cluster.as_ptr(), name.as_ptr(), partitions, 1)
        })
    }

    /// Lets every request for the topic fail with this code; 0 ends that.
    pub fn set_topic_error(&self, name: &str, code: i32) -> Result<(), KafkaError> {
        let name = topic_name(name)?;
        // SAFETY: as in `create_topic`.
        unsafe { sys::rd_kafka_mock_topic_set_error(self.cluster.as_ptr(), name.as_ptr(), code) };
        Ok(())
    }

    /// Takes a broker down, or up again: its port refuses connections meanwhile.
    pub fn set_up(&self, broker: i32, up: bool) -> Result<(), KafkaError> {
        // SAFETY: the cluster lives.
        KafkaError::check(unsafe {
            if up {
                sys::rd_kafka_mock_broker_set_up(self.cluster.as_ptr(), broker)
            } else {
                sys::rd_kafka_mock_broker_set_down(self.cluster.as_ptr(), broker)
            }
        })
    }
}

fn topic_name(name: &str) -> Result<CString, KafkaError> {
    CString::new(name).map_err(|_| KafkaError::with(17, format!("the topic name {name:?} holds a NUL byte")))
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: the cluster is ours and its client still lives.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster.as_ptr()) };
    }
}
