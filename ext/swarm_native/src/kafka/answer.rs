//! A broker's answer as Ruby's values.

use magnus::{Error, IntoValue, Ruby, Value, value::ReprValue};
use swarm_kafka::admin::Answer;
use swarm_kafka::error::KafkaError;

use super::{convert, error};

/// The answer's value; the failure of the whole request is raised, that of one item is an exception object.
pub fn value(ruby: &Ruby, answer: Result<Answer, KafkaError>) -> Result<Value, Error> {
    object(ruby, answer.map_err(|failed| error::raise(ruby, &failed))?)
}

fn object(ruby: &Ruby, answer: Answer) -> Result<Value, Error> {
    Ok(match answer {
        Answer::Nothing => ruby.qnil().as_value(),
        Answer::Flag(flag) => flag.into_value_with(ruby),
        Answer::Number(number) => number.into_value_with(ruby),
        Answer::Text(text) => convert::interned(ruby, &text).as_value(),
        Answer::List(list) => {
            let array = ruby.ary_new_capa(list.len());
            for element in list {
                array.push(object(ruby, element)?)?;
            }
            array.as_value()
        }
        Answer::Fields(fields) => {
            let hash = ruby.hash_new();
            for (name, field) in fields {
                hash.aset(ruby.to_symbol(name), object(ruby, field)?)?;
            }
            hash.as_value()
        }
        Answer::Items(items) => {
            let hash = ruby.hash_new();
            for (name, item) in items {
                hash.aset(object(ruby, name)?, object(ruby, item)?)?;
            }
            hash.as_value()
        }
        Answer::Failed(failed) => error::exception(ruby, &failed)?.as_value(),
    })
}
