//! Live handles against forks: never both.
//!
//! A librdkafka handle has threads, and a process that is forked while they run inherits locks that nobody will ever
//! open. So each handle holds a [`Lease`] from before its constructor until it is really destroyed, and a fork needs a
//! [`Permit`], which the gate gives only while no lease is out. While a permit is out, a new lease waits.
//!
//! The gate makes no system call of its own and reads no clock, but for the condition variable that a lease waits on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// The reason that a permit was refused: these handles are live.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} live", .0.len())]
pub struct Refused(pub Vec<Handle>);

/// No lease was given, because a fork was under way all the while. Holds what the lease was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a fork is under way")]
pub struct StillForking(pub Handle);

#[derive(Default)]
struct State {
    leases: BTreeMap<u64, Handle>,
    next_id: u64,
    permits: usize,
}

/// The gate itself. A process has one, [`gate()`]; tests make their own.
#[derive(Default)]
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
}

impl ForkGate {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while it holds the lock; a poisoned one still has a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lease for a handle that is about to be made. Waits while a fork is under way, which is a millisecond. Not
    /// for a thread that may be the forking one itself: it would wait for itself ([`Self::lease_within`] does not).
    pub fn lease(&'static self, mut handle: Handle) -> Lease {
        loop {
            match self.lease_within(handle, Duration::MAX) {
                Ok(lease) => return lease,
                Err(StillForking(again)) => handle = again,
            }
        }
    }

    /// As [`Self::lease`], but waits no longer than `patience` for a fork to be over.
    pub fn lease_within(&'static self, handle: Handle, patience: Duration) -> Result<Lease, StillForking> {
        let state = self.state();
        let (mut state, _) = self
            .no_permit
            .wait_timeout_while(state, patience, |state| state.permits > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if state.permits > 0 {
            return Err(StillForking(handle));
        }
        let id = state.next_id;
        state.next_id += 1;
        state.leases.insert(id, handle);
        Ok(Lease { gate: self, id })
    }

    /// Takes a permit to fork, or says which handles are in the way.
    pub fn permit(&'static self) -> Result<Permit, Refused> {
        let mut state = self.state();
        if !state.leases.is_empty() {
            return Err(Refused(state.leases.values().cloned().collect()));
        }
        state.permits += 1;
        Ok(Permit { gate: self })
    }

    /// The handles that are live now.
    pub fn live(&self) -> Vec<Handle> {
        self.state().leases.values().cloned().collect()
    }
}

impl Lease {
    /// Gives the handle the name that it has got by now.
    pub fn rename(&self, name: &str) {
        if self.gate.left_behind.load(Ordering::Acquire) {
            return;
        }
        if let Some(handle) = self.gate.state().leases.get_mut(&self.id) {
            name.clone_into(&mut handle.name);
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

impl Drop for Permit {
    fn drop(&mut self) {
        if self.gate.left_behind.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.gate.state();
        state.permits -= 1;
        if state.permits == 0 {
            self.gate.no_permit.notify_all();
        }
    }
}

static GATE: AtomicPtr<ForkGate> = AtomicPtr::new(std::ptr::null_mut());

/// The gate of this process.
pub fn gate() -> &'static ForkGate {
    let current = GATE.load(Ordering::Acquire);
    if current.is_null() {
        return install(current);
    }
    // SAFETY: `GATE` is null or comes from `Box::into_raw` in `install`, and no gate is ever freed.
    unsafe { &*current }
}

/// Gives a forked child a gate of its own. The parent's, whose lock another thread may have held at the fork, is left
/// behind unused, with the leases that it had given.
pub fn renew_after_fork() {
    let parents = GATE.load(Ordering::Acquire);
    if !parents.is_null() {
        // SAFETY: as in `gate`: it was made by `install` and is never freed.
        unsafe { &*parents }.left_behind.store(true, Ordering::Release);
    }
    install(parents);
}

/// Puts a new gate in the place of `current`, or returns the one that somebody else has put there meanwhile.
fn install(current: *mut ForkGate) -> &'static ForkGate {
    let new = Box::into_raw(Box::<ForkGate>::default());
    let winner = match GATE.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new,
        Err(other) => {
            // SAFETY: `new` was made above and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
            other
        }
    };
    // SAFETY: `winner` comes from `Box::into_raw` here or in another thread's `install`, and no gate is ever freed.
    unsafe { &*winner }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(name: &str) -> Handle {
        Handle { class: "Producer", name: name.into(), made_at: "app.rb:1".into() }
    }

    fn a_gate() -> &'static ForkGate {
        Box::leak(Box::default())
    }

    #[test]
    fn a_live_handle_refuses_the_fork_and_is_named() {
        let gate = a_gate();
        let lease = gate.lease(handle("a"));
        let Err(Refused(live)) = gate.permit() else { panic!("a permit beside a lease") };
        assert_eq!(live, [handle("a")]);
        assert_eq!(live[0].to_string(), "Producer a (made at app.rb:1)");
        drop(lease);
        assert!(gate.permit().is_ok());
    }

    #[test]
    fn what_a_child_inherits_never_waits_for_the_parents_lock() {
        let gate = a_gate();
        let (lease, permit) = (gate.lease(handle("a")), Permit { gate });
        let _held_for_ever = gate.state();
        gate.left_behind.store(true, Ordering::Release);
        lease.rename("b");
        drop((lease, permit));
    }

    #[test]
    fn a_lease_waits_until_the_fork_is_over() {
        let gate = a_gate();
        let permit = gate.permit().ok().unwrap();
        let opener = std::thread::spawn(move || drop(gate.lease(handle("a"))));
        assert!(gate.live().is_empty());
        drop(permit);
        opener.join().unwrap();
        assert!(gate.permit().is_ok());
    }

    #[test]
    fn a_lease_gives_up_where_a_fork_does_not_end() {
        let gate = a_gate();
        let permit = gate.permit().ok().unwrap();
        let Err(StillForking(back)) = gate.lease_within(handle("a"), Duration::ZERO) else { panic!("beside a permit") };
        assert_eq!(back, handle("a"));
        drop(permit);
        assert!(gate.lease_within(back, Duration::ZERO).is_ok());
    }
}
