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
///
/// A node of a large swarm inherits three descriptors of each sibling, most of them in a row: a row is closed in one call.
pub fn close_all_in_child() {
    let fds = std::mem::take(&mut *PRIVATE.lock().unwrap_or_else(PoisonError::into_inner));
    for (first, last) in rows(&fds) {
        // SAFETY: each descriptor of the row is noted, so it was open in the parent at the fork, hence it is here. Its owner
        // is a copy of the parent's value, which is leaked in the child, so nobody uses or closes the number again.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) };
        if closed != 0 {
            // Linux before 5.9.
            for fd in first..=last {
                // SAFETY: as above.
                unsafe { libc::close(fd) };
            }
        }
    }
    // To free it would write to pages that the child still shares with its parent.
    std::mem::forget(fds);
}

/// The first and the last of each row of numbers without a gap.
fn rows(fds: &BTreeSet<RawFd>) -> Vec<(RawFd, RawFd)> {
    let mut rows: Vec<(RawFd, RawFd)> = Vec::new();
    for &fd in fds {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == fd => *last = fd,
            _ => rows.push((fd, fd)),
        }
    }
    rows
}

fn list(change: impl FnOnce(&mut BTreeSet<RawFd>) -> bool) {
    change(&mut PRIVATE.lock().unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn a_row_ends_where_a_number_is_missing() {
        assert_eq!(rows(&[].into()), []);
        assert_eq!(rows(&[7].into()), [(7, 7)]);
        assert_eq!(rows(&[3, 4, 5, 7, 9, 10].into()), [(3, 5), (7, 7), (9, 10)]);
    }
}
