//! `Kafka::Producer`'s transactions.

use magnus::{Error, Module, RArray, RClass, Ruby, method, typed_data::Obj};
use swarm_kafka::error::KafkaError;
use swarm_kafka::producer;

use super::consumer::Consumer;
use super::producer::Producer;
use super::told::partitions_of;
use super::{convert, error};

fn done(ruby: &Ruby, answer: Result<(), KafkaError>) -> Result<(), Error> {
    answer.map_err(|failed| error::raise(ruby, &failed))
}

fn ask(
    ruby: &Ruby,
    this: &Producer,
    call: impl FnOnce(&producer::Producer) -> Result<(), KafkaError> + Send + 'static,
) -> Result<(), Error> {
    let answer = this.handle.ask(ruby, call)?;
    done(ruby, answer)
}

fn init_transactions(ruby: &Ruby, this: &Producer, timeout: f64) -> Result<(), Error> {
    let timeout = convert::duration(ruby, timeout)?;
    ask(ruby, this, move |producer| producer.init_transactions(timeout))
}

fn begin(ruby: &Ruby, this: &Producer) -> Result<(), Error> {
    let answer = this.handle.enter(ruby)?.begin_transaction();
    done(ruby, answer)
}

fn send_offsets(
    ruby: &Ruby,
    this: &Producer,
    offsets: RArray,
    consumer: Obj<Consumer>,
    timeout: f64,
) -> Result<(), Error> {
    let timeout = convert::duration(ruby, timeout)?;
    let list = partitions_of(ruby, offsets)?;
    let Some(group) = consumer.enter(ruby)?.group() else {
        return Err(crate::error::argument(ruby, "the consumer is in no group"));
    };
    ask(ruby, this, move |producer| producer.send_offsets(&list, &group, timeout))
}

fn commit(ruby: &Ruby, this: &Producer, timeout: f64) -> Result<(), Error> {
    let timeout = convert::duration(ruby, timeout)?;
    ask(ruby, this, move |producer| producer.commit_transaction(timeout))
}

fn abort(ruby: &Ruby, this: &Producer, timeout: f64) -> Result<(), Error> {
    let timeout = convert::duration(ruby, timeout)?;
    ask(ruby, this, move |producer| producer.abort_transaction(timeout))
}

/// Defines the methods.
pub fn init(class: RClass) -> Result<(), Error> {
    class.define_private_method("native_init_transactions", method!(init_transactions, 1))?;
    class.define_private_method("native_begin_transaction", method!(begin, 0))?;
    class.define_private_method("native_send_offsets", method!(send_offsets, 3))?;
    class.define_private_method("native_commit_transaction", method!(commit, 1))?;
    class.define_private_method("native_abort_transaction", method!(abort, 1))
}
