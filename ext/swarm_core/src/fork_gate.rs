//! Live handles against forks: never both.
//!
//! A librdkafka handle has threads, and a process that is forked while they run inherits locks that nobody will ever
//! open. So each handle holds a [`Lease`] from before its constructor until it is really destroyed, and a fork needs a
//! [`Permit`], which the gate gives only while no lease is out. While a permit is out, a new lease waits.
//!
//! The gate makes no system call of its own and reads no clock, but for the condition variable that a lease waits on.
//! Its promises are proven for every interleaving of a few threads: see `loom_tests` below.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::{Duration, SystemTime};

#[cfg(all(loom, test))]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(loom, test)))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// What a lease stands for, as a person is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The class that the user made, such as `SwarmNative::Kafka::Producer`.
    pub class: &'static str,
    /// The handle's name, such as `rdkafka#producer-1`; empty where it has none yet.
    pub name: String,
    /// The user's line that made it, as `file:line`; empty where it is not known.
    pub made_at: String,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if !self.made_at.is_empty() {
            write!(f, " (made at {})", self.made_at)?;
        }
        Ok(())
    }
}

/// How far a handle has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its constructor is running, and may yet fail.
    Opening,
    /// It can be used.
    Open,
    /// It is being destroyed.
    Closing,
}

/// A handle that has a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// What it is.
    pub handle: Handle,
    /// How far it has come.
    pub phase: Phase,
    /// Since when it has the lease.
    pub since: SystemTime,
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)?;
        match self.phase {
            Phase::Opening => f.write_str(", being made"),
            Phase::Open => Ok(()),
            Phase::Closing => f.write_str(", being closed"),
        }
    }
}

/// The reason that a permit was refused: these handles are live.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} live", .0.len())]
pub struct Refused(pub Vec<Live>);

impl Refused {
    /// True where no handle stands in the way for good: each is being made, which may fail, or being closed.
    pub fn may_pass(&self) -> bool {
        self.0.iter().all(|live| live.phase != Phase::Open)
    }
}

/// No lease was given, because a fork was under way all the while. Holds what the lease was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a fork is under way")]
pub struct StillForking(pub Handle);

struct State {
    leases: BTreeMap<u64, Live>,
    permits: Permits,
    next_id: u64,
}

/// The permits that are out. One is the rule, and then it lies here itself: after a fork each page of memory that the
/// parent writes to costs it a page fault.
struct Permits {
    one: Option<Out>,
    more: Vec<Out>,
}

/// A permit that is out.
struct Out {
    id: u64,
    used: bool,
}

impl State {
    const fn new() -> Self {
        // A permit's id is never 0.
        Self { leases: BTreeMap::new(), permits: Permits { one: None, more: Vec::new() }, next_id: 1 }
    }

    fn new_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

impl Permits {
    fn iter(&self) -> impl Iterator<Item = &Out> {
        self.one.iter().chain(&self.more)
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Out> {
        self.one.iter_mut().chain(&mut self.more).find(|out| out.id == id)
    }

    fn insert(&mut self, out: Out) {
        match self.one {
            None => self.one = Some(out),
            Some(_) => self.more.push(out),
        }
    }

    fn remove(&mut self, id: u64) {
        if self.one.as_ref().is_some_and(|out| out.id == id) {
            self.one = None;
        } else {
            self.more.retain(|out| out.id != id);
        }
    }
}

/// The gate itself. A process has one, [`gate()`]; tests make their own.
pub struct ForkGate {
    state: Mutex<State>,
    no_permit: Condvar,
    /// True in a forked child for the gate of its parent: its lock may stay held for ever, so nobody may wait for it.
    left_behind: AtomicBool,
}

/// The right of one handle to exist. Dropping it gives the right back.
pub struct Lease {
    gate: &'static ForkGate,
    id: u64,
}

/// The right to fork: while it exists no handle does. Dropping it lets waiting handles be made.
pub struct Permit {
    gate: &'static ForkGate,
    id: u64,
}

impl Default for ForkGate {
    fn default() -> Self {
        Self::new()
    }
}

impl ForkGate {
    #[cfg(not(all(loom, test)))]
    const fn new() -> Self {
        Self { state: Mutex::new(State::new()), no_permit: Condvar::new(), left_behind: AtomicBool::new(false) }
    }

    #[cfg(all(loom, test))]
    fn new() -> Self {
        Self { state: Mutex::new(State::new()), no_permit: Condvar::new(), left_behind: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while it holds the lock; a poisoned one still has a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease for a handle that is about to be made. While a fork is under way, waits for its end: about as long
    /// as `patience`, then says no. `since` is the time now, for whoever asks what is live. `beside` is a used permit of
    /// the caller's own (or 0), which is not waited for.
    pub fn lease(
        &'static self,
        handle: Handle,
        since: SystemTime,
        beside: u64,
        patience: Duration,
    ) -> Result<Lease, StillForking> {
        let mut state = self.state();
        let forking = |state: &State| state.permits.iter().any(|out| !(out.id == beside && out.used));
        while forking(&state) {
            if patience.is_zero() {
                return Err(StillForking(handle));
            }
            let (woken, wait) = self.no_permit.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if wait.timed_out() && forking(&state) {
                return Err(StillForking(handle));
            }
        }
        let id = state.new_id();
        state.leases.insert(id, Live { handle, phase: Phase::Opening, since });
        Ok(Lease { gate: self, id })
    }

    /// Takes a permit to fork, or says which handles are in the way.
    pub fn permit(&'static self) -> Result<Permit, Refused> {
        let mut state = self.state();
        if !state.leases.is_empty() {
            return Err(Refused(state.leases.values().cloned().collect()));
        }
        let id = state.new_id();
        state.permits.insert(Out { id, used: false });
        Ok(Permit { gate: self, id })
    }

    /// The permit once more, while it is out and not used: whichever is dropped first gives it back.
    pub fn same_permit(&'static self, id: u64) -> Option<Permit> {
        (self.is_used(id) == Some(false)).then_some(Permit { gate: self, id })
    }

    /// Says that the permit's fork has been made, or has failed.
    pub fn used(&self, id: u64) {
        if let Some(out) = self.state().permits.get_mut(id) {
            out.used = true;
        }
    }

    /// Whether the permit has been used; `None` where it is not out any more.
    pub fn is_used(&self, id: u64) -> Option<bool> {
        self.state().permits.get_mut(id).map(|out| out.used)
    }

    /// The handles that are live now, in the order in which they were made.
    pub fn live(&self) -> Vec<Live> {
        self.state().leases.values().cloned().collect()
    }
}

impl Lease {
    /// The handle is made, and has this name.
    pub fn opened(&self, name: &str) {
        self.update(|live| {
            name.clone_into(&mut live.handle.name);
            live.phase = Phase::Open;
        });
    }

    /// The handle is about to be destroyed: a fork may wait for it.
    pub fn closing(&self) {
        self.update(|live| live.phase = Phase::Closing);
    }

    fn update(&self, change: impl FnOnce(&mut Live)) {
        if self.gate.left_behind.load(Ordering::Acquire) {
            return;
        }
        if let Some(live) = self.gate.state().leases.get_mut(&self.id) {
            change(live);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.gate.left_behind.load(Ordering::Acquire) {
            return;
        }
        self.gate.state().leases.remove(&self.id);
    }
}

impl Permit {
    /// What the gate knows it by. Never 0, and no other permit of this gate has it.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.gate.left_behind.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.gate.state();
        state.permits.remove(self.id);
        // A lease may wait for this one alone, beside one of its own.
        self.gate.no_permit.notify_all();
    }
}

/// The gate of the process that nobody has forked since it was loaded. It lies beside [`GATE`], hence on a page that a
/// fork writes to anyway.
#[cfg(not(all(loom, test)))]
static FIRST: ForkGate = ForkGate::new();

/// A forked child's own gate; null: [`FIRST`].
static GATE: AtomicPtr<ForkGate> = AtomicPtr::new(std::ptr::null_mut());

/// The gate of this process.
#[cfg(not(all(loom, test)))]
pub fn gate() -> &'static ForkGate {
    let own = GATE.load(Ordering::Acquire);
    // SAFETY: it is null or comes from `Box::leak` in `renew_after_fork`, and no gate is ever freed.
    unsafe { own.as_ref() }.unwrap_or(&FIRST)
}

#[cfg(all(loom, test))]
#[allow(missing_docs)]
pub fn gate() -> &'static ForkGate {
    unreachable!("loom's tests make their own")
}

/// Gives a forked child a gate of its own. The parent's, whose lock another thread may have held at the fork, is left
/// behind unused, with the leases that it had given. To be called while the child has one thread.
pub fn renew_after_fork() {
    gate().left_behind.store(true, Ordering::Release);
    GATE.store(Box::leak(Box::default()), Ordering::Release);
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
