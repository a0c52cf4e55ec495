//! A node outlives its supervisor by milliseconds.
//!
//! A thread of the node's waits for the supervisor's pidfd, which the supervisor opened before the fork: so there is
//! no moment in which its death could be missed or another process be taken for it. The thread needs no GVL, and it
//! ends the process even while Ruby code hangs in C. PR_SET_PDEATHSIG would not do: it is tied to the *thread* that
//! forked, and a signal can be ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::pidfd::Pidfd;

/// The exit code of a node whose supervisor has died.
pub const EXIT_CODE: i32 = 3;

/// The thread needs room for a poll and for nothing else.
const STACK: usize = 64 * 1024;

/// Starts the watch in a node. `own` is the node's own handle. With `grace` the node is told by a SIGTERM first, and
/// has that long; `orphaned` turns true before.
pub fn watch(supervisor: Pidfd, own: Pidfd, grace: Duration, orphaned: Arc<AtomicBool>) -> std::io::Result<()> {
    thread::Builder::new().name("orphan-watch".into()).stack_size(STACK).spawn(move || {
        while !ended(&supervisor) {}
        orphaned.store(true, Ordering::Release);
        if !grace.is_zero() {
            // A refusal leaves the deadline, which comes anyway.
            let _ = own.signal(libc::SIGTERM);
            thread::sleep(grace);
        }
        leave()
    })?;
    Ok(())
}

/// Ends this process as an orphan: no at_exit block, no closing of anything, nobody left to hear a reason.
pub fn leave() -> ! {
    // SAFETY: `_exit` touches no lock and no memory of the process, so it is right in any state.
    unsafe { libc::_exit(EXIT_CODE) }
}

/// Waits for the end of the process; false where the wait was cut short.
fn ended(process: &Pidfd) -> bool {
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], None);
    process.exited()
}
