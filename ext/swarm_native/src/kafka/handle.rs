//! What every handle has in common: whose it is, whether it is closed, and its end.

use std::sync::Arc;
use std::time::Instant;

use magnus::{Error, Ruby};
use swarm_core::fork_gate::{self, Lease};
use swarm_core::os::wake::Wake;
use swarm_kafka::config::OpenError;
use swarm_kafka::door::{Door, Shut, Visit};
use swarm_kafka::ending::Ending;
use swarm_kafka::origin::Local;

use crate::fork_lease;
use crate::gvl::{check_interrupts, without_gvl};

/// A handle as a Ruby object holds it.
pub struct Handle<T: Send + Sync + 'static> {
    class: &'static str,
    door: Local<Arc<Door<T>>>,
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// Makes a handle.
    pub fn open(
        ruby: &Ruby,
        class: &'static str,
        made_at: String,
        make: impl FnOnce(Lease) -> Result<T, OpenError>,
    ) -> Result<Self, Error> {
        let target = Self::make(ruby, class, made_at, make)?;
        Ok(Self { class, door: Local::new(Arc::new(Door::new(target))) })
    }

    /// Makes the native handle anew, where it rests.
    pub fn reopen(
        &self,
        ruby: &Ruby,
        made_at: String,
        make: impl FnOnce(Lease) -> Result<T, OpenError>,
    ) -> Result<(), Error> {
        self.check_here(ruby)?;
        if !self.door.rests() {
            return Ok(());
        }
        let target = Self::make(ruby, self.class, made_at, make)?;
        if let Err(unwanted) = self.door.reopen(target) {
            wait_for_end(ruby, &Ending::start(move || drop(unwanted)), None)?;
        }
        Ok(())
    }

    /// Makes the native handle, without the GVL: librdkafka starts its threads meanwhile.
    fn make(
        ruby: &Ruby,
        class: &'static str,
        made_at: String,
        make: impl FnOnce(Lease) -> Result<T, OpenError>,
    ) -> Result<T, Error> {
        let wake = new_wake(ruby)?;
        let lease = fork_lease::lease(ruby, fork_gate::Handle { class, name: String::new(), made_at })?;
        let mut make = Some(move || make(lease));
        loop {
            wake.clear();
            let made = without_gvl(&wake, || make.take().map(|make| make()));
            if let Some(Some(made)) = made {
                return made.map_err(|failed| super::error::not_opened(ruby, &failed));
            }
            check_interrupts(ruby)?;
        }
    }

    /// The door, for the list of what has to end with the process.
    pub fn door(&self) -> &Arc<Door<T>> {
        &self.door
    }

    /// Refuses a process that did not make it.
    pub fn check_here(&self, ruby: &Ruby) -> Result<(), Error> {
        if self.door.origin().is_here() {
            return Ok(());
        }
        Err(crate::error::raise(
            ruby,
            "StaleHandle",
            format!(
                "this {} was made by process {} and is of no use in process {}: a handle does not survive a fork, make \
                 a new one",
                self.class,
                self.door.origin().pid(),
                std::process::id()
            ),
        ))
    }

    /// Enters for a call that does not wait.
    pub fn enter(&self, ruby: &Ruby) -> Result<Visit<'_, T>, Error> {
        self.check_here(ruby)?;
        self.door.enter().map_err(|why| self.shut(ruby, why))
    }

    /// Enters for a call that waits on `wake`.
    pub fn enter_to_wait(&self, ruby: &Ruby, wake: &Arc<Wake>) -> Result<Visit<'_, T>, Error> {
        self.enter_unless_shut(ruby, wake)?.map_err(|why| self.shut(ruby, why))
    }

    /// The same, for a call that goes on where the handle rests.
    pub fn enter_unless_shut(&self, ruby: &Ruby, wake: &Arc<Wake>) -> Result<Result<Visit<'_, T>, Shut>, Error> {
        self.check_here(ruby)?;
        Ok(self.door.enter_to_wait(wake))
    }

    /// Makes a call that waits in a way that nothing ends but its own timeout, on a thread of its own, and waits for it
    /// in a way that an interrupt ends.
    pub fn ask<R: Clone + Send + Sync + 'static>(
        &self,
        ruby: &Ruby,
        call: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<R, Error> {
        self.check_here(ruby)?;
        let stay = self.door.stay().map_err(|why| self.shut(ruby, why))?;
        let asking = Ending::start(move || call(&stay));
        let answer = wait_for_end(ruby, &asking, None)?;
        answer.ok_or_else(|| self.closed(ruby))
    }

    /// True after `close`.
    pub fn is_closed(&self, ruby: &Ruby) -> Result<bool, Error> {
        self.check_here(ruby)?;
        Ok(self.door.is_closed())
    }

    /// The error of a call on a closed handle.
    pub fn closed(&self, ruby: &Ruby) -> Error {
        crate::error::raise(ruby, "ClosedHandle", format!("this {} is closed", self.class))
    }

    /// The error of a call at a door that is shut.
    pub fn shut(&self, ruby: &Ruby, why: Shut) -> Error {
        match why {
            Shut::Closed => self.closed(ruby),
            Shut::Resting => crate::error::raise(ruby, "RestingHandle", format!("this {} rests", self.class)),
        }
    }

    /// Closes: `finish` runs on a thread of its own once the last call has left, then the handle is destroyed. `None`
    /// when it was closed before.
    pub fn close<R: Send + Sync + 'static>(
        &self,
        ruby: &Ruby,
        finish: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<Option<Ending<R>>, Error> {
        self.check_here(ruby)?;
        Ok(end(&self.door, finish))
    }

    /// The same, until the handle is made anew. `None` where it rests already, or is closed.
    pub fn rest<R: Send + Sync + 'static>(
        &self,
        ruby: &Ruby,
        finish: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Result<Option<Ending<R>>, Error> {
        self.check_here(ruby)?;
        Ok(self.door.rest().map(|target| end_of(&self.door, target, finish)))
    }
}

impl<T: Send + Sync + 'static> Handle<T> {
    /// What Ruby's garbage collector does to a handle that nobody has closed.
    pub fn abandon(&self, finish: impl FnOnce(&T) + Send + 'static) {
        if self.door.origin().is_here() {
            end(&self.door, finish);
        }
    }
}

/// Ends what is behind a door, on a thread of its own.
pub fn end<T: Send + Sync + 'static, R: Send + Sync + 'static>(
    door: &Arc<Door<T>>,
    finish: impl FnOnce(&T) -> R + Send + 'static,
) -> Option<Ending<R>> {
    door.close().map(|target| end_of(door, target, finish))
}

fn end_of<T: Send + Sync + 'static, R: Send + Sync + 'static>(
    door: &Arc<Door<T>>,
    target: Arc<T>,
    finish: impl FnOnce(&T) -> R + Send + 'static,
) -> Ending<R> {
    let door = Arc::clone(door);
    Ending::start(move || {
        door.wait_until_empty(&target);
        let result = finish(&target);
        drop(target);
        result
    })
}

/// Waits for an end, without the GVL; `None` at the deadline.
pub fn wait_for_end<R: Clone + Send + Sync + 'static>(
    ruby: &Ruby,
    ending: &Ending<R>,
    deadline: Option<Instant>,
) -> Result<Option<R>, Error> {
    let wake = new_wake(ruby)?;
    loop {
        wake.clear();
        let ended = without_gvl(&wake, || ending.wait(&wake, deadline).cloned());
        if let Some(Some(result)) = ended {
            return Ok(Some(result));
        }
        if super::convert::is_over(deadline) {
            return Ok(None);
        }
        check_interrupts(ruby)?;
    }
}

/// A Wake for one call.
pub fn new_wake(ruby: &Ruby) -> Result<Arc<Wake>, Error> {
    Wake::new().map(Arc::new).map_err(|errno| crate::error::errno(ruby, errno, "making an eventfd to wait with"))
}
