//! The descriptors that a supervisor keeps to itself.
//!
//! A forked node inherits them all: its siblings' pidfds and pipes, and those of any other supervisor in the process.
//! Each is noted here while it is open, so that the child can close them before anything else runs. Close-on-exec does
//! not help, since a node does not exec.
//!
//! The list is changed by threads that hold Ruby's GVL, or by no more than one thread: so a fork, which holds it too,
//! never copies it half changed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

static PRIVATE: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Notes an open descriptor.
pub fn note(fd: &impl AsFd) {
    list(|fds| fds.insert(fd.as_fd().as_raw_fd()));
}

/// Forgets one that is about to be closed, or that the child shall keep.
pub fn forget(fd: &impl AsFd) {
    list(|fds| fds.remove(&fd.as_fd().as_raw_fd()));
}

/// Closes everything that is noted. For a forked child alone: the values that own the descriptors must never be
/// dropped there, which is why each of them knows the process that made it.
pub fn close_all_in_child() {
    for fd in std::mem::take(&mut *PRIVATE.lock().unwrap_or_else(PoisonError::into_inner)) {
        // SAFETY: the descriptor was open in the parent at the fork, hence it is here. Its owner is a copy of the
        // parent's value, which is leaked in the child, so nobody uses or closes the number again.
        unsafe { libc::close(fd) };
    }
}

fn list(change: impl FnOnce(&mut BTreeSet<RawFd>) -> bool) {
    change(&mut PRIVATE.lock().unwrap_or_else(PoisonError::into_inner));
}
