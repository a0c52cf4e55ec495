//! `SwarmNative::ForkGuard::Lease`: a handle that Ruby code tells the guard of.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use magnus::{Class, Error, Module, Object, RModule, Ruby, function, method};
use swarm_core::fork_gate::{self, Handle, StillForking, gate};
use swarm_core::os::fork::{self, Standing};
use swarm_core::os::wake::Wake;

use crate::{error, gvl};

/// How long a lease waits for a fork to be over before it is an error. A fork takes a millisecond, unless the machine
/// is out of processes: then Ruby tries again every second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon an interrupt is seen while a lease waits.
const SLICE: Duration = Duration::from_millis(5);

/// Takes a lease for `handle`; where a fork is under way, waits for its end without the GVL.
///
/// Raises ForkRefused in a `Process._fork` hook before the fork: the handle would be forked. Raises what interrupts the
/// wait.
pub fn lease(ruby: &Ruby, handle: Handle) -> Result<fork_gate::Lease, Error> {
    let since = SystemTime::now();
    let mut asked = match gate().lease(handle, since, 0, Duration::ZERO) {
        Ok(lease) => return Ok(lease),
        Err(StillForking(handle)) => Some(handle),
    };
    let named = |asked: &Option<Handle>| asked.as_ref().map(ToString::to_string).unwrap_or_default();
    let beside = match fork::standing() {
        Standing::AboutToFork => {
            let message =
                format!("{} cannot be made here: this thread is about to fork; make it afterwards", named(&asked));
            return Err(error::raise(ruby, "ForkRefused", message));
        }
        Standing::HasForked(permit) => permit,
        Standing::Apart => 0,
    };
    let wake = Wake::new().map_err(|errno| error::errno(ruby, errno, "waiting for a fork to be over"))?;
    let due = Instant::now() + PATIENCE;
    loop {
        match gvl::without_gvl(&wake, || asked.take().map(|handle| gate().lease(handle, since, beside, SLICE)))
            .flatten()
        {
            Some(Ok(lease)) => return Ok(lease),
            Some(Err(StillForking(handle))) => asked = Some(handle),
            None => {}
        }
        gvl::check_interrupts(ruby)?;
        if Instant::now() >= due {
            let message = format!("{} was not made: a fork has been going on for {PATIENCE:?}", named(&asked));
            return Err(error::raise(ruby, "ForkRefused", message));
        }
    }
}

/// The class names that Ruby has given so far: a [`Handle`] names a class of the program, of which there are few.
static CLASSES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn class_name(name: &str) -> &'static str {
    let mut classes = CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = classes.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.into());
    classes.insert(name);
    name
}

/// What `Lease.take` returns.
#[magnus::wrap(class = "SwarmNative::ForkGuard::Lease", free_immediately, size)]
struct Lease(Mutex<Option<fork_gate::Lease>>);

impl Lease {
    fn take(ruby: &Ruby, class: String, name: String, made_at: String) -> Result<Self, Error> {
        let lease = lease(ruby, Handle { class: class_name(&class), name: name.clone(), made_at })?;
        lease.opened(&name);
        Ok(Self(Mutex::new(Some(lease))))
    }

    fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

pub fn init(ruby: &Ruby, guard: RModule) -> Result<(), Error> {
    let class = guard.define_class("Lease", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Lease>(ruby);
    class.define_singleton_method("take", function!(Lease::take, 3))?;
    class.define_method("release", method!(Lease::release, 0))
}
