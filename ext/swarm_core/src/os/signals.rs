//! Holding signals back while a process forks.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

/// The signals that were blocked before they all were. [`Held::release`] puts that back.
#[derive(Debug)]
pub struct Held {
    before: SigSet,
}

/// Those that are never held back: Ruby's timer, and what a thread's own fault raises.
const NEVER: [Signal; 6] =
    [Signal::SIGVTALRM, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

impl Held {
    /// Blocks every signal in this thread that may be blocked.
    pub fn hold() -> Self {
        let mut all = SigSet::all();
        NEVER.iter().for_each(|signal| all.remove(*signal));
        let mut before = SigSet::empty();
        // The call fails only for a `how` that it does not know.
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&all), Some(&mut before));
        Self { before }
    }

    /// Lets through again what was let through before.
    pub fn release(&self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
