//! `SwarmNative::Init`: what only the kernel knows of it.

use std::sync::{Mutex, PoisonError};

use magnus::{Error, Module, RModule, Ruby, function};
use swarm_core::os::signals::Held;

use crate::error;

/// The signals that are held back, between [`hold`] and [`release`]. Locked with the GVL alone, hence never held at a fork.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// Holds signals back from this thread, and from the process that it forks.
fn hold() {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Held::hold);
}

/// Lets them through.
fn release() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(held) = held {
        held.release();
    }
}

/// True where processes whose parents have died become children of this one: PID 1 of its namespace, or a subreaper.
fn adopts(ruby: &Ruby) -> Result<bool, Error> {
    if rustix::process::getpid().is_init() {
        return Ok(true);
    }
    let subreaper = rustix::process::child_subreaper();
    subreaper.map(|set| set.is_some()).map_err(|errno| error::errno(ruby, errno, "asking whether this is a subreaper"))
}

/// Makes this process a subreaper, or ends that.
fn set_subreaper(ruby: &Ruby, on: bool) -> Result<(), Error> {
    // The kernel takes any number but 0 for yes.
    let set = rustix::process::set_child_subreaper(on.then(rustix::process::getpid));
    set.map_err(|errno| error::errno(ruby, errno, "becoming a subreaper"))
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let init: RModule = error::swarm_native(ruby)?.define_module("Init")?;
    init.define_module_function("adopts?", function!(adopts, 0))?;
    init.define_module_function("subreaper=", function!(set_subreaper, 1))?;
    init.define_module_function("hold_signals", function!(hold, 0))?;
    init.define_module_function("release_signals", function!(release, 0))
}
