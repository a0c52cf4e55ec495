//! The end of a handle, on a thread of its own.
//!
//! librdkafka joins its threads when a handle is destroyed, and one of them may be asking a name server that does not
//! answer. A thread of ours waits for that, so that a close keeps its deadline and can be interrupted, and the garbage
//! collector never waits. The lease of the fork gate goes with the handle, as late as it takes.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use swarm_core::os::wake::Wake;

use crate::queue::wait_readable;

/// How many ends are under way.
struct UnderWay {
    count: Mutex<usize>,
    ended: Condvar,
}

/// Those of the process that nobody has forked since it was loaded.
static FIRST: UnderWay = UnderWay::new();

/// A forked child's own; null: [`FIRST`].
static OWN: AtomicPtr<UnderWay> = AtomicPtr::new(std::ptr::null_mut());

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

impl UnderWay {
    const fn new() -> Self {
        Self { count: Mutex::new(0), ended: Condvar::new() }
    }

    fn here() -> &'static Self {
        let own = OWN.load(Ordering::Acquire);
        // SAFETY: it is null or comes from `Box::leak` in `renew_after_fork`, and none is ever freed.
        unsafe { own.as_ref() }.unwrap_or(&FIRST)
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a forked child count anew: its parent's lock may have been held by a thread that the child does not have, and what
/// is counted there never ends here. To be called while the child has one thread.
pub(crate) fn renew_after_fork() {
    OWN.store(Box::leak(Box::new(UnderWay::new())), Ordering::Release);
}

/// Counts an end as under way.
struct Running(&'static UnderWay);

impl Running {
    fn start() -> Self {
        let here = UnderWay::here();
        *here.count() += 1;
        Self(here)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.ended.notify_all();
    }
}

/// Waits until no end is under way; false at the deadline.
pub fn wait_for_all(deadline: Instant) -> bool {
    let here = UnderWay::here();
    let mut count = here.count();
    while *count > 0 {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return false;
        }
        count = here.ended.wait_timeout(count, remaining).unwrap_or_else(PoisonError::into_inner).0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;
    use std::time::Duration;

    #[test]
    fn a_child_that_was_forked_while_an_end_was_counted_neither_waits_for_the_lock_nor_for_the_end() {
        Origin::here();
        let end = Running::start();
        let held = end.0.count();
        // SAFETY: the child makes what this module makes in every forked child, and leaves without unwinding.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no precondition; whoever waits for the lock is ended by it.
            unsafe { libc::alarm(10) };
            drop(Running::start());
            let ended = wait_for_all(Instant::now() + Duration::from_secs(5));
            // SAFETY: no precondition.
            unsafe { libc::_exit(if ended { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
        drop(held);
        drop(end);
    }
}
