//! `Kafka::Delivery`: what became of one message.

use std::sync::Arc;

use magnus::{Class, Error, Module, Object as _, RModule, RString, Ruby, method, value::ReprValue};
use swarm_kafka::delivery::{Report, Slot, Waiters};
use swarm_kafka::error::{KafkaError, code};
use swarm_kafka::origin::Origin;

use super::convert;
use super::error;
use super::handle::new_wake;
use crate::gvl::{check_interrupts, without_gvl};

/// It holds no native handle, only the place where the answer will stand.
#[magnus::wrap(class = "SwarmNative::Kafka::Delivery", free_immediately, size)]
pub struct Delivery {
    pub slot: Arc<Slot>,
    pub waiters: Arc<Waiters>,
    pub topic: Arc<str>,
    pub origin: Origin,
}

impl Delivery {
    fn report(&self) -> Option<Report> {
        self.slot.report()
    }

    fn failure(&self) -> Option<KafkaError> {
        self.report().filter(|report| report.code != code::NO_ERROR).map(|report| {
            let error = KafkaError::of(report.code);
            let mut message = format!("the message for {} was not delivered: {}", self.topic, error.message);
            if let (code::MSG_TIMED_OUT, Some(trouble)) = (error.code, self.waiters.trouble()) {
                message = format!("{message}; the client's latest error: {trouble}");
            }
            KafkaError { message, ..error }
        })
    }

    fn wait(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<bool, Error> {
        let deadline = convert::deadline(ruby, timeout)?;
        let mut wake = None;
        loop {
            if this.report().is_some() {
                return match this.failure() {
                    Some(failure) => Err(error::raise(ruby, &failure)),
                    None => Ok(true),
                };
            }
            check_here(ruby, "SwarmNative::Kafka::Delivery", this.origin)?;
            if this.waiters.are_closed() {
                return Err(error::raise(ruby, &KafkaError::of(code::DESTROY)));
            }
            if convert::is_over(deadline) {
                let message =
                    format!("no answer for the message to {} within {} s", this.topic, timeout.unwrap_or(0.0));
                return Err(error::raise(ruby, &KafkaError::with(code::TIMED_OUT, message)));
            }
            let wake = match &wake {
                Some(wake) => wake,
                None => wake.insert(new_wake(ruby)?),
            };
            wake.clear();
            if !matches!(without_gvl(wake, || this.waiters.wait_for(&this.slot, wake, deadline)), Some(Some(_))) {
                check_interrupts(ruby)?;
            }
        }
    }

    fn is_delivered(&self) -> bool {
        self.report().is_some_and(|report| report.code == code::NO_ERROR)
    }

    fn is_pending(&self) -> bool {
        self.report().is_none()
    }

    fn topic(ruby: &Ruby, this: &Self) -> RString {
        convert::interned(ruby, &this.topic)
    }

    fn partition(&self) -> Option<i32> {
        self.report().map(|report| report.partition).filter(|partition| *partition >= 0)
    }

    fn offset(&self) -> Option<i64> {
        self.report().filter(|report| report.code == code::NO_ERROR && report.offset >= 0).map(|report| report.offset)
    }

    fn error(ruby: &Ruby, this: &Self) -> Result<Option<magnus::Exception>, Error> {
        this.failure().map(|failure| error::exception(ruby, &failure)).transpose()
    }
}

/// Refuses to wait in a process to which no answer comes.
pub fn check_here(ruby: &Ruby, class: &str, origin: Origin) -> Result<(), Error> {
    if origin.is_here() {
        return Ok(());
    }
    let message = format!(
        "this {class} belongs to process {}, and its answer never comes to process {}",
        origin.pid(),
        std::process::id()
    );
    Err(crate::error::raise(ruby, "StaleHandle", message))
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Delivery", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Delivery>(ruby);
    class.singleton_class()?.funcall::<_, _, magnus::Value>("undef_method", (ruby.to_symbol("new"),))?;
    class.define_private_method("native_wait", method!(Delivery::wait, 1))?;
    class.define_method("delivered?", method!(Delivery::is_delivered, 0))?;
    class.define_method("pending?", method!(Delivery::is_pending, 0))?;
    class.define_method("topic", method!(Delivery::topic, 0))?;
    class.define_method("partition", method!(Delivery::partition, 0))?;
    class.define_method("offset", method!(Delivery::offset, 0))?;
    class.define_method("error", method!(Delivery::error, 0))
}
