//! What the oracle knows of one slot: its process, when the next one may and must come, and the deaths in a row.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use swarm_core::exit_status::ExitStatus;
use swarm_core::node::Who;
use swarm_core::notice::Reason;
use swarm_core::policy::{OnNormalExit, Policy};

use super::super::schedule::ready_by_itself;
use super::super::{Broken, rule};

/// A process as the fleet has heard of it.
#[derive(Clone, Debug)]
pub struct Process {
    pub who: Who,
    pub pid: i32,
    /// Which fork of the run it was.
    pub number: u64,
    pub started: Instant,
    pub reported: Option<Instant>,
    pub ready: Option<Instant>,
    /// Why and when it was told to stop.
    pub told: Option<(Reason, Instant)>,
    pub killed: bool,
    /// When it was measured last, or became ready.
    pub measured: Option<Instant>,
    /// It was over its limit: so many bytes.
    pub over: Option<u64>,
    /// When it was asked what it does.
    pub asked: Option<Instant>,
    pub out_of_memory: bool,
    /// What was found wrong with it.
    pub wrong: Option<Reason>,
    pub ended: Option<ExitStatus>,
    pub announced: bool,
    /// The signals of this step, as they were sent and as the notices say.
    pub sent: Vec<Signal>,
    pub explained: Vec<Signal>,
}

impl Process {
    pub fn new(who: Who, pid: i32, number: u64, started: Instant) -> Self {
        Self {
            who,
            pid,
            number,
            started,
            reported: None,
            ready: None,
            told: None,
            killed: false,
            measured: None,
            over: None,
            asked: None,
            out_of_memory: false,
            wrong: None,
            ended: None,
            announced: false,
            sent: Vec::new(),
            explained: Vec::new(),
        }
    }

    /// When it counts as ready without having said so.
    pub fn ready_by_itself_at(&self, policy: &Policy) -> Option<Instant> {
        let reported = self.reported.filter(|_| ready_by_itself(policy))?;
        Some(reported.max(self.started + policy.ready_after()))
    }

    /// When it has to be told to stop if nothing is heard of it.
    pub fn wrong_at(&self, policy: &Policy) -> Option<(Instant, Reason)> {
        match self.ready {
            None => Some((self.started + policy.boot_timeout(), Reason::BootTimeout)),
            Some(ready) => {
                let heard = self.reported.map_or(ready, |reported| reported.max(ready));
                policy.report_timeout().map(|timeout| (heard + timeout, Reason::Hung))
            }
        }
    }

    /// When it is measured next.
    pub fn measure_at(&self, policy: &Policy) -> Option<Instant> {
        policy.memory_limit().and(self.measured).map(|at| at + policy.memory_interval())
    }

    /// Between when and when it grows too old.
    pub fn old_within(&self, policy: &Policy) -> Option<Window> {
        let lifetime = policy.max_lifetime()?;
        let [from, to] = [0.9, 1.1].map(|share| self.started + lifetime.mul_f64(share));
        Some(Window { from: from - ROUNDING, to: to + ROUNDING })
    }

    /// When it is asked why it does not stop, if it was not asked before it was told to.
    pub fn ask_at(&self, policy: &Policy) -> Option<Instant> {
        let (reason, at) = self.told?;
        let asked = self.asked.is_some() || matches!(reason, Reason::Hung | Reason::BootTimeout);
        let before = policy.diagnose_timeout().min(policy.shutdown_timeout() / 2);
        (!asked && !before.is_zero()).then(|| at + policy.shutdown_timeout() - before)
    }

    /// The reason of its end, given how it ended.
    pub fn reason(&self, exit: ExitStatus) -> Reason {
        match (self.told, exit) {
            (Some((reason, _)), _) => reason,
            (None, ExitStatus::Unknown) => Reason::Unknown,
            (None, ExitStatus::Exited(0)) => Reason::Exited,
            (None, ExitStatus::Exited(_)) => Reason::Crashed,
            (None, ExitStatus::Signaled { signal: 2 | 3 | 15, .. }) => Reason::Stopped,
            (None, ExitStatus::Signaled { signal: 9, .. }) if self.out_of_memory => Reason::OomKilled,
            (None, ExitStatus::Signaled { signal: 9, .. }) => Reason::Killed,
            (None, ExitStatus::Signaled { .. }) => Reason::Crashed,
        }
    }
}

/// Whether a node that is stopped for this could have worked on.
pub fn can_wait(reason: Reason) -> bool {
    matches!(reason, Reason::Restart | Reason::MemoryLimit(_) | Reason::MaxLifetime)
}

/// When something may happen at the earliest and must at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Instant,
    pub to: Instant,
}

/// How long a replacement waits: from, to, and whether that death makes a crash loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub from: Duration,
    pub to: Duration,
    pub crash_loop: bool,
}

const NONE: Delay = Delay { from: Duration::ZERO, to: Duration::ZERO, crash_loop: false };

/// What floats may be wrong by.
const ROUNDING: Duration = Duration::from_micros(1);

/// The deaths in a row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    forgiven: u32,
    doublings: u32,
    deaths: u32,
}

impl Row {
    pub fn death(&mut self, ready_for: Option<Duration>, policy: &Policy) -> Delay {
        if let Some(lasted) = ready_for {
            if lasted >= policy.stable_after() {
                *self = Self::default();
                return NONE;
            }
            if self.forgiven < 3 {
                self.forgiven += 1;
                return NONE;
            }
        }
        self.deaths += 1;
        Delay { crash_loop: self.deaths == policy.crash_loop_limit(), ..self.longer(policy) }
    }

    pub fn longer(&mut self, policy: &Policy) -> Delay {
        let longest = policy.backoff_max();
        let whole = policy.backoff_min().as_secs_f64() * 2f64.powi(self.doublings as i32);
        self.doublings = (self.doublings + 1).min(40);
        let whole = whole.min(longest.as_secs_f64());
        Delay {
            from: Duration::from_secs_f64(whole * 0.8).saturating_sub(ROUNDING),
            to: (Duration::from_secs_f64(whole * 1.2) + ROUNDING).min(longest),
            crash_loop: false,
        }
    }
}

/// A process that was stopped for a reason that could wait, until a later one is ready.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    pub generation: u64,
    pub reason: Reason,
    /// A replacement has ended, or was told to stop, before it was ready.
    pub failed: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub generation: u64,
    pub process: Option<Process>,
    /// A fork that was asked for and not answered yet.
    pub forking: Option<Who>,
    pub due: Option<Window>,
    /// The fork has to be asked for in this very step.
    pub due_now: bool,
    /// Its work is done.
    pub left: bool,
    pub row: Row,
    pub expects_crash_loop: bool,
    /// It is down for a reason that could wait.
    pub down: Option<Down>,
    /// Somebody has to be told that the replacement did not get ready.
    pub roll_failed: bool,
    /// The forks since the slot began to die at boot.
    boots: Vec<Instant>,
}

impl Slot {
    pub fn is_idle(&self) -> bool {
        self.process.is_none() && self.forking.is_none() && self.due.is_none()
    }

    /// The process of that generation will not get ready. Nothing where it is not a replacement that is waited for.
    pub fn failed(&mut self, generation: u64) {
        if let Some(down) = self.down.as_mut().filter(|down| generation > down.generation && !down.failed) {
            down.failed = true;
            self.roll_failed = down.reason == Reason::Restart;
        }
    }

    /// Nobody wants its next process any more.
    pub fn cancel(&mut self) {
        self.forking = None;
        self.due = None;
        self.due_now = false;
    }

    pub fn fork_at_once(&mut self, now: Instant) {
        self.due = Some(Window { from: now, to: now });
        self.due_now = true;
    }

    pub fn fork_within(&mut self, delay: Delay, now: Instant) {
        self.due = Some(Window { from: now + delay.from, to: now + delay.to });
        self.due_now = delay.to.is_zero();
    }

    /// At most 10 forks a minute for a node that dies at boot, where the backoff is not set to less than its default.
    pub fn count_fork(&mut self, now: Instant, policy: &Policy) -> Result<(), Broken> {
        self.boots.push(now);
        let default = Policy::default();
        if policy.backoff_min() >= default.backoff_min() && policy.backoff_max() >= default.backoff_max() {
            if let [.., first, _, _, _, _, _, _, _, _, _, _] = self.boots[..] {
                let minute = now - first;
                rule!(minute >= Duration::from_secs(60), "11 forks of a node that dies at boot in {minute:?}");
            }
        }
        Ok(())
    }

    /// Whoever wanted this is to blame for the next forks, or the node had been ready.
    pub fn forget_forks(&mut self) {
        self.boots.clear();
    }

    /// What its process's end leads to: no successor, or one after a delay.
    pub fn successor(&mut self, process: &Process, exit: ExitStatus, now: Instant, policy: &Policy) -> Option<Delay> {
        let reason = process.reason(exit);
        if reason == Reason::Exited && policy.on_normal_exit() == OnNormalExit::Leave {
            self.left = true;
            return None;
        }
        let planned = matches!(reason, Reason::Stopped | Reason::ScaledDown) || can_wait(reason);
        if process.told.is_some() && planned {
            self.forget_forks();
            return Some(NONE);
        }
        // How long it took to stop is no merit.
        let until = process.told.map_or(now, |(_, at)| at);
        let ready_for = process.ready.map(|ready| until - ready);
        if ready_for.is_some() {
            self.forget_forks();
        }
        let mut delay = self.row.death(ready_for, policy);
        if matches!(reason, Reason::Exited | Reason::Stopped) {
            delay.from = delay.from.max(policy.settle());
            delay.to = delay.to.max(policy.settle());
        }
        Some(delay)
    }
}
