//! `Kafka::Consumer`.

use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use magnus::{
    Class, Error, Module, Object as _, RArray, RClass, RHash, RModule, Ruby, Value, method, typed_data::Obj,
    value::ReprValue,
};
use swarm_core::os::wake::Wake;
use swarm_kafka::batch;
use swarm_kafka::consumer::{self, Leaving, Limits, Polled, Wants};
use swarm_kafka::door::Visit;
use swarm_kafka::error::{KafkaError, code};
use swarm_kafka::offsets::CommitId;
use swarm_kafka::partitions::Partition;

use super::batch::{Batch, Buffer};
use super::convert;
use super::error;
use super::handle::{Handle, new_wake, wait_for_end};
use super::message::Message;
use super::token::{self, TakesTokens};
use super::told::{by_topic, notice_of, offsets, offsets_or_nil, partitions_of, rebalance};
use crate::gvl::{check_interrupts, without_gvl};

/// How long a consumer that nobody has closed may take to leave its group, in the background.
pub const ABANDONED: Duration = Duration::from_secs(5);
/// A close waits this much longer than its deadline for the end of the handle's threads.
const GRACE: Duration = Duration::from_secs(5);

#[magnus::wrap(class = "SwarmNative::Kafka::Consumer", free_immediately, size)]
pub struct Consumer {
    handle: Handle<consumer::Consumer>,
    name: Mutex<String>,
    /// Somebody wants the poll that waits, or the next one, to return.
    woken: AtomicBool,
}

impl TakesTokens for Consumer {
    type Client = consumer::Consumer;

    fn handle(&self) -> &Handle<Self::Client> {
        &self.handle
    }
}

impl Consumer {
    /// A Batch, or an Array that tells what a listener has to hear of first.
    fn poll(ruby: &Ruby, this: &Self, messages: usize, bytes: usize, timeout: Option<f64>) -> Result<Value, Error> {
        let limits = Limits { messages, bytes };
        let deadline = convert::deadline(ruby, timeout)?;
        let polled = this.enter(ruby)?.poll_now(limits);
        if let Some(found) = this.take(ruby, polled)? {
            return Ok(found);
        }
        if convert::is_over(deadline) {
            return Self::nothing(ruby, this);
        }
        let wake = new_wake(ruby)?;
        while !convert::is_over(deadline) {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            if visit.is_leaving() {
                return Err(this.handle.closed(ruby));
            }
            // From here on a wakeup wakes the wait itself.
            if this.woken.swap(false, Ordering::SeqCst) {
                break;
            }
            let polled = without_gvl(&wake, || visit.wait_and_poll(limits, &wake, deadline));
            drop(visit);
            if let Some(found) = polled.map(|polled| this.take(ruby, polled)).transpose()?.flatten() {
                return Ok(found);
            }
            check_interrupts(ruby)?;
        }
        Self::nothing(ruby, this)
    }

    /// A Message that is there already; nil where there is none, or something has to be dealt with before it.
    fn next(ruby: &Ruby, this: &Self, timeout: Option<f64>) -> Result<Option<Message>, Error> {
        convert::check_timeout(ruby, timeout)?;
        let batch = this.enter(ruby)?.next_message();
        Ok(batch.map(|batch| Message::new(&Buffer::new(ruby, batch), 0)))
    }

    /// What a poll gives when its time is over.
    fn nothing(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        // A trap handler, a listener or another thread may have closed it meanwhile.
        drop(this.enter(ruby)?);
        Ok(ruby.obj_wrap(Batch::new(ruby, batch::Batch::default())).as_value())
    }

    /// Enters, unless another thread is closing it.
    pub fn enter(&self, ruby: &Ruby) -> Result<Visit<'_, consumer::Consumer>, Error> {
        let visit = self.handle.enter(ruby)?;
        if visit.is_leaving() { Err(self.handle.closed(ruby)) } else { Ok(visit) }
    }

    fn take(&self, ruby: &Ruby, polled: Polled) -> Result<Option<Value>, Error> {
        match polled {
            Polled::Messages(batch) => Ok(Some(ruby.obj_wrap(Batch::new(ruby, batch)).as_value())),
            Polled::Nothing => Ok(None),
            Polled::Failed(failed) => Err(error::raise(ruby, &failed)),
            Polled::Notice(notice) => notice_of(ruby, notice).map(|notice| Some(notice.as_value())),
        }
    }

    fn wakeup(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.check_here(ruby)?;
        this.woken.store(true, Ordering::SeqCst);
        this.handle.door().wake_all();
        Ok(())
    }

    fn is_woken(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    fn acknowledge(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.enter(ruby)?.acknowledge().map_err(|failed| error::raise(ruby, &failed))
    }

    fn listen(ruby: &Ruby, this: &Self, wants: u8) -> Result<(), Error> {
        this.handle.enter(ruby)?.listen(Wants(wants));
        Ok(())
    }

    fn line(ruby: &Ruby, this: &Self) -> Result<Option<RArray>, Error> {
        let line = this.enter(ruby)?.next_line();
        line.map(|line| convert::line(ruby, line)).transpose()
    }

    /// nil: the group is left; false: not in time; an Array: a listener has to hear of this first.
    fn leave(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Value, Error> {
        let deadline = convert::deadline(ruby, Some(timeout))?.unwrap_or_else(Instant::now);
        let wake = new_wake(ruby)?;
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            let left = without_gvl(&wake, || visit.leave(&wake, deadline));
            drop(visit);
            // Who polls is to see that the consumer is leaving.
            this.handle.door().wake_all();
            match left {
                Some(Leaving::Done) => return Ok(ruby.qnil().as_value()),
                Some(Leaving::Rebalance(told)) => return rebalance(ruby, told).map(|told| told.as_value()),
                _ if convert::is_over(Some(deadline)) => return Ok(ruby.qfalse().as_value()),
                _ => check_interrupts(ruby)?,
            }
        }
    }

    /// For a fiber scheduler: an IO that turns readable when there may be something to poll.
    fn io(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        let descriptor = this.enter(ruby)?.queue().descriptor();
        let descriptor = descriptor
            .map_err(|errno| crate::error::errno(ruby, errno, "copying the descriptor of a consumer's queue"))?;
        ruby.class_io().funcall("for_fd", (descriptor.into_raw_fd(),))
    }

    fn rearm(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.enter(ruby)?.queue().rearm();
        Ok(())
    }

    fn assign(ruby: &Ruby, this: &Self, partitions: RArray) -> Result<(), Error> {
        let list = partitions_of(ruby, partitions)?;
        this.enter(ruby)?.assign(&list).map_err(|failed| error::raise(ruby, &failed))
    }

    fn pause(ruby: &Ruby, this: &Self, partitions: RArray, pause: bool) -> Result<(), Error> {
        let list = partitions_of(ruby, partitions)?;
        this.enter(ruby)?.pause(&list, pause).map_err(|failed| error::raise(ruby, &failed))
    }

    fn subscribe(ruby: &Ruby, this: &Self, topics: Vec<String>) -> Result<(), Error> {
        this.handle.enter(ruby)?.subscribe(&topics).map_err(|failed| error::raise(ruby, &failed))
    }

    fn unsubscribe(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.enter(ruby)?.unsubscribe().map_err(|failed| error::raise(ruby, &failed))
    }

    fn subscription(ruby: &Ruby, this: &Self) -> Result<Vec<String>, Error> {
        this.handle.enter(ruby)?.subscription().map_err(|failed| error::raise(ruby, &failed))
    }

    fn assignment(ruby: &Ruby, this: &Self) -> Result<RHash, Error> {
        let partitions = this.enter(ruby)?.assignment().map_err(|failed| error::raise(ruby, &failed))?;
        by_topic(ruby, partitions)
    }

    fn rebalance_protocol(ruby: &Ruby, this: &Self) -> Result<String, Error> {
        Ok(this.enter(ruby)?.rebalance_protocol())
    }

    fn is_assignment_lost(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        Ok(this.handle.enter(ruby)?.assignment_lost())
    }

    fn position(ruby: &Ruby, this: &Self) -> Result<RHash, Error> {
        let partitions = this.handle.enter(ruby)?.position().map_err(|failed| error::raise(ruby, &failed))?;
        offsets(ruby, partitions)
    }

    fn committed(ruby: &Ruby, this: &Self, timeout: f64) -> Result<RHash, Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let answer = this.handle.ask(ruby, move |consumer| consumer.committed(timeout))?;
        offsets(ruby, answer.map_err(|failed| error::raise(ruby, &failed))?)
    }

    fn lag(ruby: &Ruby, this: &Self, timeout: f64) -> Result<RHash, Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let answer = this.handle.ask(ruby, move |consumer| consumer.lag(timeout))?;
        offsets(ruby, answer.map_err(|failed| error::raise(ruby, &failed))?)
    }

    fn watermarks(ruby: &Ruby, this: &Self, topic: String, partition: i32, timeout: f64) -> Result<(i64, i64), Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let answer = this.handle.ask(ruby, move |consumer| consumer.watermarks(&topic, partition, timeout))?;
        answer.map_err(|failed| error::raise(ruby, &failed))
    }

    fn offsets_for_times(ruby: &Ruby, this: &Self, times: RArray, timeout: f64) -> Result<RHash, Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let list = partitions_of(ruby, times)?;
        let answer = this.handle.ask(ruby, move |consumer| consumer.offsets_for_times(&list, timeout))?;
        offsets(ruby, answer.map_err(|failed| error::raise(ruby, &failed))?)
    }

    fn seek(ruby: &Ruby, this: &Self, partitions: RArray, timeout: f64) -> Result<(), Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let list = partitions_of(ruby, partitions)?;
        let answer = this.handle.ask(ruby, move |consumer| consumer.seek(&list, timeout))?;
        answer.map_err(|failed| error::raise(ruby, &failed))
    }

    fn store(ruby: &Ruby, this: &Self, message: Obj<Message>) -> Result<(), Error> {
        let message = message.native();
        this.handle
            .enter(ruby)?
            .store_offset(message.topic(), message.partition(), message.offset() + 1, message.epoch())
            .map_err(|failed| error::raise(ruby, &failed))
    }

    fn store_at(ruby: &Ruby, this: &Self, topic: String, partition: i32, offset: i64) -> Result<(), Error> {
        let visit = this.handle.enter(ruby)?;
        visit.store_offset(&topic, partition, offset, -1).map_err(|failed| error::raise(ruby, &failed))
    }

    /// `offsets`: Messages, or `[topic, partition, next offset]`; nil is what is stored. The result is nil when there
    /// was nothing to commit, and true when a commit that nobody waits for was started.
    fn commit(
        ruby: &Ruby,
        this: &Self,
        offsets: Option<RArray>,
        waits: bool,
        timeout: Option<f64>,
    ) -> Result<Value, Error> {
        let list = offsets.map(|offsets| partitions_of(ruby, offsets)).transpose()?;
        if !waits {
            let answer = this.handle.enter(ruby)?.commit_later(list.as_ref());
            return match answer {
                Ok(()) => Ok(ruby.qtrue().as_value()),
                Err(failed) if failed.code == code::NO_OFFSET => Ok(ruby.qnil().as_value()),
                Err(failed) => Err(error::raise(ruby, &failed)),
            };
        }
        let deadline = convert::deadline(ruby, timeout)?;
        let wake = new_wake(ruby)?;
        let id = this.handle.enter(ruby)?.commit(list.as_ref()).map_err(|failed| error::raise(ruby, &failed))?;
        let answer = Self::commit_result(ruby, this, &id, &wake, deadline);
        if let Ok(visit) = this.handle.enter(ruby) {
            visit.forget_commit(id);
        }
        match answer? {
            Some(Ok(committed)) => offsets_or_nil(ruby, committed),
            Some(Err(failed)) if failed.code == code::NO_OFFSET => Ok(ruby.qnil().as_value()),
            Some(Err(failed)) => Err(error::raise(ruby, &failed)),
            None => {
                let message = format!("no answer to a commit within {} s", timeout.unwrap_or(0.0));
                Err(error::raise(ruby, &KafkaError::with(code::TIMED_OUT, message)))
            }
        }
    }

    fn commit_result(
        ruby: &Ruby,
        this: &Self,
        id: &CommitId,
        wake: &Arc<Wake>,
        deadline: Option<Instant>,
    ) -> Result<Option<Result<Vec<Partition>, KafkaError>>, Error> {
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, wake)?;
            let answer = without_gvl(wake, || visit.commit_result(id, wake, deadline));
            // A trap handler that closes the consumer waits for every visit to end, this one too.
            drop(visit);
            if let Some(Some(answer)) = answer {
                return Ok(Some(answer));
            }
            if convert::is_over(deadline) {
                return Ok(None);
            }
            check_interrupts(ruby)?;
        }
    }

    /// True when the group was left in time; nil when it was closed before.
    fn close(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Option<bool>, Error> {
        let deadline = convert::deadline(ruby, Some(timeout))?.unwrap_or_else(|| Instant::now() + ABANDONED);
        let Some(ending) = this.handle.close(ruby, move |consumer| consumer.finish(deadline))? else {
            return Ok(None);
        };
        Ok(Some(wait_for_end(ruby, &ending, Some(deadline + GRACE))?.unwrap_or(false)))
    }

    fn is_closed(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        this.handle.is_closed(ruby)
    }

    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the native handle and makes another one, unless another thread closes it.
    fn renew(ruby: &Ruby, this: &Self, properties: RHash, made_at: String, tokens: bool) -> Result<(), Error> {
        let config = super::config::config(ruby, properties)?;
        // It is no member of its group, so there is nothing to leave.
        if let Some(ending) = this.handle.rest(ruby, |_| ())? {
            wait_for_end(ruby, &ending, None)?;
        }
        this.handle.reopen(ruby, made_at, move |lease| consumer::Consumer::new(config, tokens, lease))?;
        let name = this.handle.enter(ruby)?.name();
        *this.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.abandon(|consumer| {
            consumer.finish(Instant::now() + ABANDONED);
        });
    }
}

fn open(ruby: &Ruby, class: RClass, properties: RHash, made_at: String, tokens: bool) -> Result<Value, Error> {
    let config = super::config::config(ruby, properties)?;
    let handle = Handle::open(ruby, "SwarmNative::Kafka::Consumer", made_at, move |lease| {
        consumer::Consumer::new(config, tokens, lease)
    })?;
    super::exit::remember_consumer(handle.door());
    let name = handle.enter(ruby)?.name();
    Ok(ruby.obj_wrap_as(Consumer { handle, name: Mutex::new(name), woken: AtomicBool::new(false) }, class).as_value())
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Consumer", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Consumer>(ruby);
    class.define_singleton_method("native_open", method!(open, 3))?;
    class.define_private_method("native_poll", method!(Consumer::poll, 3))?;
    class.define_private_method("native_next", method!(Consumer::next, 1))?;
    class.define_private_method("native_nothing", method!(Consumer::nothing, 0))?;
    class.define_private_method("native_renew", method!(Consumer::renew, 3))?;
    class.define_private_method("native_wakeup", method!(Consumer::wakeup, 0))?;
    class.define_private_method("native_woken?", method!(Consumer::is_woken, 0))?;
    class.define_private_method("native_acknowledge", method!(Consumer::acknowledge, 0))?;
    class.define_private_method("native_io", method!(Consumer::io, 0))?;
    class.define_private_method("native_rearm", method!(Consumer::rearm, 0))?;
    class.define_private_method("native_listen", method!(Consumer::listen, 1))?;
    class.define_private_method("native_line", method!(Consumer::line, 0))?;
    class.define_private_method("native_leave", method!(Consumer::leave, 1))?;
    class.define_private_method("native_set_token", method!(token::set::<Consumer>, 4))?;
    class.define_private_method("native_refuse_token", method!(token::refuse::<Consumer>, 1))?;
    class.define_private_method("native_assign", method!(Consumer::assign, 1))?;
    class.define_private_method("native_pause", method!(Consumer::pause, 2))?;
    class.define_private_method("native_seek", method!(Consumer::seek, 2))?;
    class.define_private_method("native_lag", method!(Consumer::lag, 1))?;
    class.define_private_method("native_watermarks", method!(Consumer::watermarks, 3))?;
    class.define_private_method("native_offsets_for_times", method!(Consumer::offsets_for_times, 2))?;
    class.define_private_method("native_subscribe", method!(Consumer::subscribe, 1))?;
    class.define_private_method("native_unsubscribe", method!(Consumer::unsubscribe, 0))?;
    class.define_private_method("native_store", method!(Consumer::store, 1))?;
    class.define_private_method("native_store_at", method!(Consumer::store_at, 3))?;
    class.define_private_method("native_commit", method!(Consumer::commit, 3))?;
    class.define_private_method("native_committed", method!(Consumer::committed, 1))?;
    class.define_private_method("native_close", method!(Consumer::close, 1))?;
    class.define_method("subscription", method!(Consumer::subscription, 0))?;
    class.define_method("assignment", method!(Consumer::assignment, 0))?;
    class.define_method("rebalance_protocol", method!(Consumer::rebalance_protocol, 0))?;
    class.define_method("assignment_lost?", method!(Consumer::is_assignment_lost, 0))?;
    class.define_method("position", method!(Consumer::position, 0))?;
    class.define_method("closed?", method!(Consumer::is_closed, 0))?;
    class.define_method("name", method!(Consumer::name, 0))
}
