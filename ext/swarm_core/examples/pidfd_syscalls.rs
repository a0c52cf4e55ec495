//! What the kernel takes for the system calls under `Pidfd`, for `bin/bench pidfd` to compare with.
//!
//! `pidfd_syscalls PID ROUNDS CALLS` prints a line a round: the nanoseconds a call of `poll` and of
//! `pidfd_send_signal` (SIGCONT) on that process, each repeated CALLS times.

use std::error::Error;
use std::os::fd::AsRawFd;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<Vec<i32>, _>>()?;
    let &[pid, rounds, calls] = arguments.as_slice() else {
        return Err("usage: pidfd_syscalls PID ROUNDS CALLS".into());
    };
    let pidfd = pidfd_open(Pid::from_raw(pid).ok_or("no pid")?, PidfdFlags::empty())?;
    let fd = pidfd.as_raw_fd();
    for _ in 0..rounds {
        let poll = per_call(calls, || {
            let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, which outlives the call.
            let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
            assert_eq!(ready, 0, "the process must be alive");
        });
        let signal = per_call(calls, || {
            let no_info = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: `pidfd` is open, and the kernel reads no memory through a null siginfo.
            let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGCONT, no_info, 0) };
            assert_eq!(sent, 0, "the process must be alive");
        });
        println!("{poll:.1} {signal:.1}");
    }
    Ok(())
}

fn per_call(calls: i32, mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..calls {
        call();
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}
