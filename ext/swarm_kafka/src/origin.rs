//! Which process made a handle.
//!
//! A forked child inherits the memory of a handle but none of its threads, and any call into it may hang or crash. So
//! each handle remembers its maker. Asking the kernel for the pid on each call would cost as much as the call: a
//! counter that `pthread_atfork` moves on in each child answers the same for the price of a load.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static PID: AtomicU32 = AtomicU32::new(0);
static COUNTING: Once = Once::new();

extern "C" fn in_the_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    PID.store(std::process::id(), Ordering::Relaxed);
    crate::ending::renew_after_fork();
}

/// The process that made a handle.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pid: u32,
    generation: u32,
}

impl Origin {
    /// This process.
    pub fn here() -> Self {
        COUNTING.call_once(|| {
            // SAFETY: the handler asks for the pid, writes atomics and allocates, which the C library allows in a child.
            let failed = unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
            assert_eq!(failed, 0, "pthread_atfork: out of memory");
            PID.store(std::process::id(), Ordering::Relaxed);
        });
        Self { pid: PID.load(Ordering::Relaxed), generation: GENERATION.load(Ordering::Relaxed) }
    }

    /// True in the process that made it, false in every other one.
    pub fn is_here(self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }

    /// The pid of the process that made it.
    pub fn pid(self) -> u32 {
        self.pid
    }
}

/// A value that is only ever dropped by the process that made it; every other one leaks its copy, on purpose.
pub struct Local<T> {
    origin: Origin,
    value: ManuallyDrop<T>,
}

impl<T> Local<T> {
    /// Keeps a value of this process.
    pub fn new(value: T) -> Self {
        Self { origin: Origin::here(), value: ManuallyDrop::new(value) }
    }

    /// The process that made it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The value; for the process that made it.
    pub fn into_inner(mut self) -> T {
        // SAFETY: `self` is forgotten before anybody can look at the place again.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        std::mem::forget(self);
        value
    }
}

impl<T> Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.origin.is_here() {
            // SAFETY: it is dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
