//! `SwarmNative::Pidfd`: what of it needs the kernel. Waiting is Ruby, `swarm_native/pidfd.rb`.
//!
//! Every method here holds the GVL and makes at most a few system calls that never block, so the GVL is also what keeps
//! two threads apart.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use magnus::{Error, Integer, RClass, Ruby, Value, function, kwargs, method, prelude::*};
use rustix::io::Errno;
use swarm_core::exit_status::ExitStatus;
use swarm_core::os::{either::either, pidfd, pidfd::Waited, wake::Wake};

use crate::error;
use crate::signal_name::signal_number;

#[magnus::wrap(class = "SwarmNative::Pidfd", free_immediately, size)]
struct Pidfd {
    pid: i32,
    /// `None` once closed.
    open: RefCell<Option<pidfd::Pidfd>>,
    /// Stays true after the handle was closed.
    ended: Cell<bool>,
    /// Kept here at the moment it is reaped: only one caller gets it from the kernel.
    status: Cell<Option<ExitStatus>>,
    waiters: RefCell<Waiters>,
}

/// Who waits at the moment, and how they are told that the handle was closed. They keep the eventfd open until the
/// last has left, since a closed one would no longer be seen.
#[derive(Default)]
struct Waiters {
    count: usize,
    /// With the process that made it: one that was forked since shares the eventfd, and must leave the other's waiters
    /// alone.
    closed: Option<(u32, Wake)>,
}

impl Pidfd {
    fn supported() -> bool {
        pidfd::Pidfd::supported()
    }

    fn open(ruby: &Ruby, class: RClass, pid: Value) -> Result<Value, Error> {
        if !pidfd::Pidfd::supported() {
            return Err(error::errno(ruby, Errno::NOSYS, UNSUPPORTED));
        }
        let wanted = pid_argument(ruby, pid)?;
        let open = pidfd::Pidfd::open(wanted)
            .or_else(|refused| match refused {
                // Handles that nobody refers to any more hold descriptors until they are collected.
                Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
                    ruby.gc_start();
                    pidfd::Pidfd::open(wanted)
                }
                _ => Err(refused),
            })
            .map_err(|refused| open_error(ruby, wanted, refused))?;
        let handle = Self {
            pid: wanted,
            open: RefCell::new(Some(open)),
            ended: Cell::new(false),
            status: Cell::new(None),
            waiters: RefCell::default(),
        };
        Ok(ruby.obj_wrap_as(handle, class).as_value())
    }

    fn pid(&self) -> i32 {
        self.pid
    }

    fn alive(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        if this.ended.get() {
            return Ok(false);
        }
        let ended = this.with(ruby, |open| Ok(open.exited()))?;
        this.ended.set(ended);
        Ok(!ended)
    }

    fn signal(ruby: &Ruby, this: &Self, name: Value) -> Result<bool, Error> {
        let number = signal_number(ruby, name)?;
        if this.ended.get() {
            return Ok(false);
        }
        let sent = this.with(ruby, |open| {
            open.signal(number)
                .map_err(|refused| error::errno(ruby, refused, &format!("sending signal {number} to pid {}", this.pid)))
        })?;
        if !sent {
            this.ended.set(true);
        }
        Ok(sent)
    }

    /// The raw wait status; false where the process has ended and `waitid` does not say how; nil while it runs.
    fn ask(ruby: &Ruby, this: &Self, reap: bool) -> Result<Value, Error> {
        if let (Some(known), false) = (this.status.get(), reap && !this.closed()) {
            return Ok(raw_status(ruby, known));
        }
        let waited = this.with(ruby, |open| {
            open.wait(reap).map_err(|refused| error::errno(ruby, refused, &format!("waiting for pid {}", this.pid)))
        })?;
        Ok(match waited {
            Waited::Running => ruby.qnil().as_value(),
            Waited::Ended(status) => this.learn(ruby, status),
            Waited::Elsewhere => match this.status.get() {
                Some(known) => raw_status(ruby, known),
                None => ruby.qfalse().as_value(),
            },
        })
    }

    /// The raw wait status that the kernel keeps of a process that others reaped, or nil.
    fn record(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        if let Some(known) = this.status.get() {
            return Ok(raw_status(ruby, known));
        }
        let info = this.with(ruby, |open| Ok(open.exit_info()))?;
        Ok(info.map_or_else(|| ruby.qnil().as_value(), |status| this.learn(ruby, status)))
    }

    fn learn(&self, ruby: &Ruby, status: ExitStatus) -> Value {
        self.ended.set(true);
        self.status.set(Some(status));
        raw_status(ruby, status)
    }

    /// An IO of its own for one waiter, readable once the process has ended or the handle was closed.
    fn open_waiter(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        let set = this.with(ruby, |open| {
            this.waiters
                .borrow_mut()
                .join(open)
                .map_err(|refused| error::errno(ruby, refused, &format!("waiting for pid {}", this.pid)))
        })?;
        io_for(ruby, set).inspect_err(|_| this.waiters.borrow_mut().leave())
    }

    fn close_waiter(&self) {
        self.waiters.borrow_mut().leave();
    }

    /// An IO on another descriptor for the same process.
    fn open_io(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        let fd = this.with(ruby, |open| {
            open.try_clone_fd()
                .map_err(|refused| error::errno(ruby, refused, &format!("copying the pidfd of pid {}", this.pid)))
        })?;
        io_for(ruby, fd)
    }

    fn close(&self) {
        if self.open.take().is_some() {
            self.waiters.borrow_mut().dismiss();
        }
    }

    fn closed(&self) -> bool {
        self.open.borrow().is_none()
    }

    /// `work` must not call back into Ruby code.
    fn with<R>(&self, ruby: &Ruby, work: impl FnOnce(&pidfd::Pidfd) -> Result<R, Error>) -> Result<R, Error> {
        match &*self.open.borrow() {
            Some(open) => work(open),
            None => Err(error::raise(ruby, "ClosedHandle", format!("the pidfd of pid {} is closed", self.pid))),
        }
    }
}

impl Waiters {
    fn join(&mut self, process: &pidfd::Pidfd) -> rustix::io::Result<OwnedFd> {
        let own = std::process::id();
        if self.closed.as_ref().is_some_and(|(maker, _)| *maker != own) {
            *self = Self::default();
        }
        let (_, wake) = match &mut self.closed {
            Some(known) => known,
            none => none.insert((own, Wake::new()?)),
        };
        let set = either(process, &*wake);
        self.count += 1;
        if set.is_err() {
            self.leave();
        }
        set
    }

    fn leave(&mut self) {
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.closed = None;
        }
    }

    /// Wakes all. The last one to leave takes the eventfd along.
    fn dismiss(&mut self) {
        match &self.closed {
            Some((maker, wake)) if self.count > 0 && *maker == std::process::id() => wake.wake(),
            _ => self.closed = None,
        }
    }
}

const UNSUPPORTED: &str = "opening a pidfd: it needs Linux 5.4 or newer, and a seccomp profile that allows pidfd_open, \
                           pidfd_send_signal and waitid";

fn raw_status(ruby: &Ruby, status: ExitStatus) -> Value {
    match status.to_raw() {
        Some(raw) => ruby.integer_from_i64(i64::from(raw)).as_value(),
        None => ruby.qfalse().as_value(),
    }
}

/// Hands a descriptor over to a new Ruby IO, which closes it.
fn io_for(ruby: &Ruby, fd: OwnedFd) -> Result<Value, Error> {
    let io: Value = ruby.class_io().funcall("for_fd", (fd.as_raw_fd(), "r", kwargs!(ruby, "autoclose" => true)))?;
    let _ = fd.into_raw_fd();
    Ok(io)
}

fn pid_argument(ruby: &Ruby, pid: Value) -> Result<i32, Error> {
    let Some(integer) = Integer::from_value(pid) else {
        let message = format!("a pid is an Integer above 0, got {} ({})", pid.inspect(), pid.class());
        return Err(Error::new(ruby.exception_type_error(), message));
    };
    match integer.to_i64() {
        Ok(pid) if pid < 1 => Err(error::argument(ruby, format!("a pid is an Integer above 0, got {pid}"))),
        Ok(pid) => i32::try_from(pid).map_err(|_| no_process(ruby, &pid.to_string())),
        Err(_) if integer.funcall("negative?", ())? => {
            Err(error::argument(ruby, format!("a pid is an Integer above 0, got {integer}")))
        }
        Err(_) => Err(no_process(ruby, &integer.to_string())),
    }
}

fn no_process(ruby: &Ruby, pid: &str) -> Error {
    error::errno(ruby, Errno::SRCH, &format!("opening a pidfd for pid {pid}"))
}

fn open_error(ruby: &Ruby, pid: i32, refused: Errno) -> Error {
    match (refused, leader_of(pid)) {
        // Which of the two it is depends on the kernel.
        (Errno::NOENT | Errno::INVAL, Some(leader)) if leader != pid => error::argument(
            ruby,
            format!("{pid} is a thread of the process {leader}: a pidfd needs the pid of the process"),
        ),
        // The thread has ended meanwhile.
        (Errno::NOENT | Errno::INVAL, _) => no_process(ruby, &pid.to_string()),
        _ => error::errno(ruby, refused, &format!("opening a pidfd for pid {pid}")),
    }
}

/// The pid of the process that a thread belongs to.
fn leader_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let class = error::swarm_native(ruby)?.define_class("Pidfd", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Pidfd>(ruby);
    class.define_singleton_method("supported?", function!(Pidfd::supported, 0))?;
    class.define_singleton_method("new", method!(Pidfd::open, 1))?;
    class.define_method("pid", method!(Pidfd::pid, 0))?;
    class.define_method("alive?", method!(Pidfd::alive, 0))?;
    class.define_method("signal", method!(Pidfd::signal, 1))?;
    class.define_method("closed?", method!(Pidfd::closed, 0))?;
    class.define_private_method("ask", method!(Pidfd::ask, 1))?;
    class.define_private_method("record", method!(Pidfd::record, 0))?;
    class.define_private_method("open_waiter", method!(Pidfd::open_waiter, 0))?;
    class.define_private_method("close_waiter", method!(Pidfd::close_waiter, 0))?;
    class.define_private_method("open_io", method!(Pidfd::open_io, 0))?;
    class.define_private_method("close_handle", method!(Pidfd::close, 0))?;
    Ok(())
}
