//! The end of the process: handles that nobody has closed.
//!
//! Ruby frees every object when it exits, in any order, with no deadline. So the handles are ended before, all at
//! once, within a short time: consumers leave their groups, producers deliver what a moment allows. What takes longer
//! ends with the process.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use magnus::{Error, RModule, Ruby, function};
use swarm_kafka::admin::Admin;
use swarm_kafka::consumer::Consumer;
use swarm_kafka::door::Door;
use swarm_kafka::ending;
use swarm_kafka::origin::Local;
use swarm_kafka::producer::Producer;

use super::handle::{end, new_wake};
use crate::gvl::without_gvl;

enum Open {
    Producer(Weak<Door<Producer>>),
    Consumer(Weak<Door<Consumer>>),
    Admin(Weak<Door<Admin>>),
}

impl Open {
    fn is_gone(&self) -> bool {
        match self {
            Self::Producer(door) => door.strong_count() == 0,
            Self::Consumer(door) => door.strong_count() == 0,
            Self::Admin(door) => door.strong_count() == 0,
        }
    }
}

/// The handles of the process that made the list; a forked child starts one of its own.
static OPEN: Mutex<Option<Local<Vec<Open>>>> = Mutex::new(None);

fn remember(handle: Open) {
    // With the GVL held; so no other thread has the lock, also not at a fork.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut handles = match open.take() {
        Some(list) if list.origin().is_here() => list.into_inner(),
        _ => Vec::new(),
    };
    handles.retain(|handle| !handle.is_gone());
    handles.push(handle);
    *open = Some(Local::new(handles));
}

/// Remembers a producer, until it is gone.
pub fn remember_producer(door: &Arc<Door<Producer>>) {
    remember(Open::Producer(Arc::downgrade(door)));
}

/// Remembers a consumer, until it is gone.
pub fn remember_consumer(door: &Arc<Door<Consumer>>) {
    remember(Open::Consumer(Arc::downgrade(door)));
}

/// Remembers an administrator's client, until it is gone.
pub fn remember_admin(door: &Arc<Door<Admin>>) {
    remember(Open::Admin(Arc::downgrade(door)));
}

/// Ends what is open, within `seconds`. The number of messages that this has cost.
fn close_all(ruby: &Ruby, seconds: f64) -> Result<usize, Error> {
    let list = OPEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(list) = list.filter(|list| list.origin().is_here()) else { return Ok(0) };
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let lost = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for handle in list.iter() {
        match handle {
            Open::Producer(door) => {
                let lost = Arc::clone(&lost);
                door.upgrade().and_then(|door| {
                    end(&door, move |producer| {
                        let left = producer.finish(Some(deadline));
                        super::producer::report_lost(&left);
                        lost.fetch_add(left.values().sum(), std::sync::atomic::Ordering::Relaxed);
                    })
                });
            }
            Open::Consumer(door) => {
                door.upgrade().and_then(|door| {
                    end(&door, move |consumer| {
                        consumer.finish(deadline);
                    })
                });
            }
            Open::Admin(door) => {
                door.upgrade().and_then(|door| {
                    if let Ok(visit) = door.enter() {
                        visit.stop_waiting();
                    }
                    end(&door, |_| ())
                });
            }
        }
    }
    let wake = new_wake(ruby)?;
    let all = deadline + Duration::from_secs_f64(seconds);
    // Interrupts are not looked at: the process is leaving, and the time is short.
    if without_gvl(&wake, || ending::wait_for_all(all)).is_none() {
        ending::wait_for_all(all);
    }
    Ok(lost.load(std::sync::atomic::Ordering::Relaxed))
}

/// Defines the function that an `at_exit` block calls.
pub fn init(kafka: RModule) -> Result<(), Error> {
    kafka.define_module_function("native_close_all", function!(close_all, 1))
}
