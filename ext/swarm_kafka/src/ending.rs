//! The end of a handle, on a thread of its own.
//!
//! librdkafka joins its threads when a handle is destroyed, and one of them may be asking a name server that does not
//! answer. A thread of ours waits for that, so that a close keeps its deadline and can be interrupted, and the garbage
//! collector never waits. The lease of the fork gate goes with the handle, as late as it takes.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use swarm_core::os::wake::Wake;

use crate::queue::wait_readable;

static UNDER_WAY: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

struct Shared<R> {
    result: OnceLock<R>,
    done: Option<Wake>,
}

/// An end under way, or over.
pub struct Ending<R>(Arc<Shared<R>>);

impl<R: Send + Sync + 'static> Ending<R> {
    /// Runs `work`, which ends a handle.
    pub fn start(work: impl FnOnce() -> R + Send + 'static) -> Self {
        // Without a descriptor the end can still be had, by waiting for it here.
        let shared = Arc::new(Shared { result: OnceLock::new(), done: Wake::new().ok() });
        let running = Running::start();
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                let _ = shared.result.set(work());
                if let Some(done) = &shared.done {
                    done.wake();
                }
                drop(running);
            }
        };
        if shared.done.is_none() {
            run();
            return Self(shared);
        }
        let slot = Arc::new(Mutex::new(Some(run)));
        let spawned = spawn_without_signals("swarm-ending", {
            let slot = Arc::clone(&slot);
            move || run_once(&slot)
        });
        if spawned.is_err() {
            run_once(&slot);
        }
        Self(shared)
    }

    /// The result; `None` at the deadline, or when `wake` is woken from elsewhere.
    pub fn wait(&self, wake: &Wake, deadline: Option<Instant>) -> Option<&R> {
        use std::os::fd::AsFd;
        if let (None, Some(done)) = (self.0.result.get(), &self.0.done) {
            wait_readable(done.as_fd(), wake, deadline);
        }
        self.0.result.get()
    }
}

fn run_once<F: FnOnce()>(slot: &Mutex<Option<F>>) {
    let run = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(run) = run {
        run();
    }
}

/// Counts an end as under way.
struct Running;

impl Running {
    fn start() -> Self {
        *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_all();
    }
}

/// Waits until no end is under way; false at the deadline.
pub fn wait_for_all(deadline: Instant) -> bool {
    let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    while *under_way > 0 {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return false;
        }
        under_way = ENDED.wait_timeout(under_way, remaining).unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}

/// A thread that no signal's handler ever runs on: signals are Ruby's.
pub(crate) fn spawn_without_signals(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    // SAFETY: both sets are initialised by libc before they are read. A thread inherits the mask of its maker, so the
    // mask is set for the moment of making it.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        thread
    }
}
