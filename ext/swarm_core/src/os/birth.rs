//! A fork, step by step, on both sides.
//!
//! Before: pipes are made and signals held back. The fork itself is Ruby's. The child first closes what only the
//! supervisor owns, starts its orphan watch, and, once its signal handlers stand, waits for *go*. The parent opens the
//! child's pidfd, which cannot be another process's since an unreaped child's pid is not given away, and then says go.
//! A supervisor that dies in between leaves a child that sees its pidfd turn readable and leaves as an orphan.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::pidfd::Pidfd;
use super::private;
use super::signals::Held;
use crate::node::Who;
use crate::report;

/// A fork that is under way.
#[derive(Debug)]
pub struct Birth {
    /// Whose process it will be.
    pub who: Who,
    ends: Ends,
    held: Held,
}

/// The four ends of the two pipes; the parent keeps `report_read` and `go_write`, the child the others.
#[derive(Debug)]
struct Ends {
    report_read: OwnedFd,
    report_write: OwnedFd,
    go_read: OwnedFd,
    go_write: OwnedFd,
    supervisor: OwnedFd,
}

impl Ends {
    fn each(&self) -> [&OwnedFd; 5] {
        [&self.report_read, &self.report_write, &self.go_read, &self.go_write, &self.supervisor]
    }
}

/// What the parent keeps of a process that it forked.
#[derive(Debug)]
pub struct Child {
    /// Whose process it is.
    pub who: Who,
    /// The process.
    pub pidfd: Pidfd,
    /// Where it reports.
    pub reports: OwnedFd,
    /// Where it is asked what it is doing: the pipe on which it has been told to go. Non-blocking.
    pub questions: OwnedFd,
}

impl Child {
    /// Ends a process that nobody can watch. It has run no user code for longer than a moment.
    pub(super) fn kill_and_reap(self) {
        let _ = self.pidfd.signal(libc::SIGKILL);
        let _ = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

/// What the child keeps.
#[derive(Debug)]
pub struct Newborn {
    /// Where it reports. Non-blocking.
    pub reports: OwnedFd,
    go: OwnedFd,
    supervisor: Pidfd,
    held: Held,
}

impl Birth {
    /// Makes the pipes and holds signals back. On failure nothing is left behind.
    pub fn prepare(who: Who, supervisor: &Pidfd) -> rustix::io::Result<Self> {
        let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let supervisor = supervisor.try_clone_fd()?;
        let ends = Ends { report_read, report_write, go_read, go_write, supervisor };
        ends.each().into_iter().for_each(private::note);
        Ok(Self { who, ends, held: Held::hold() })
    }

    /// In the parent, after the fork: takes the child as its own and lets it go. On failure the child finds that nobody
    /// says go, and leaves.
    pub fn forked(self, pid: i32) -> rustix::io::Result<Child> {
        self.ends.each().into_iter().for_each(private::forget);
        self.held.release();
        let Ends { report_read, report_write, go_read, go_write, supervisor } = self.ends;
        // The child's ends are closed first: that frees descriptors for the pidfd where they are scarce.
        drop((report_write, go_read, supervisor));
        let pidfd = Pidfd::open(pid)?;
        match rustix::io::write(&go_write, b"g") {
            // PIPE: it has died already, which its pidfd will tell.
            Ok(_) | Err(Errno::PIPE) => Ok(Child { who: self.who, pidfd, reports: report_read, questions: go_write }),
            Err(refused) => Err(refused),
        }
    }

    /// In the parent, when the fork failed, or seems to have: an exception that comes with the return of a fork takes the
    /// pid with it. The child then finds that nobody says go, and leaves; it is waited for, so that no zombie is left.
    pub fn failed(self) {
        self.ends.each().into_iter().for_each(private::forget);
        self.held.release();
        let Ends { report_read, report_write, go_read, go_write, supervisor } = self.ends;
        drop((report_write, go_read, go_write, supervisor));
        if let Some(child) = pid_of_the_unknown(&report_read) {
            let _ = retry_on_intr(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED));
        }
    }

    /// In the child, before anything else. Signals are still held back.
    pub fn born(self, supervisor_pid: i32) -> Newborn {
        let Ends { report_read, report_write, go_read, go_write, supervisor } = self.ends;
        for kept in [&report_write, &go_read, &supervisor, &report_read, &go_write] {
            private::forget(kept);
        }
        drop((report_read, go_write));
        private::close_all_in_child();
        let born = format!("{} {}\n", report::BORN, rustix::process::getpid().as_raw_nonzero());
        // The pipe is new and empty: it takes the line.
        let _ = rustix::io::write(&report_write, born.as_bytes());
        Newborn {
            reports: report_write,
            go: go_read,
            supervisor: Pidfd::from_fd(supervisor, supervisor_pid),
            held: self.held,
        }
    }
}

/// How long a child may take from the fork to its first line, on a machine that is short of everything.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The pid that a child has written into its report pipe; none where the pipe ends without, since there is no child.
fn pid_of_the_unknown(reports: &OwnedFd) -> Option<Pid> {
    retry_on_intr(|| poll(&mut [PollFd::new(reports, PollFlags::IN)], Some(&PATIENCE))).ok()?;
    let mut buffer = [0u8; 64];
    let length = rustix::io::read(reports, &mut buffer).ok()?;
    let line = std::str::from_utf8(&buffer[..length]).ok()?;
    Pid::from_raw(line.strip_prefix(report::BORN)?.trim().parse().ok()?)
}

impl Newborn {
    /// Starts the orphan watch: see [`super::orphan`].
    pub fn watch(&self, grace: Duration, exit_code: i32, orphaned: Arc<AtomicBool>) -> std::io::Result<()> {
        let own = Pidfd::open(rustix::process::getpid().as_raw_nonzero().get())?;
        let supervisor = Pidfd::from_fd(self.supervisor.try_clone_fd()?, self.supervisor.pid());
        super::orphan::watch(supervisor, own, grace, exit_code, orphaned)
    }

    /// Sets the process's niceness and how readily the kernel ends it when memory runs out.
    pub fn adjust(&self, niceness: Option<i32>, oom_score_adj: Option<i32>) -> rustix::io::Result<()> {
        if let Some(niceness) = niceness {
            rustix::process::setpriority_process(None, niceness)?;
        }
        if let Some(score) = oom_score_adj {
            std::fs::write("/proc/self/oom_score_adj", score.to_string())
                .map_err(|refused| Errno::from_io_error(&refused).unwrap_or(Errno::IO))?;
        }
        Ok(())
    }

    /// Lets signals through, now that the node's own handlers stand.
    pub fn release_signals(&self) {
        self.held.release();
    }

    /// Waits until the parent says go; returns where to report, and where questions come. None: it has given this child
    /// up. Where it has died, the child ends here as an orphan: it has done nothing yet that a grace would be for.
    pub fn wait_for_go(self, orphan_exit_code: i32) -> Option<(OwnedFd, OwnedFd)> {
        loop {
            let mut fds = [PollFd::new(&self.go, PollFlags::IN), PollFd::new(&self.supervisor, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if !fds[0].revents().is_empty() => {
                    let said = rustix::io::read(self.go.as_fd(), &mut [0u8; 1]);
                    return (said == Ok(1)).then_some((self.reports, self.go));
                }
                Ok(_) if !fds[1].revents().is_empty() => super::orphan::leave(orphan_exit_code),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
