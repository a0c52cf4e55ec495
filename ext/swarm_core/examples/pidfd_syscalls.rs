//! What the kernel takes for the system calls under `Pidfd`, for `bin/bench pidfd` to compare with.
//!
//! `pidfd_syscalls PID` reads lines such as `poll 20000` or `signal 20000` from its standard input, makes so many calls
//! on that process, and prints the nanoseconds of one.

use std::error::Error;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn main() -> Result<(), Box<dyn Error>> {
    let pid = std::env::args().nth(1).ok_or("usage: pidfd_syscalls PID")?.parse()?;
    let pidfd = pidfd_open(Pid::from_raw(pid).ok_or("0 is no pid")?, PidfdFlags::empty())?;
    let fd = pidfd.as_raw_fd();
    // A Ruby process has more threads than one, and then the kernel takes longer to look up a descriptor.
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (call, times) = line.split_once(' ').ok_or("a line is CALL TIMES")?;
        let times = times.parse()?;
        let nanoseconds = match call {
            "poll" => per_call(times, || {
                let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
                // SAFETY: one entry, which outlives the call.
                let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
                assert_eq!(ready, 0, "the process must be alive");
            }),
            "signal" => per_call(times, || {
                let no_info = std::ptr::null::<libc::siginfo_t>();
                // SAFETY: `pidfd` is open, and the kernel reads no memory through a null siginfo.
                let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGCONT, no_info, 0) };
                assert_eq!(sent, 0, "the process must be alive");
            }),
            _ => return Err(format!("no such call: {call}").into()),
        };
        println!("{nanoseconds}");
    }
    Ok(())
}

fn per_call(times: u32, mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..times {
        call();
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}
