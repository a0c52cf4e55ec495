//! The turnstile of this process: the rules behind a lock, and the native thread that nudges.
//!
//! The lock is taken for moments only, by threads that have the GVL and by those that have not; nobody waits for the
//! GVL while holding it. A nudge is triggered under it, too: so the thread that has the GVL, which takes the lock before
//! it gives the GVL away, is still there, and so is the VM.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use rustix::time::{ClockId, clock_gettime};
use swarm_core::os::bell::Bell;
use swarm_core::turnstile::{Counts, Nanos, Next, Settings, ThreadId, Turnstile};

/// What nudges: it must be fit for a native thread without the GVL.
pub type Trigger = fn();

#[derive(Default)]
pub struct Core {
    /// Whether events are worth taking the lock.
    active: AtomicBool,
    state: Mutex<State>,
    bell: Bell,
    /// Used with the GVL only.
    nudger: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// `None` while it is off.
    rules: Option<Turnstile>,
    /// Of before it was turned off, or a fork.
    old: Option<Turnstile>,
    seats: Seats,
}

/// Of all threads that the rules know.
#[derive(Default)]
pub struct Seats {
    /// Tells what threads remember of this run from what they remember of earlier ones.
    pub generation: u32,
    #[cfg(not(ruby_gte_3_3))]
    pub seen: super::own::Seen,
    list: Vec<Seat>,
}

/// What the bindings keep of a thread that the rules know.
#[derive(Clone, Default)]
pub struct Seat {
    /// The native thread that it runs on; 0: it has not run yet.
    #[cfg(ruby_gte_3_3)]
    pub native: usize,
    /// Ends its parking.
    pub bell: Arc<Bell>,
}

/// Null until it is first turned on, and again in a forked child, whose copy of the lock may be held for ever.
static CORE: AtomicPtr<Core> = AtomicPtr::new(std::ptr::null_mut());

/// The one of this process, if it has ever been on.
pub fn known() -> Option<&'static Core> {
    // SAFETY: null, or from `Box::into_raw` in `make`; it is never freed.
    unsafe { CORE.load(Ordering::Acquire).as_ref() }
}

/// The one of this process, if it is on.
pub fn active() -> Option<&'static Core> {
    known().filter(|core| core.active.load(Ordering::Acquire))
}

/// The one of this process. The caller has the GVL, so that there is one.
pub fn make() -> &'static Core {
    static AT_FORK: Once = Once::new();
    unsafe extern "C" fn forget() {
        CORE.store(std::ptr::null_mut(), Ordering::Release);
    }
    AT_FORK.call_once(|| {
        // SAFETY: `forget` is one atomic store, which is all right in a forked child, and this library is never unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    });
    known().unwrap_or_else(|| {
        let core: &'static Core = Box::leak(Box::default());
        CORE.store(std::ptr::from_ref(core).cast_mut(), Ordering::Release);
        core
    })
}

pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos
}

/// Of the process and of those that it was forked from: threads take along what they remember. 30 bits, never 0.
fn next_generation() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let next = LAST.load(Ordering::Relaxed) % 0x3fff_ffff + 1;
    LAST.store(next, Ordering::Relaxed);
    next
}

impl Core {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns it on. The caller has the GVL.
    pub fn start(&'static self, settings: Settings, carry_on: bool, trigger: Trigger) -> io::Result<()> {
        self.stop();
        let mut state = self.state();
        let carried = state.old.take().filter(|_| carry_on);
        state.rules = Some(carried.map_or_else(|| Turnstile::new(settings, now()), |old| old.afresh(now())));
        state.seats.generation = next_generation();
        state.seats.list.clear();
        drop(state);
        self.bell.hush();
        match self.spawn(trigger) {
            Ok(nudger) => {
                *self.nudger.lock().unwrap_or_else(PoisonError::into_inner) = Some(nudger);
                self.active.store(true, Ordering::Release);
                Ok(())
            }
            Err(failed) => {
                self.state().rules = None;
                Err(failed)
            }
        }
    }

    /// Turns it off: all that are parked go on, and no nudge is triggered any more. The caller has the GVL.
    pub fn stop(&self) {
        self.active.store(false, Ordering::Release);
        let mut state = self.state();
        if let Some(mut rules) = state.rules.take() {
            rules.release();
            state.seats.ring(rules.unparked());
            state.old = Some(rules);
        }
        drop(state);
        let nudger = self.nudger.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(nudger) = nudger {
            self.bell.ring();
            // It ends at once: it needs no GVL. A panic has been printed.
            let _ = nudger.join();
        }
    }

    /// Runs `work` with the rules, unless it is off. `work` says whether to rouse the nudging thread.
    pub fn rules<R>(&self, work: impl FnOnce(&mut Seats, &mut Turnstile) -> (R, bool)) -> Option<R> {
        let mut state = self.state();
        let State { rules: Some(rules), seats, .. } = &mut *state else { return None };
        let (result, rouse) = work(seats, rules);
        seats.ring(rules.unparked());
        drop(state);
        if rouse {
            self.bell.ring();
        }
        Some(result)
    }

    /// Of now, or of the last time it was on.
    pub fn counts(&self) -> Counts {
        let mut state = self.state();
        let state = &mut *state;
        match (&mut state.rules, &mut state.old) {
            (Some(rules), _) | (None, Some(rules)) => rules.counts(now()),
            (None, None) => Counts::default(),
        }
    }

    fn spawn(&'static self, trigger: Trigger) -> io::Result<JoinHandle<()>> {
        // It inherits the mask: signals are for Ruby's threads.
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        let spawned = std::thread::Builder::new().name("turnstile".into()).stack_size(256 * 1024).spawn(move || {
            // SAFETY: it sets a number of the calling thread: how late its timeouts may come, in nanoseconds.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
            while let Some(next) = self.look(trigger) {
                match next {
                    Next::Nudge => {}
                    Next::At(at) => self.bell.wait_for(Duration::from_nanos(at.saturating_sub(now()))),
                    Next::Sleep => self.bell.wait(),
                }
            }
        });
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        spawned
    }

    /// `None`: it is off.
    fn look(&self, trigger: Trigger) -> Option<Next> {
        let mut state = self.state();
        let State { rules: Some(rules), seats, .. } = &mut *state else { return None };
        let next = rules.look(now());
        seats.ring(rules.unparked());
        if next == Next::Nudge {
            trigger();
        }
        drop(state);
        Some(next)
    }
}

impl Seats {
    /// The seat of a thread, made when it is new.
    pub fn seat(&mut self, id: ThreadId) -> &mut Seat {
        let at = id.0 as usize;
        if at >= self.list.len() {
            self.list.resize_with(at + 1, Seat::default);
        }
        &mut self.list[at]
    }

    /// Gives a thread that is new a fresh seat: the thread before may still be on its way out of the old one.
    #[cfg(ruby_gte_3_3)]
    pub fn new_seat(&mut self, id: ThreadId) {
        *self.seat(id) = Seat::default();
    }

    fn ring(&mut self, ids: impl Iterator<Item = ThreadId>) {
        for id in ids {
            self.seat(id).bell.ring();
        }
    }
}
