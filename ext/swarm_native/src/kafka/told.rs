//! What a consumer tells, as Ruby's values: partitions, offsets, and what a listener hears of.

use magnus::{Error, RArray, RHash, Ruby, TryConvert, Value, typed_data::Obj, value::ReprValue};
use swarm_kafka::consumer::{Notice, Told};
use swarm_kafka::partitions::{Partition, Partitions};

use super::message::Message;
use super::{convert, error};

/// Messages, or `[topic, partition, offset or nil]`, as librdkafka's list.
pub fn partitions_of(ruby: &Ruby, offsets: RArray) -> Result<Partitions, Error> {
    let mut list = Partitions::default();
    for entry in offsets {
        let added = if let Ok(message) = Obj::<Message>::try_convert(entry) {
            let message = message.native();
            list.add(message.topic(), message.partition(), Some(message.offset() + 1), message.epoch())
        } else {
            let (topic, partition, offset): (String, i32, Option<i64>) = TryConvert::try_convert(entry)?;
            list.add(&topic, partition, offset, -1)
        };
        added.map_err(|failed| error::raise(ruby, &failed))?;
    }
    Ok(list)
}

/// What a listener has to hear of, as an Array that begins with its kind.
pub fn notice_of(ruby: &Ruby, notice: Notice) -> Result<RArray, Error> {
    let array = ruby.ary_new();
    match notice {
        Notice::Rebalance(told) => return rebalance(ruby, told),
        Notice::Error(failed) => {
            array.push(ruby.to_symbol("error"))?;
            array.push(error::exception(ruby, &failed)?)?;
        }
        Notice::Commit(failed, partitions) => {
            let about = offsets(ruby, partitions)?;
            array.push(ruby.to_symbol("error"))?;
            array.push(error::exception_about(ruby, &failed, about)?)?;
        }
        Notice::End(topic, partition, offset) => {
            array.push(ruby.to_symbol("end"))?;
            array.push(convert::interned(ruby, &topic))?;
            array.push(partition)?;
            array.push(offset)?;
        }
        Notice::Statistics(json, missed) => {
            array.push(ruby.to_symbol("statistics"))?;
            array.push(json)?;
            array.push(missed)?;
        }
        Notice::Lines => array.push(ruby.to_symbol("log"))?,
        Notice::Token(config) => {
            array.push(ruby.to_symbol("token"))?;
            array.push(config)?;
        }
    }
    Ok(array)
}

pub fn rebalance(ruby: &Ruby, told: Told) -> Result<RArray, Error> {
    let what = match (told.assigned, told.lost) {
        (true, _) => "assigned",
        (false, false) => "revoked",
        (false, true) => "lost",
    };
    let array = ruby.ary_new();
    array.push(ruby.to_symbol(what))?;
    array.push(by_topic(ruby, told.partitions)?)?;
    Ok(array)
}

/// topic => partitions.
pub fn by_topic(ruby: &Ruby, partitions: Vec<Partition>) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    for Partition { topic, partition, .. } in partitions {
        let topic = convert::interned(ruby, &topic);
        let list: RArray = match hash.get(topic) {
            Some(list) => TryConvert::try_convert(list)?,
            None => {
                let list = ruby.ary_new();
                hash.aset(topic, list)?;
                list
            }
        };
        list.push(partition)?;
    }
    Ok(hash)
}

/// topic => { partition => offset }, without those that have none.
pub fn offsets(ruby: &Ruby, partitions: Vec<Partition>) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    for Partition { topic, partition, offset, .. } in partitions {
        let Some(offset) = offset else { continue };
        let topic = convert::interned(ruby, &topic);
        let inner: RHash = match hash.get(topic) {
            Some(inner) => TryConvert::try_convert(inner)?,
            None => {
                let inner = ruby.hash_new();
                hash.aset(topic, inner)?;
                inner
            }
        };
        inner.aset(partition, offset)?;
    }
    Ok(hash)
}

pub fn offsets_or_nil(ruby: &Ruby, partitions: Vec<Partition>) -> Result<Value, Error> {
    let hash = offsets(ruby, partitions)?;
    Ok(if hash.is_empty() { ruby.qnil().as_value() } else { hash.as_value() })
}
