//! The methods that fork, each with a hook before it: `Process._fork`, which Kernel#fork, Process.fork and IO.popen("-")
//! call, `Process.daemon`, which forks by itself, and `IO.popen`.
//!
//! They are Rust so that nothing comes between the permit and the fork: Thread#raise, Thread#kill and Timeout are served
//! where Ruby code runs, hence inside `super` alone, whose end is seen here whatever it is. In a forked child the hooks
//! raise nothing of their own.

use std::ffi::c_int;

use magnus::rb_sys::{AsRawValue, FromRawValue, protect};
use magnus::{Error, Module, Object, RHash, RModule, RString, Ruby, TryConvert, Value, function, method};
use swarm_core::fork_gate::{gate, renew_after_fork};
use swarm_core::os::fork::{self, ForkUnderWay, Reserved};

use crate::error;
use crate::fork_guard::decide;

/// `Process._fork`, and `Process.daemon` with its arguments.
fn guarded_fork(ruby: &Ruby, args: &[Value]) -> Result<Value, Error> {
    let under_way = match ForkUnderWay::begin_reserved() {
        None => decide(ruby)?.permit().map(ForkUnderWay::begin),
        reserved => reserved,
    };
    let before = (std::process::id(), std::ptr::from_ref(gate()));
    // What is raised here comes from another hook or from Ruby's fork; in the child too it is not ours to swallow.
    let forked = call_super(ruby, args);
    if std::process::id() != before.0 && std::ptr::eq(gate(), before.1) {
        renew_after_fork(); // forked by a raw system call, which the C library did not see
    }
    drop(under_way);
    forked
}

fn hooked_fork(ruby: &Ruby, _process: Value) -> Result<Value, Error> {
    fork::note_child(None);
    let forked = guarded_fork(ruby, &[]);
    fork::note_child(forked.as_ref().ok().and_then(|pid| i32::try_convert(*pid).ok()));
    forked
}

fn hooked_daemon(ruby: &Ruby, _process: Value, args: &[Value]) -> Result<Value, Error> {
    guarded_fork(ruby, args)
}

/// `IO.popen`. For "-" it makes its pipes before it forks, and would leave them open for ever if the fork were refused
/// only then.
fn hooked_popen(ruby: &Ruby, _io: Value, args: &[Value]) -> Result<Value, Error> {
    let reservation = if forks(args) { decide(ruby)?.permit().map(Reserved::new) } else { None };
    let opened = call_super(ruby, args);
    drop(reservation);
    opened
}

/// True if IO.popen forks for these arguments without running a command: `"-"`, after an environment or first.
fn forks(args: &[Value]) -> bool {
    let command = args.iter().find(|&&arg| RHash::from_value(arg).is_none());
    command.and_then(|&command| RString::from_value(command)).is_some_and(|command| {
        // SAFETY: the slice is compared and forgotten before any Ruby code can run.
        unsafe { command.as_slice() == b"-" }
    })
}

/// Calls `super` with these arguments and with the keywords and the block of this call.
fn call_super(_ruby: &Ruby, args: &[Value]) -> Result<Value, Error> {
    let raw: Vec<rb_sys::VALUE> = args.iter().map(|arg| arg.as_raw()).collect();
    let result = protect(|| {
        // SAFETY: a `Ruby` exists, so this thread has the GVL; the method that is running has a `super`; the values
        // are the arguments of this call, which Ruby keeps alive; `protect` stops what is raised.
        unsafe { rb_sys::rb_call_super(raw.len() as c_int, raw.as_ptr()) }
    })?;
    // SAFETY: what a Ruby method returned.
    Ok(unsafe { Value::from_raw(result) })
}

/// Has every fork seen from now on; before, the guard costs a fork nothing.
fn watch(ruby: &Ruby) -> Result<(), Error> {
    fork::watch().map_err(|errno| error::errno(ruby, errno, "watching for forks"))
}

pub fn init(guard: RModule) -> Result<(), Error> {
    guard.define_module("Core")?.define_singleton_method("watch", function!(watch, 0))?;
    let (process, io) = (guard.define_module("ProcessHook")?, guard.define_module("PopenHook")?);
    // SAFETY: for the methods that are defined until it is false again. They may run in any Ractor: what they share is
    // behind the locks of `swarm_core`.
    unsafe { rb_sys::rb_ext_ractor_safe(true) };
    process.define_method("_fork", method!(hooked_fork, 0))?;
    process.define_method("daemon", method!(hooked_daemon, -1))?;
    io.define_method("popen", method!(hooked_popen, -1))?;
    // SAFETY: as above.
    unsafe { rb_sys::rb_ext_ractor_safe(false) };
    Ok(())
}
