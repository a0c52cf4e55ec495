//! One node's life as a state machine: (state, event, now) -> (state, actions).
//!
//! A node is a slot of the swarm. It has at most one process at a time, and each process that it gets is a new
//! generation. [`Node::step`] is the whole of what can happen to it; read it as a table, a state a row and an event a
//! column. What concerns more than one node stands in [`crate::fleet`].

use std::mem::discriminant;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::backoff::{Backoff, Tenure, Verdict};
use crate::exit_status::ExitStatus;
use crate::notice::{Notice, Reason, What};
use crate::policy::{OnNormalExit, Policy, Told};
use crate::report::Report;

/// The number of a node, from 0.
pub type NodeId = u32;

/// One process of a node. Later processes of the same node have higher generations, so news of a process that is long
/// gone cannot be taken for news of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// The node.
    pub id: NodeId,
    /// Which of its processes, from 1.
    pub generation: u64,
}

/// What is known of a process while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its process id.
    pub pid: i32,
    /// When it was forked.
    pub started_at: Instant,
    /// When it reported last.
    pub reported_at: Option<Instant>,
    /// The code that it reported then, and how often it has reported.
    pub report: Option<(u32, u64)>,
    /// When it became ready.
    pub ready_at: Option<Instant>,
    /// When it was told to stop.
    pub told_at: Option<Instant>,
    /// Its memory in bytes, when it was measured last.
    pub memory: Option<u64>,
    /// When it is measured next.
    measure_at: Option<Instant>,
    /// When it has lived long enough.
    old_at: Option<Instant>,
    /// Why it is to be replaced as soon as enough others are up.
    wish: Option<Reason>,
    /// The kernel has killed a process of this control group for want of memory, and this one was the victim.
    out_of_memory: bool,
}

impl Life {
    fn begin(pid: i32, rules: &Rules<'_>) -> Self {
        // Nodes that were forked together do not grow old together.
        let lifetime = rules.policy.max_lifetime.map(|lifetime| lifetime.mul_f64(0.9 + 0.2 * rules.jitter));
        Self {
            pid,
            started_at: rules.now,
            reported_at: None,
            report: None,
            ready_at: None,
            told_at: None,
            memory: None,
            measure_at: None,
            old_at: lifetime.map(|lifetime| rules.now + lifetime),
            wish: None,
            out_of_memory: false,
        }
    }

    /// How long it was of use. The time that it took to stop is not.
    fn tenure(&self, now: Instant) -> Tenure {
        let until = self.told_at.unwrap_or(now);
        self.ready_at.map_or(Tenure::NeverReady, |at| Tenure::Ready(until.saturating_duration_since(at)))
    }
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process, and none is due.
    Idle,
    /// No process; the next one is due then.
    Waiting {
        /// When the fork is due.
        until: Instant,
    },
    /// The fork has been asked for.
    Forking,
    /// A process that is not ready yet.
    Booting(Life),
    /// A process that works.
    Ready(Life),
    /// A process that was told to stop.
    Stopping {
        /// The process.
        life: Life,
        /// Why.
        reason: Reason,
        /// When it is killed.
        kill_at: Instant,
        /// When it is asked why it does not stop.
        ask_at: Option<Instant>,
    },
    /// A process that was killed and has not ended yet.
    Killing {
        /// The process.
        life: Life,
        /// Why it had been told to stop.
        reason: Reason,
    },
}

impl State {
    /// The process, where there is one.
    pub fn life(&self) -> Option<&Life> {
        match self {
            State::Idle | State::Waiting { .. } | State::Forking => None,
            State::Booting(life) | State::Ready(life) => Some(life),
            State::Stopping { life, .. } | State::Killing { life, .. } => Some(life),
        }
    }

    /// The state's word.
    pub fn name(&self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Waiting { .. } => "waiting",
            State::Forking => "forking",
            State::Booting(_) => "booting",
            State::Ready(_) => "ready",
            State::Stopping { .. } => "stopping",
            State::Killing { .. } => "killing",
        }
    }
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The swarm wants it to run.
    Start,
    /// The fork gave this process.
    Forked(i32),
    /// The fork failed.
    ForkFailed,
    /// Its process reported.
    Told(Report),
    /// Its process was measured: so many bytes, by the policy's metric.
    Measured(u64),
    /// Its process was killed for want of memory; its end is about to be told.
    OutOfMemory,
    /// A deadline of its own may be due.
    Tick,
    /// The swarm wants its process to stop, or not to come.
    Stop(Reason),
    /// The swarm wants its process to be gone.
    Kill,
    /// Its process has ended.
    Ended(ExitStatus),
}

/// What is to be done for a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fork a process for it, and answer `Forked` or `ForkFailed`.
    Fork(Who),
    /// Send its process a signal.
    Signal(Who, Signal),
    /// Measure the memory of its process, and answer `Measured`.
    Measure(Who),
    /// Find out what its process is doing, which is about to be ended for it. There is no answer.
    Diagnose(Who),
    /// Tell whoever listens.
    Emit(Notice),
}

/// The circumstances of a step that are not the node's own.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The settings.
    pub policy: &'a Policy,
    /// The time.
    pub now: Instant,
    /// Whether the node is to have a process: false while the swarm stops or is quiet, and when it became smaller.
    pub wanted: bool,
    /// While the swarm is quiet nobody is stopped for what they report or do not report.
    pub quiet: bool,
    /// A random number between 0 and 1.
    pub jitter: f64,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Its process id.
    pub pid: i32,
    /// How it ended.
    pub exit: ExitStatus,
    /// Why.
    pub reason: Reason,
}

/// One slot of the swarm.
#[derive(Clone, Debug)]
pub struct Node {
    id: NodeId,
    generation: u64,
    state: State,
    /// When it came into that state; none where it has been in it from the beginning.
    since: Option<Instant>,
    backoff: Backoff,
    last_end: Option<End>,
}

impl Node {
    /// A slot that has never had a process.
    pub fn new(id: NodeId) -> Self {
        Self { id, generation: 0, state: State::Idle, since: None, backoff: Backoff::default(), last_end: None }
    }

    /// Its present process, or the last one.
    pub fn who(&self) -> Who {
        Who { id: self.id, generation: self.generation }
    }

    /// Where it is in its life.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When it came into that state; none where it has been idle from the beginning.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// True where it has a process that has not been told to stop.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Booting(_) | State::Ready(_))
    }

    /// How often its process has been replaced.
    pub fn restarts(&self) -> u64 {
        self.generation.saturating_sub(1)
    }

    /// How its last process ended.
    pub fn last_end(&self) -> Option<End> {
        self.last_end
    }

    /// When `Tick` is due.
    pub fn deadline(&self, policy: &Policy, quiet: bool) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Booting(life) => {
                let give_up = (!quiet).then(|| life.started_at + policy.boot_timeout);
                [ready_by_itself_at(life, policy), give_up].into_iter().flatten().min()
            }
            State::Ready(life) => {
                let hangs_at = if quiet { None } else { hangs_at(life, policy) };
                [hangs_at, life.measure_at, life.old_at].into_iter().flatten().min()
            }
            State::Stopping { kill_at, ask_at, .. } => Some(ask_at.unwrap_or(*kill_at)),
            State::Idle | State::Forking | State::Killing { .. } => None,
        }
    }

    /// Why its process is to be replaced once that can be, where it is ready and is to be.
    pub fn wish(&self) -> Option<Reason> {
        match &self.state {
            State::Ready(life) => life.wish,
            _ => None,
        }
    }

    /// Everything that can happen to a node. What is not in the table changes nothing.
    pub fn step(&mut self, event: Event, rules: &Rules<'_>, out: &mut Vec<Action>) {
        use Event as E;
        use State as S;
        let now = rules.now;
        let before = discriminant(&self.state);
        self.state = match (self.state, event) {
            (S::Idle, E::Start) => self.fork(out),
            (S::Waiting { until }, E::Tick) if now >= until && rules.wanted => self.fork(out),
            (S::Waiting { .. } | S::Forking, E::Stop(_) | E::Kill) => S::Idle,

            (S::Forking, E::Forked(pid)) => self.forked(pid, rules, out),
            (S::Forking, E::ForkFailed) if rules.wanted => {
                S::Waiting { until: now + self.backoff.fork_failed(rules.policy, rules.jitter) }
            }
            (S::Forking, E::ForkFailed) => S::Idle,

            (S::Booting(life), E::Told(report)) => self.told(life, report, rules, out),
            (S::Booting(life), E::Tick) if is_due(ready_by_itself_at(&life, rules.policy), now) => {
                self.ready(life, rules, out)
            }
            (S::Booting(life), E::Tick) if now >= life.started_at + rules.policy.boot_timeout && !rules.quiet => {
                self.unhealthy(life, Reason::BootTimeout, rules, out)
            }

            (S::Ready(life), E::Told(report)) => self.told(life, report, rules, out),
            (S::Ready(life), E::Measured(bytes)) => S::Ready(measured(life, bytes, rules)),
            (S::Ready(life), E::Tick) if is_due(hangs_at(&life, rules.policy), now) && !rules.quiet => {
                self.unhealthy(life, Reason::Hung, rules, out)
            }
            (S::Ready(life), E::Tick) => S::Ready(self.grow_older(life, rules, out)),

            (S::Booting(life) | S::Ready(life), E::Stop(reason)) => self.stop(life, reason, rules, out),
            (S::Booting(life) | S::Ready(life), E::Kill) => self.kill(life, Reason::Stopped, out),
            (S::Stopping { life, reason, kill_at, .. }, E::Tick) if now >= kill_at => self.kill(life, reason, out),
            (S::Stopping { life, reason, kill_at, ask_at }, E::Tick) if is_due(ask_at, now) => {
                out.push(Action::Diagnose(self.who()));
                S::Stopping { life, reason, kill_at, ask_at: None }
            }
            (S::Stopping { life, reason, .. }, E::Kill) => self.kill(life, reason, out),

            (S::Booting(life) | S::Ready(life), E::Ended(exit)) => {
                self.ended(life, exit, Reason::of_an_unasked_end(exit, life.out_of_memory), false, rules, out)
            }
            (S::Stopping { life, reason, .. } | S::Killing { life, reason }, E::Ended(exit)) => {
                self.ended(life, exit, reason, true, rules, out)
            }
            (S::Booting(life), E::OutOfMemory) => S::Booting(Life { out_of_memory: true, ..life }),
            (S::Ready(life), E::OutOfMemory) => S::Ready(Life { out_of_memory: true, ..life }),

            (state, _) => state,
        };
        if discriminant(&self.state) != before {
            self.since = Some(now);
        }
    }

    fn fork(&mut self, out: &mut Vec<Action>) -> State {
        self.generation += 1;
        out.push(Action::Fork(self.who()));
        State::Forking
    }

    fn forked(&mut self, pid: i32, rules: &Rules<'_>, out: &mut Vec<Action>) -> State {
        let life = Life::begin(pid, rules);
        out.push(self.notice(What::NodeStarted, &life, |_| {}));
        if rules.wanted { State::Booting(life) } else { self.stop(life, Reason::Stopped, rules, out) }
    }

    fn told(&mut self, mut life: Life, report: Report, rules: &Rules<'_>, out: &mut Vec<Action>) -> State {
        if let Some(code) = report.worst {
            life.reported_at = Some(rules.now);
            life.report = Some((code, life.report.map_or(1, |(_, times)| times + 1)));
        }
        match report.worst {
            Some(code) if code > 0 && !rules.quiet => self.unhealthy(life, Reason::Unhealthy(code), rules, out),
            _ if life.ready_at.is_some() => State::Ready(life),
            _ if report.ready || is_due(ready_by_itself_at(&life, rules.policy), rules.now) => {
                self.ready(life, rules, out)
            }
            _ => State::Booting(life),
        }
    }

    fn ready(&mut self, mut life: Life, rules: &Rules<'_>, out: &mut Vec<Action>) -> State {
        life.ready_at = Some(rules.now);
        life.measure_at = rules.policy.memory_limit.map(|_| rules.now + rules.policy.memory_interval);
        out.push(self.notice(What::NodeReady, &life, |notice| {
            notice.lasted = Some(rules.now.saturating_duration_since(life.started_at));
        }));
        // Where the supervisor had no time for long, it is old already.
        State::Ready(self.grow_older(life, rules, out))
    }

    fn unhealthy(&mut self, life: Life, reason: Reason, rules: &Rules<'_>, out: &mut Vec<Action>) -> State {
        if matches!(reason, Reason::Hung | Reason::BootTimeout) {
            out.push(Action::Diagnose(self.who()));
        }
        out.push(self.notice(What::NodeUnhealthy, &life, |notice| notice.reason = Some(reason)));
        self.stop(life, reason, rules, out)
    }

    fn stop(&mut self, mut life: Life, reason: Reason, rules: &Rules<'_>, out: &mut Vec<Action>) -> State {
        life.told_at = Some(rules.now);
        // A node that somebody has stopped with SIGSTOP sees its SIGTERM only once it continues.
        out.push(Action::Signal(self.who(), Signal::SIGTERM));
        out.push(Action::Signal(self.who(), Signal::SIGCONT));
        out.push(self.notice(What::NodeStopping, &life, |notice| notice.reason = Some(reason)));
        let kill_at = rules.now + rules.policy.shutdown_timeout;
        // One that hangs was asked when that was found.
        let ask = !matches!(reason, Reason::Hung | Reason::BootTimeout) && !rules.policy.diagnose_timeout.is_zero();
        let before = rules.policy.diagnose_timeout.min(rules.policy.shutdown_timeout / 2);
        let ask_at = ask.then(|| kill_at - before);
        State::Stopping { life, reason, kill_at, ask_at }
    }

    fn kill(&mut self, life: Life, reason: Reason, out: &mut Vec<Action>) -> State {
        out.push(Action::Signal(self.who(), Signal::SIGKILL));
        out.push(self.notice(What::NodeKilled, &life, |notice| notice.reason = Some(reason)));
        State::Killing { life, reason }
    }

    /// A ready node's own deadlines, but for that of its reports.
    fn grow_older(&self, mut life: Life, rules: &Rules<'_>, out: &mut Vec<Action>) -> Life {
        if is_due(life.measure_at, rules.now) {
            out.push(Action::Measure(self.who()));
            life.measure_at = Some(rules.now + rules.policy.memory_interval);
        }
        if is_due(life.old_at, rules.now) {
            life.old_at = None;
            life.wish = life.wish.or(Some(Reason::MaxLifetime));
        }
        life
    }

    fn ended(
        &mut self,
        life: Life,
        exit: ExitStatus,
        reason: Reason,
        told: bool,
        rules: &Rules<'_>,
        out: &mut Vec<Action>,
    ) -> State {
        self.last_end = Some(End { pid: life.pid, exit, reason });
        let leaves = reason == Reason::Exited && rules.policy.on_normal_exit == OnNormalExit::Leave;
        let comes_back = rules.wanted && !leaves;
        let verdict = if comes_back { self.verdict(&life, reason, told, rules) } else { None };
        out.push(self.notice(What::NodeExited, &life, |notice| {
            notice.reason = Some(reason);
            notice.exit = Some(exit);
            notice.lasted = Some(rules.now.saturating_duration_since(life.started_at));
            notice.delay = verdict.map(|verdict| verdict.delay);
        }));
        match verdict {
            None => State::Idle,
            Some(verdict) => {
                if verdict.crash_loop {
                    out.push(self.notice(What::CrashLoop, &life, |notice| {
                        notice.reason = Some(reason);
                        notice.exit = Some(exit);
                        notice.delay = Some(verdict.delay);
                    }));
                }
                if verdict.delay.is_zero() {
                    self.fork(out)
                } else {
                    State::Waiting { until: rules.now + verdict.delay }
                }
            }
        }
    }

    /// How long the replacement of a process that ended waits.
    fn verdict(&mut self, life: &Life, reason: Reason, told: bool, rules: &Rules<'_>) -> Option<Verdict> {
        if told && reason.is_planned() {
            return Some(Verdict { delay: Duration::ZERO, crash_loop: false });
        }
        let mut verdict = self.backoff.death(life.tenure(rules.now), rules.policy, rules.jitter);
        // It ended as if told to, but not by us: the same stop may be on its way to the supervisor.
        if matches!(reason, Reason::Exited | Reason::Stopped) {
            verdict.delay = verdict.delay.max(rules.policy.settle);
        }
        Some(verdict)
    }

    fn notice(&self, what: What, life: &Life, fill: impl FnOnce(&mut Notice)) -> Action {
        let mut notice = Notice { node: Some(self.id), pid: Some(life.pid), ..Notice::new(what) };
        fill(&mut notice);
        Action::Emit(notice)
    }
}

/// When a booting node that has reported healthy counts as ready without having said so.
fn ready_by_itself_at(life: &Life, policy: &Policy) -> Option<Instant> {
    match policy.ready {
        Told::Auto => life.reported_at.map(|reported| reported.max(life.started_at + policy.ready_after)),
        Told::Manual => None,
    }
}

/// When a ready node that goes on saying nothing hangs.
fn hangs_at(life: &Life, policy: &Policy) -> Option<Instant> {
    let heard = life.reported_at.max(life.ready_at)?;
    policy.report_timeout.map(|timeout| heard + timeout)
}

fn measured(mut life: Life, bytes: u64, rules: &Rules<'_>) -> Life {
    life.memory = Some(bytes);
    if rules.policy.memory_limit.is_some_and(|limit| bytes > limit) {
        life.wish = life.wish.or(Some(Reason::MemoryLimit(bytes)));
    }
    life
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now >= at)
}

#[cfg(test)]
mod tests;
