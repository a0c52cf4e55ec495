//! `SwarmNative::ForkGuard`: whether this process may fork now.
//!
//! What is live is asked here; what is said of it is Ruby (`swarm_native/fork_guard/*.rb`), which is called only once
//! something is. The methods that fork are hooked in [`crate::fork_hooks`].

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use magnus::value::ReprValue;
use magnus::{Error, Exception, IntoValue, Module, Object, RArray, RModule, Ruby, Value, function};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use swarm_core::fork_gate::{Permit, gate};
use swarm_core::os::{librdkafka, wake::Wake};

use crate::{error, fork_hooks, fork_lease, fork_place, gvl};

/// `ForkGuard.mode`, as the index into Ruby's list of modes.
static MODE: AtomicU8 = AtomicU8::new(RAISE);
const RAISE: u8 = 0;
const WARN: u8 = 1;

/// `ForkGuard.gate_timeout`, in nanoseconds.
static GATE_TIMEOUT: AtomicU64 = AtomicU64::new(1_000_000_000);

/// How many threads are inside `ForkGuard.bypass`.
static BYPASSES: AtomicUsize = AtomicUsize::new(0);

/// How long the threads of a handle of another library may take to end after `close` has returned, which is all that
/// is waited for where nobody knows whether a handle is being closed.
const THREADS_END: Duration = Duration::from_millis(100);

/// How often is looked again meanwhile.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000 };

/// Why this process may not fork now.
enum Blocked {
    /// Handles of ours; true if each of them may be gone soon.
    Ours(bool),
    /// Handles of another copy of librdkafka.
    Others,
}

/// What the guard says to a fork.
pub enum Verdict {
    /// Nothing is live, and no handle of ours will be made before the permit is given back.
    Permitted(Permit),
    /// Something is live and the user wants the fork nevertheless.
    Anyway,
}

impl Verdict {
    /// The permit, if there is one.
    pub fn permit(self) -> Option<Permit> {
        match self {
            Verdict::Permitted(permit) => Some(permit),
            Verdict::Anyway => None,
        }
    }
}

/// One look.
fn look(ruby: &Ruby) -> Result<Result<Permit, Blocked>, Error> {
    let permit = match gate().permit() {
        Ok(permit) => permit,
        Err(refused) => return Ok(Err(Blocked::Ours(refused.may_pass()))),
    };
    if librdkafka::may_be_live() && others_live(ruby)? {
        return Ok(Err(Blocked::Others));
    }
    Ok(Ok(permit))
}

/// The long look at other copies of librdkafka.
fn others_live(ruby: &Ruby) -> Result<bool, Error> {
    let live = librdkafka::live(&[]);
    if live.iter().any(|copy| copy.hidden) {
        return Ok(!librdkafka::live(&ruby_threads(ruby)?).is_empty());
    }
    Ok(!live.is_empty())
}

/// The system's numbers of Ruby's own threads, which may have any name.
fn ruby_threads(ruby: &Ruby) -> Result<Vec<i32>, Error> {
    guard(ruby)?.funcall("ruby_threads", ())
}

/// Decides on a fork that is about to happen. Waits for handles that are about to go, raises where one stays.
pub fn decide(ruby: &Ruby) -> Result<Verdict, Error> {
    let mode = MODE.load(Ordering::Relaxed);
    if mode > WARN || bypassed(ruby)? {
        return match look(ruby)? {
            Ok(permit) => Ok(Verdict::Permitted(permit)),
            Err(_) => go_anyway(ruby, None),
        };
    }
    match permit_or_refusal(ruby)? {
        Ok(permit) => Ok(Verdict::Permitted(permit)),
        Err(refusal) if mode == WARN => go_anyway(ruby, Some(refusal)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// A permit, if need be after a while, or the ForkRefused that says why there is none.
fn permit_or_refusal(ruby: &Ruby) -> Result<Result<Permit, Exception>, Error> {
    let mut deadline: Option<Instant> = None;
    let mut wake = None;
    loop {
        let blocked = match look(ruby)? {
            Ok(permit) => return Ok(Ok(permit)),
            Err(blocked) => blocked,
        };
        let now = Instant::now();
        let due = match deadline {
            Some(due) => due,
            None => *deadline.insert(now + patience(ruby, &blocked)?),
        };
        if now >= due || matches!(blocked, Blocked::Ours(false)) {
            // None: while the text was made, the last handle has gone.
            if let Some(refusal) = guard(ruby)?.funcall::<_, _, Option<Exception>>("refusal", ())? {
                return Ok(Err(refusal));
            }
        }
        let wake = match &mut wake {
            Some(wake) => wake,
            none => none.insert(Wake::new().map_err(|errno| error::errno(ruby, errno, "waiting to fork"))?),
        };
        gvl::without_gvl(wake, || poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&PAUSE)));
        gvl::check_interrupts(ruby)?;
        wake.clear();
    }
}

/// How long it is worth to wait for what is in the way.
fn patience(ruby: &Ruby, blocked: &Blocked) -> Result<Duration, Error> {
    let gate_timeout = Duration::from_nanos(GATE_TIMEOUT.load(Ordering::Relaxed));
    if let Blocked::Ours(_) = blocked {
        return Ok(gate_timeout);
    }
    let state: Option<magnus::Symbol> = guard(ruby)?.funcall("state_of_others", ())?;
    Ok(match state.map(|state| state.name()).transpose()?.as_deref() {
        Some("open") => Duration::ZERO,
        Some("closing") => gate_timeout,
        _ => gate_timeout.min(THREADS_END),
    })
}

/// A fork beside live handles: the child has to know them for its parent's.
fn go_anyway(ruby: &Ruby, warning: Option<Exception>) -> Result<Verdict, Error> {
    guard(ruby)?.funcall::<_, _, Value>("before_fork_anyway", (warning,))?;
    Ok(Verdict::Anyway)
}

fn bypassed(ruby: &Ruby) -> Result<bool, Error> {
    if BYPASSES.load(Ordering::Relaxed) == 0 {
        return Ok(false);
    }
    guard(ruby)?.funcall("bypassed?", ())
}

/// The module `SwarmNative::ForkGuard`.
pub fn guard(ruby: &Ruby) -> Result<RModule, Error> {
    error::swarm_native(ruby)?.define_module("ForkGuard")
}

fn mode_index() -> u8 {
    MODE.load(Ordering::Relaxed)
}

fn set_mode_index(index: u8) {
    MODE.store(index, Ordering::Relaxed);
}

fn gate_timeout() -> f64 {
    Duration::from_nanos(GATE_TIMEOUT.load(Ordering::Relaxed)).as_secs_f64()
}

fn set_gate_timeout(ruby: &Ruby, seconds: f64) -> Result<(), Error> {
    let Ok(timeout) = Duration::try_from_secs_f64(seconds) else {
        return Err(error::argument(ruby, format!("gate_timeout must be 0 or more seconds, not {seconds}")));
    };
    GATE_TIMEOUT.store(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    Ok(())
}

/// `bypass` begins on one thread (true) or ends (false).
fn count_bypass(begins: bool) {
    if begins {
        BYPASSES.fetch_add(1, Ordering::Relaxed);
    } else {
        BYPASSES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Our own live handles, as arrays of class, name, place, phase and seconds since the epoch.
fn own_handles(ruby: &Ruby) -> Result<RArray, Error> {
    let all = ruby.ary_new();
    for live in gate().live() {
        let since = live.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let phase = format!("{:?}", live.phase).to_lowercase();
        let fields = (live.handle.class, live.handle.name, live.handle.made_at, ruby.to_symbol(phase), since);
        all.push(fields.into_value_with(ruby))?;
    }
    Ok(all)
}

/// The files of other copies of librdkafka that have a live handle.
fn live_copies(ruby: &Ruby) -> Result<Vec<String>, Error> {
    let known = ruby_threads(ruby)?;
    Ok(librdkafka::live(&known).iter().map(|copy| copy.path.to_string_lossy().into_owned()).collect())
}

/// The names of the threads that librdkafka's name, ours included, by their numbers.
fn librdkafka_threads(ruby: &Ruby) -> Result<RArray, Error> {
    let all = ruby.ary_new();
    for thread in librdkafka::threads() {
        all.push((thread.tid, thread.name).into_value_with(ruby))?;
    }
    Ok(all)
}

/// `ForkGuard.safe?`: true if a fork would be permitted now, without waiting.
fn is_safe(ruby: &Ruby) -> Result<bool, Error> {
    Ok(look(ruby)?.is_ok())
}

/// `ForkGuard.check!`: raises what a fork would raise now in the mode `:raise`.
fn check(ruby: &Ruby) -> Result<(), Error> {
    permit_or_refusal(ruby)?.map(drop).map_err(Error::from)
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let guard = guard(ruby)?;
    guard.define_singleton_method("safe?", function!(is_safe, 0))?;
    guard.define_singleton_method("check!", function!(check, 0))?;
    guard.define_singleton_method("gate_timeout", function!(gate_timeout, 0))?;
    guard.define_singleton_method("gate_timeout=", function!(set_gate_timeout, 1))?;
    let core = guard.define_module("Core")?;
    core.define_singleton_method("mode_index", function!(mode_index, 0))?;
    core.define_singleton_method("mode_index=", function!(set_mode_index, 1))?;
    core.define_singleton_method("count_bypass", function!(count_bypass, 1))?;
    core.define_singleton_method("place", function!(fork_place::place, 0))?;
    core.define_singleton_method("own_handles", function!(own_handles, 0))?;
    core.define_singleton_method("live_copies", function!(live_copies, 0))?;
    core.define_singleton_method("librdkafka_threads", function!(librdkafka_threads, 0))?;
    fork_lease::init(ruby, guard)?;
    fork_hooks::init(guard)
}
