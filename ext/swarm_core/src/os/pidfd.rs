//! A process handle that can never mean another process.
//!
//! A pid is a number that the kernel gives to somebody else once its process was reaped. A pidfd refers to the process
//! itself: after its end every call says so, and nobody else is ever reached.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, getpid, pidfd_open, waitid};

use crate::exit_status::ExitStatus;

/// A handle on one process. It is closed in programs that this one executes, and shared with forked children.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
    pid: i32,
    exited: AtomicBool,
    asked: AtomicU8,
    watch: OnceLock<Option<OwnedFd>>,
}

/// What [`Pidfd::wait`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// It has not ended.
    Running,
    /// It ended so. If it was to be reaped, it is.
    Ended(ExitStatus),
    /// It has ended, and `waitid` does not say how: it is not our child, or other code reaps it. Ask
    /// [`Pidfd::exit_info`]; the kernel may need some microseconds until it tells.
    Elsewhere,
}

/// So many looks make it worth to have a second descriptor.
const OFTEN: u8 = 16;

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

impl Pidfd {
    /// True where the kernel has everything that a pidfd needs: Linux 5.4, and no seccomp filter that forbids it.
    pub fn supported() -> bool {
        static SUPPORTED: AtomicU8 = AtomicU8::new(UNKNOWN);
        match SUPPORTED.load(Ordering::Relaxed) {
            UNKNOWN => {}
            known => return known == YES,
        }
        let answer = match probe() {
            Ok(()) => true,
            // Descriptors or memory have run out, which says nothing about the kernel. Nothing is remembered.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return true,
            Err(_) => false,
        };
        SUPPORTED.store(if answer { YES } else { NO }, Ordering::Relaxed);
        answer
    }

    /// Opens the process that has the pid now, which is certainly the meant one for an own child that was not reaped.
    ///
    /// SRCH: there is none. NOENT or INVAL: the pid is that of a thread that does not lead its process.
    pub fn open(pid: i32) -> rustix::io::Result<Self> {
        let known = if pid > 0 { Pid::from_raw(pid) } else { None };
        let fd = pidfd_open(known.ok_or(Errno::INVAL)?, PidfdFlags::empty())?;
        Ok(Self::from_fd(fd, pid))
    }

    /// Takes a descriptor that is known to be the pidfd of that process, such as one inherited over a fork.
    pub fn from_fd(fd: OwnedFd, pid: i32) -> Self {
        Self { fd, pid, exited: AtomicBool::new(false), asked: AtomicU8::new(0), watch: OnceLock::new() }
    }

    /// The pid that the process has, or had.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// True once the process has ended, reaped or not. Never blocks; no system call once it has been true.
    pub fn exited(&self) -> bool {
        if self.exited.load(Ordering::Relaxed) {
            return true;
        }
        // A call that fails (NOMEM) has not seen an end.
        let exited = match self.watch() {
            Some(watch) => {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: room for the one event, which outlives the call. rustix would take epoll_pwait(2), which costs
                // a fifth more.
                unsafe { libc::epoll_wait(watch.as_raw_fd(), &raw mut event, 1, 0) > 0 }
            }
            None => retry_on_intr(|| poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&Timespec::default())))
                .is_ok_and(|ready| ready > 0),
        };
        if exited {
            self.exited.store(true, Ordering::Relaxed);
        }
        exited
    }

    /// The epoll set of a handle that is asked often: asking it takes a third of the time of a poll. It is read only, so
    /// that forked processes can share it.
    fn watch(&self) -> Option<&OwnedFd> {
        if let Some(watch) = self.watch.get() {
            return watch.as_ref();
        }
        if self.asked.fetch_add(1, Ordering::Relaxed) < OFTEN {
            return None;
        }
        let made = epoll::create(CreateFlags::CLOEXEC).and_then(|set| {
            epoll::add(&set, &self.fd, EventData::new_u64(0), EventFlags::IN)?;
            Ok(set)
        });
        self.watch.get_or_init(|| made.ok()).as_ref()
    }

    /// Sends a signal by its number. `Ok(false)`: the process had ended before.
    ///
    /// The kernel takes a signal for a zombie without complaint, so its end is asked for first.
    pub fn signal(&self, signal: i32) -> rustix::io::Result<bool> {
        if self.exited() {
            return Ok(false);
        }
        match send_signal(self.fd.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => {
                self.exited.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Asks whether and how the process ended. Never blocks. `reap`: takes the status away, so that the zombie is gone
    /// and the pid is free; only one caller gets it.
    pub fn wait(&self, reap: bool) -> rustix::io::Result<Waited> {
        let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if !reap {
            options |= WaitIdOptions::NOWAIT;
        }
        match retry_on_intr(|| waitid(WaitId::PidFd(self.fd.as_fd()), options)) {
            Ok(None) => Ok(Waited::Running),
            Ok(Some(status)) => {
                self.exited.store(true, Ordering::Relaxed);
                Ok(Waited::Ended(exit_status(&status)))
            }
            Err(Errno::CHILD) if self.exited() => Ok(Waited::Elsewhere),
            Err(Errno::CHILD) => Ok(Waited::Running),
            Err(refused) => Err(refused),
        }
    }

    /// The end of a reaped process, whoever reaped it, from the kernel's own record (Linux 6.15). `None`: it was not
    /// reaped yet, the record is not there yet, or this kernel keeps none.
    pub fn exit_info(&self) -> Option<ExitStatus> {
        if !Self::keeps_exit_info() {
            return None;
        }
        get_info(self.fd.as_fd(), libc::PIDFD_INFO_EXIT)
            .ok()
            .filter(|info| info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0)
            .map(|info| ExitStatus::from_raw(info.exit_code))
    }

    /// False on a kernel that has no PIDFD_GET_INFO at all, so that nobody waits for what never comes.
    pub fn keeps_exit_info() -> bool {
        static KEEPS: AtomicU8 = AtomicU8::new(UNKNOWN);
        match KEEPS.load(Ordering::Relaxed) {
            UNKNOWN => {}
            known => return known == YES,
        }
        let answer = match Self::open(own_pid()) {
            Ok(own) => get_info(own.fd.as_fd(), libc::PIDFD_INFO_PID).is_ok(),
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return true,
            Err(_) => false,
        };
        KEEPS.store(if answer { YES } else { NO }, Ordering::Relaxed);
        answer
    }

    /// Another descriptor for the same process, closed on exec too.
    pub fn try_clone_fd(&self) -> rustix::io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn own_pid() -> i32 {
    getpid().as_raw_nonzero().get()
}

/// Each call that a Pidfd makes, once, on this process itself.
fn probe() -> rustix::io::Result<()> {
    let own = Pidfd::open(own_pid())?;
    send_signal(own.fd.as_fd(), 0)?;
    match own.wait(false) {
        Ok(_) => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// rustix has this call too, but only for signals that it knows by name, which leaves out the real-time ones.
fn send_signal(fd: BorrowedFd<'_>, signal: i32) -> rustix::io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads no memory through a null siginfo.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, no_info, 0u32) };
    if sent == 0 { Ok(()) } else { Err(last_errno()) }
}

fn get_info(fd: BorrowedFd<'_>, mask: libc::c_uint) -> rustix::io::Result<libc::pidfd_info> {
    // SAFETY: the struct holds integers alone, for which zeroes are a value.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(mask);
    // SAFETY: the descriptor is open while it is borrowed; the request's number carries the struct's size, so the
    // kernel writes within `info`.
    let told = unsafe { libc::ioctl(fd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if told == 0 { Ok(info) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Exited(code & 0xff),
        (None, Some(signal)) => ExitStatus::Signaled { signal, core_dumped: status.dumped() },
        (None, None) => ExitStatus::Unknown,
    }
}

#[cfg(test)]
#[allow(clippy::zombie_processes, reason = "the Pidfd under test reaps them")]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn sh(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        child.id().try_into().unwrap()
    }

    fn await_end(pidfd: &Pidfd) {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))).unwrap();
        assert_eq!(ready, 1, "the process did not end");
    }

    fn await_info(pidfd: &Pidfd) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            let info = pidfd.exit_info();
            if info.is_some() || started.elapsed() > DEADLINE {
                return info;
            }
            std::thread::yield_now();
        }
    }

    /// True on a kernel that tells the exit of a process that another one reaped.
    fn tells_exits() -> bool {
        let mut child = sh("exit 9");
        let pidfd = Pidfd::open(pid(&child)).unwrap();
        child.wait().unwrap();
        pidfd.exit_info().is_some()
    }

    #[test]
    fn a_peek_leaves_the_child_and_a_reap_takes_it() {
        let child = sh("read line; exit 7");
        let pidfd = Pidfd::open(pid(&child)).unwrap();
        assert!(Pidfd::supported());
        assert_eq!(pidfd.pid(), pid(&child));
        assert!(!pidfd.exited());
        assert_eq!(pidfd.wait(true), Ok(Waited::Running));
        drop(child.stdin);
        await_end(&pidfd);
        for _ in 0..2 {
            assert_eq!(pidfd.wait(false), Ok(Waited::Ended(ExitStatus::Exited(7))));
        }
        assert!(pidfd.exited());
        assert_eq!(pidfd.wait(true), Ok(Waited::Ended(ExitStatus::Exited(7))));
        assert_eq!(pidfd.wait(true), Ok(Waited::Elsewhere));
    }

    #[test]
    fn a_signal_arrives_once_and_a_zombie_gets_none() {
        let child = sh("read line");
        let pidfd = Pidfd::open(pid(&child)).unwrap();
        assert_eq!(pidfd.signal(libc::SIGKILL), Ok(true));
        await_end(&pidfd);
        let fresh = Pidfd::open(pid(&child)).unwrap();
        assert_eq!(fresh.signal(libc::SIGTERM), Ok(false), "a zombie counts as ended");
        let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(pidfd.wait(true), Ok(Waited::Ended(killed)));
        assert_eq!(pidfd.signal(libc::SIGTERM), Ok(false));
    }

    #[test]
    fn a_process_reaped_between_the_look_and_the_signal_is_just_gone() {
        let mut child = sh("exit 0");
        let pidfd = Pidfd::open(pid(&child)).unwrap();
        child.wait().unwrap();
        assert_eq!(send_signal(pidfd.as_fd(), libc::SIGTERM), Err(Errno::SRCH));
        assert_eq!(pidfd.signal(libc::SIGTERM), Ok(false));
    }

    #[test]
    fn the_kernel_remembers_the_exit_of_a_child_that_other_code_reaped() {
        for (script, status) in [
            ("exit 7", ExitStatus::Exited(7)),
            ("kill -9 $$", ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false }),
        ] {
            let mut child = sh(script);
            let pidfd = Pidfd::open(pid(&child)).unwrap();
            child.wait().unwrap();
            assert_eq!(pidfd.wait(true), Ok(Waited::Elsewhere));
            if tells_exits() {
                assert_eq!(await_info(&pidfd), Some(status));
            } else {
                assert_eq!(pidfd.exit_info(), None);
            }
        }
    }

    #[test]
    fn a_process_that_is_no_child_is_running_until_it_has_ended() {
        let mut child = sh("exec 3<&0; (read line <&3; exit 5) & echo $!; wait");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pidfd::open(line.trim().parse().unwrap()).unwrap();
        assert_eq!(grandchild.wait(false), Ok(Waited::Running));
        assert_eq!(grandchild.exit_info(), None);
        assert_eq!(grandchild.signal(0), Ok(true));
        drop(child.stdin.take());
        child.wait().unwrap();
        await_end(&grandchild);
        assert_eq!(grandchild.wait(false), Ok(Waited::Elsewhere));
        if tells_exits() {
            assert_eq!(await_info(&grandchild), Some(ExitStatus::Exited(5)));
        }
    }

    #[test]
    fn what_is_no_process_is_refused() {
        for pid in [0, -1, i32::MIN] {
            assert_eq!(Pidfd::open(pid).err(), Some(Errno::INVAL));
        }
        let mut child = sh("exit 0");
        let gone = pid(&child);
        child.wait().unwrap();
        assert_eq!(Pidfd::open(gone).err(), Some(Errno::SRCH));
        assert_eq!(Pidfd::open(i32::MAX).err(), Some(Errno::SRCH), "above any pid_max");
        let thread = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            Pidfd::open(tid).err()
        });
        assert!(matches!(thread.join().unwrap(), Some(Errno::NOENT | Errno::INVAL)));
    }

    #[test]
    fn a_bad_signal_number_is_refused() {
        let own = Pidfd::open(own_pid()).unwrap();
        assert_eq!(own.signal(65), Err(Errno::INVAL));
        assert_eq!(own.signal(0), Ok(true));
    }

    #[test]
    fn descriptors_are_closed_on_exec() {
        let own = Pidfd::open(own_pid()).unwrap();
        let clone = own.try_clone_fd().unwrap();
        for fd in [own.as_fd(), clone.as_fd()] {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}
