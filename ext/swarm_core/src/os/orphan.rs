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

/// The thread needs room for a poll and for nothing else.
const STACK: usize = 64 * 1024;

/// Starts the watch in a node. `own` is the node's own handle. With `grace` the node is told by a SIGTERM first, and
/// has that long; `orphaned` turns true before.
pub fn watch(
    supervisor: Pidfd,
    own: Pidfd,
    grace: Duration,
    exit_code: i32,
    orphaned: Arc<AtomicBool>,
) -> std::io::Result<()> {
    thread::Builder::new().name("orphan-watch".into()).stack_size(STACK).spawn(move || {
        run_soon_once_woken();
        while !ended(&supervisor) {}
        orphaned.store(true, Ordering::Release);
        if !grace.is_zero() {
            // A refusal leaves the deadline, which comes anyway.
            let _ = own.signal(libc::SIGTERM);
            thread::sleep(grace);
        }
        leave(exit_code)
    })?;
    Ok(())
}

/// Ends this process as an orphan: no at_exit block, no closing of anything, nobody left to hear a reason.
pub fn leave(exit_code: i32) -> ! {
    // SAFETY: `_exit` touches no lock and no memory of the process, so it is right in any state.
    unsafe { libc::_exit(exit_code) }
}

/// Waits for the end of the process; false where the wait was cut short.
fn ended(process: &Pidfd) -> bool {
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], None);
    process.exited()
}

/// A tenth of a millisecond, the shortest that there is.
const SLICE: u64 = 100_000;

/// Asks the scheduler for a short time slice. This thread sleeps until the one moment at which it must not stand behind
/// threads that compute, and whoever wants little of the processor gets it sooner: of a hundred orphans on busy cores
/// the slowest was gone after 8 ms instead of 14. Linux heeds it since 6.12; older ones, and a refusal, cost nothing.
fn run_soon_once_woken() {
    if let Some(mut own) = scheduling() {
        if [libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&(own.sched_policy as i32)) {
            own.sched_runtime = SLICE;
            // SAFETY: the kernel reads the struct, whose size stands in it and which outlives the call. 0 is this thread.
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const own, 0) };
        }
    }
}

/// How this thread is scheduled.
fn scheduling() -> Option<libc::sched_attr> {
    // SAFETY: the struct holds integers alone, for which zeroes are a value.
    let mut own: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more than the size that it is given, into a struct that outlives the call.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut own, size_of_val(&own), 0) };
    (told == 0).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_has_the_shortest_time_slice_where_the_kernel_has_them() {
        let heeded = std::thread::spawn(|| {
            run_soon_once_woken();
            scheduling().unwrap().sched_runtime
        });
        let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let numbers = version.split(|character: char| !character.is_ascii_digit());
        let version: Vec<u32> = numbers.take(2).map(|number| number.parse().unwrap()).collect();
        assert_eq!(heeded.join().unwrap() == SLICE, version.as_slice() >= &[6, 12][..]);
    }
}
