//! `SwarmNative::Turnstile::Queue`: a queue whose waits ask for the GVL when they come back.
//!
//! A thread that Ruby's own queue has woken stands at the end of Ruby's queue for the GVL, and on Ruby 3.1 and 3.2 nobody
//! can tell that it does. Here it waits without the GVL, as in every wait of this library.
//!
//! The items are in an Array that is changed by Ruby's C functions alone: a call of a Ruby method looks for interrupts when
//! it is left, so that an exception or another thread could come between an item and the ring for it. Every method has
//! the GVL from its beginning to its wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use magnus::gc::Marker;
use magnus::typed_data::Obj;
use magnus::value::{InnerValue, Opaque};
use magnus::{DataTypeFunctions, Error, RArray, RModule, Ruby, TypedData, Value, function, method, prelude::*};
use swarm_core::os::bell::Bell;

use crate::{gvl, wrapped};

/// How many forks lie between this process and the one that loaded the library.
static FORKS: AtomicU32 = AtomicU32::new(0);

#[derive(Default)]
struct State {
    closed: bool,
    /// One for each thread that waits and was not rung, the one that waits longest first.
    bells: VecDeque<Arc<Bell>>,
    /// In a forked child the threads behind older bells are not there.
    forks: u32,
}

#[derive(TypedData)]
#[magnus(class = "SwarmNative::Turnstile::Queue", free_immediately, mark)]
struct Queue {
    items: Opaque<RArray>,
    state: Mutex<State>,
}

impl DataTypeFunctions for Queue {
    fn mark(&self, marker: &Marker) {
        marker.mark(self.items);
    }
}

impl Queue {
    fn new(ruby: &Ruby) -> Self {
        Self { items: ruby.ary_new().into(), state: Mutex::default() }
    }

    fn items(&self, ruby: &Ruby) -> RArray {
        self.items.get_inner_with(ruby)
    }

    /// The lock is never held for longer than a moment, and always with the GVL: so no fork finds it taken.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let forks = FORKS.load(Ordering::Relaxed);
        if state.forks != forks {
            state.bells.clear();
            state.forks = forks;
        }
        state
    }

    fn ring_one(&self) {
        let bell = self.state().bells.pop_front();
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// False: it was rung, and is not there any more.
    fn take_out(&self, bell: &Arc<Bell>) -> bool {
        let mut state = self.state();
        let at = state.bells.iter().position(|other| Arc::ptr_eq(other, bell));
        at.is_some_and(|at| state.bells.remove(at).is_some())
    }
}

/// True: it has taken the item; false: it is closed.
fn put(ruby: &Ruby, queue: Obj<Queue>, item: Value) -> Result<bool, Error> {
    if queue.state().closed {
        return Ok(false);
    }
    queue.items(ruby).push(item)?;
    queue.ring_one();
    Ok(true)
}

fn close(queue: Obj<Queue>) {
    let mut state = queue.state();
    state.closed = true;
    for bell in state.bells.drain(..) {
        bell.ring();
    }
}

fn is_closed(queue: Obj<Queue>) -> bool {
    queue.state().closed
}

fn length(ruby: &Ruby, queue: Obj<Queue>) -> usize {
    queue.items(ruby).len()
}

fn clear(ruby: &Ruby, queue: Obj<Queue>) -> Result<(), Error> {
    queue.items(ruby).clear()
}

fn num_waiting(queue: Obj<Queue>) -> usize {
    queue.state().bells.len()
}

/// An Array of the next item, if it is there.
fn take_held(ruby: &Ruby, queue: Obj<Queue>) -> Result<RArray, Error> {
    let found = ruby.ary_new();
    if !queue.items(ruby).is_empty() {
        found.push(queue.items(ruby).shift::<Value>()?)?;
    }
    Ok(found)
}

/// The next item; nil where none has come in so many seconds, or none can come any more.
fn take(ruby: &Ruby, queue: Obj<Queue>, seconds: Option<f64>) -> Result<Value, Error> {
    // A time that cannot be counted is none.
    let until = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
        .and_then(|time| Instant::now().checked_add(time));
    loop {
        if !queue.items(ruby).is_empty() {
            return queue.items(ruby).shift();
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if queue.state().closed || left == Some(Duration::ZERO) {
            return Ok(ruby.qnil().as_value());
        }
        let bell = Arc::new(Bell::default());
        queue.state().bells.push_back(bell.clone());
        gvl::without_gvl(&bell, || match left {
            Some(time) => bell.wait_for(time),
            None => bell.wait(),
        });
        let rung = !queue.take_out(&bell);
        if let Err(raised) = gvl::check_interrupts(ruby) {
            // The ring was for an item that somebody else is to have now.
            if rung && !queue.items(ruby).is_empty() {
                queue.ring_one();
            }
            return Err(raised);
        }
    }
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    static AT_FORK: Once = Once::new();
    unsafe extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    AT_FORK.call_once(|| {
        // SAFETY: `forked` is one atomic addition, which is all right in a forked child, and this library is never
        // unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    let class = module.define_class("Queue", ruby.class_object())?;
    class.undef_default_alloc_func();
    wrapped::look_up::<Queue>(ruby);
    class.define_singleton_method("new", function!(|ruby: &Ruby| Queue::new(ruby), 0))?;
    class.define_private_method("put", method!(put, 1))?;
    class.define_private_method("take", method!(take, 1))?;
    class.define_private_method("take_held", method!(take_held, 0))?;
    class.define_private_method("native_close", method!(|_: &Ruby, queue| close(queue), 0))?;
    class.define_private_method("native_clear", method!(clear, 0))?;
    class.define_method("closed?", method!(|_: &Ruby, queue| is_closed(queue), 0))?;
    class.define_method("length", method!(length, 0))?;
    class.define_method("num_waiting", method!(|_: &Ruby, queue| num_waiting(queue), 0))?;
    Ok(())
}
