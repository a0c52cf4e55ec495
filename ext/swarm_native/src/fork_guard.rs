//! `SwarmNative::ForkGuard::Hook#_fork`: the hook that every fork of Ruby's passes, and `PopenHook#popen` before it.
//!
//! It is Rust so that nothing comes between: Thread#raise, Thread#kill and Timeout are served where Ruby code runs, hence
//! inside `super` alone, whose end is seen here whatever it is.

use std::ffi::c_int;

use magnus::rb_sys::{AsRawValue, FromRawValue, protect};
use magnus::value::ReprValue;
use magnus::{Error, Exception, Module, RHash, RModule, RString, Ruby, Value, method};
use swarm_core::fork_gate::{Permit, gate, renew_after_fork};
use swarm_core::os::fork::{self, ForkUnderWay, Reserved};

use crate::{error, fork_lease};

/// A permit to fork, or what `ForkGuard.refusal` makes of the handles that are live.
fn permit(ruby: &Ruby) -> Result<Permit, Error> {
    gate().permit().or_else(|refused| {
        let handles: Vec<String> = refused.0.iter().map(ToString::to_string).collect();
        let exception: Exception = guard(ruby)?.funcall("refusal", (handles,))?;
        Err(exception.into())
    })
}

/// `Process._fork`.
fn hooked_fork(ruby: &Ruby, _process: Value) -> Result<Value, Error> {
    let permit = match fork::reserved() {
        Some(permit) => permit,
        None => permit(ruby)?,
    };
    let under_way = ForkUnderWay::begin(permit);
    let before = (std::process::id(), std::ptr::from_ref(gate()));
    // What is raised here comes from another hook or from Ruby's fork; in the child too it is not ours to swallow.
    let forked = call_super(ruby, &[]);
    if std::process::id() != before.0 && std::ptr::eq(gate(), before.1) {
        renew_after_fork(); // forked by a raw system call, which the C library did not see
    }
    drop(under_way);
    forked
}

/// `IO.popen`. For "-" it makes its pipes before it forks, and would leave them open for ever if the fork were refused
/// only then.
fn hooked_popen(ruby: &Ruby, _io: Value, args: &[Value]) -> Result<Value, Error> {
    let command = args.iter().find(|&&arg| RHash::from_value(arg).is_none());
    let forks = command.and_then(|&command| RString::from_value(command)).is_some_and(|command| {
        // SAFETY: the slice is compared and forgotten before any Ruby code can run.
        unsafe { command.as_slice() == b"-" }
    });
    let reservation = if forks { Some(Reserved::new(permit(ruby)?)) } else { None };
    let opened = call_super(ruby, args);
    drop(reservation);
    opened
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

fn guard(ruby: &Ruby) -> Result<RModule, Error> {
    error::swarm_native(ruby)?.define_module("ForkGuard")
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    fork::watch().map_err(|errno| error::errno(ruby, errno, "watching for forks"))?;
    let guard = guard(ruby)?;
    fork_lease::init(ruby, guard)?;
    guard.define_module("Hook")?.define_method("_fork", method!(hooked_fork, 0))?;
    guard.define_module("PopenHook")?.define_method("popen", method!(hooked_popen, -1))
}
