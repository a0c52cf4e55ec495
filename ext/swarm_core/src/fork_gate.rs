//! Live handles against forks: never both.
//!
//! A librdkafka handle has threads, and a process that is forked while they run inherits locks that nobody will ever
//! open. So each handle holds a [`Lease`] from before its constructor until it is really destroyed, and a fork needs a
//! [`Permit`], which the gate gives only while no lease is out. While a permit is out, a new lease waits.
//!
//! The gate makes no system call of its own and reads no clock, but for the condition variable that a lease waits on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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

    /// Takes a lease for a handle that is about to be made. Waits while a fork is under way, which is a millisecond.
    pub fn lease(&'static self, handle: Handle) -> Lease {
        let mut state = self.state();
        while state.permits > 0 {
            state = self.no_permit.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.leases.insert(id, handle);
        Lease { gate: self, id }
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
        if let Some(handle) = self.gate.state().leases.get_mut(&self.id) {
            name.clone_into(&mut handle.name);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.gate.state().leases.remove(&self.id);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
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
    install(GATE.load(Ordering::Acquire));
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
    fn a_lease_waits_until_the_fork_is_over() {
        let gate = a_gate();
        let permit = gate.permit().ok().unwrap();
        let opener = std::thread::spawn(move || drop(gate.lease(handle("a"))));
        assert!(gate.live().is_empty());
        drop(permit);
        opener.join().unwrap();
        assert!(gate.permit().is_ok());
    }
}
