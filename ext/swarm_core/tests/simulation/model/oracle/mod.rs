//! The rules of a swarm as its documentation gives them, checked from outside at each step.
//!
//! [`Oracle::before`] takes in what is about to happen, [`Oracle::action`] judges what the fleet wants done, and
//! [`state::State`]'s checks judge where it stands afterwards, and whether it will wake in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use swarm_core::fleet::Event;
use swarm_core::node::{Action, NodeId, Who};
use swarm_core::notice::{Notice, Reason, What};
use swarm_core::policy::{OnCrashLoop, Policy};
use swarm_core::report::Report;

use self::slot::{Down, Process, Slot};
use super::{Broken, rule};

mod after;
mod plan;
mod slot;

/// A second request to stop within this time is the first.
const SAME_STOP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    New,
    Running,
    Quiet,
    Stopping { since: Instant, over_by: Instant, killing: bool },
    Over,
}

#[derive(Clone, Debug)]
pub struct Oracle {
    policy: Policy,
    slots: Vec<Slot>,
    wanted: u32,
    mode: Mode,
    now: Instant,
    event: Event,
    /// The forks until the last request for a rolling restart that is still under way.
    rolling: Option<u64>,
    /// Who waits for slots that do not come back, as was told.
    waiting: Option<Who>,
    forks: u64,
    ends: u64,
    killed: Vec<NodeId>,
    lost: Vec<NodeId>,
    crash_loop: Option<NodeId>,
    /// The notices about the whole swarm that this step owes.
    owed: Vec<What>,
    /// Nothing is to be done any more but to listen.
    pub still: bool,
    /// How often each thing happened, to see that a run of many schedules comes by everything.
    pub seen: BTreeMap<&'static str, u64>,
}

impl Oracle {
    pub fn new(policy: &Policy, now: Instant) -> Self {
        Self {
            slots: vec![Slot::default(); policy.nodes() as usize],
            wanted: policy.nodes(),
            policy: policy.clone(),
            mode: Mode::New,
            now,
            event: Event::Tick,
            rolling: None,
            waiting: None,
            forks: 0,
            ends: 0,
            killed: Vec::new(),
            lost: Vec::new(),
            crash_loop: None,
            owed: Vec::new(),
            still: false,
            seen: BTreeMap::new(),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn is_quiet(&self) -> bool {
        self.mode == Mode::Quiet
    }

    fn is_running(&self) -> bool {
        self.mode == Mode::Running
    }

    fn is_killing(&self) -> bool {
        matches!(self.mode, Mode::Stopping { killing: true, .. })
    }

    /// Takes in what happens, before it is known what the fleet makes of it.
    pub fn before(&mut self, now: Instant, event: Event) {
        self.now = now;
        self.event = event;
        match event {
            Event::Start if self.mode == Mode::New => {
                self.mode = Mode::Running;
                self.slots.iter_mut().take(self.wanted as usize).for_each(|slot| slot.fork_at_once(now));
            }
            Event::Forked(who, pid) => self.forked(who, pid),
            Event::ForkFailed(who) => self.fork_failed(who),
            Event::Told(who, report) => self.told(who, report),
            Event::Measured(who, bytes) => {
                let over = self.policy.memory_limit().is_some_and(|limit| bytes > limit);
                if let Some(process) = self.process(who) {
                    if over && process.ready.is_some() && process.told.is_none() {
                        process.over = process.over.or(Some(bytes));
                    }
                }
            }
            Event::OutOfMemory(who) => {
                if let Some(process) = self.process(who) {
                    process.out_of_memory = true;
                }
            }
            Event::Ended(who, exit) => {
                if let Some(process) = self.process(who) {
                    process.ended = Some(exit);
                }
            }
            Event::Stop => self.stop(false),
            Event::Kill => self.stop(true),
            Event::Quiet if self.is_running() => {
                self.mode = Mode::Quiet;
                self.give_up_roll();
                self.owed.push(What::Quieting);
                for slot in &mut self.slots {
                    slot.cancel();
                    slot.process.iter_mut().for_each(|process| process.explained.push(Signal::SIGTSTP));
                }
            }
            Event::Restart if self.is_running() => {
                self.owed.push(What::Restarting);
                self.rolling = Some(self.forks);
            }
            Event::Scale(nodes) => self.scale(nodes),
            Event::Signal(signal) => {
                for process in self.slots.iter_mut().filter_map(|slot| slot.process.as_mut()) {
                    process.explained.push(signal);
                }
            }
            _ => {}
        }
    }

    fn process(&mut self, who: Who) -> Option<&mut Process> {
        let process = self.slots.get_mut(who.id as usize)?.process.as_mut()?;
        (process.who == who).then_some(process)
    }

    fn forked(&mut self, who: Who, pid: i32) {
        let (now, number) = (self.now, self.forks + 1);
        let Some(slot) = self.slots.get_mut(who.id as usize) else { return };
        if slot.forking.take_if(|forking| *forking == who).is_some() {
            slot.process = Some(Process::new(who, pid, number, now));
            self.forks = number;
        }
    }

    fn fork_failed(&mut self, who: Who) {
        let Some(slot) = self.slots.get_mut(who.id as usize) else { return };
        if slot.forking.take_if(|forking| *forking == who).is_some() {
            let delay = slot.row.longer(&self.policy);
            slot.fork_within(delay, self.now);
            slot.failed(who.generation);
            self.saw("fork failed");
        }
    }

    fn told(&mut self, who: Who, report: Report) {
        let now = self.now;
        if let Some(process) = self.process(who) {
            if report.worst.is_some() && process.told.is_none() {
                process.reported = Some(now);
            }
        }
    }

    fn stop(&mut self, kill: bool) {
        let now = self.now;
        let (timeout, grace) = (self.policy.shutdown_timeout(), self.policy.kill_grace());
        match self.mode {
            Mode::New | Mode::Running | Mode::Quiet => {
                self.mode = Mode::Stopping { since: now, over_by: now + timeout + grace, killing: false };
                self.owed.push(What::Stopping);
                self.give_up_roll();
                self.slots.iter_mut().for_each(Slot::cancel);
                if kill {
                    self.kill();
                }
            }
            Mode::Stopping { since, .. } if kill || now - since >= SAME_STOP => self.kill(),
            Mode::Stopping { .. } | Mode::Over => {}
        }
    }

    fn kill(&mut self) {
        if let Mode::Stopping { over_by, killing, .. } = &mut self.mode {
            *over_by = (self.now + self.policy.kill_grace()).min(*over_by);
            *killing = true;
        }
    }

    fn scale(&mut self, nodes: u32) {
        if !self.is_running() {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, nodes) as usize;
        let nodes = nodes as usize;
        self.slots.resize_with(self.slots.len().max(nodes), Slot::default);
        let now = self.now;
        for slot in self.slots.iter_mut().take(before).skip(nodes) {
            slot.cancel();
            slot.down = None;
        }
        for slot in self.slots.iter_mut().take(nodes).skip(before) {
            slot.left = false;
            slot.forget_forks();
            if slot.process.is_none() {
                slot.fork_at_once(now);
            }
        }
    }

    /// Judges something that the fleet wants done.
    pub fn action(&mut self, action: &Action) -> Result<(), Broken> {
        let quietly = matches!(action, Action::Measure(_));
        rule!(!self.still || quietly, "{action:?} though all is well");
        match action {
            Action::Fork(who) => self.fork(*who),
            Action::Signal(who, signal) => {
                let Some(process) = self.process(*who) else {
                    return Err(Broken(format!("I1: {signal} for {who:?}, which is not there")));
                };
                process.sent.push(*signal);
                Ok(())
            }
            Action::Measure(who) => self.measure(*who),
            Action::Diagnose(who) => self.ask(*who),
            Action::Emit(notice) => match notice.node {
                Some(id) => self.notice(id, notice),
                None => self.swarm_notice(notice.what),
            },
        }
    }

    fn fork(&mut self, who: Who) -> Result<(), Broken> {
        let (now, wanted) = (self.now, who.id < self.wanted);
        rule!(self.is_running(), "I4: {who:?} is forked while the swarm is {:?}", self.mode);
        rule!(wanted, "{who:?} is forked, {} nodes are wanted", self.wanted);
        let slot = &mut self.slots[who.id as usize];
        rule!(slot.process.is_none(), "I2: {who:?} is forked beside {:?}", slot.process);
        rule!(slot.forking.is_none(), "I2: {who:?} is forked beside {:?}", slot.forking);
        rule!(who.generation > slot.generation, "{who:?} is forked after generation {}", slot.generation);
        let Some(due) = slot.due.take() else { return Err(Broken(format!("nobody wants {who:?}"))) };
        rule!(now >= due.from, "{who:?} is forked {:?} early", due.from - now);
        slot.due_now = false;
        slot.generation = who.generation;
        slot.forking = Some(who);
        slot.count_fork(now, &self.policy)
    }

    fn measure(&mut self, who: Who) -> Result<(), Broken> {
        let (now, policy) = (self.now, self.policy.clone());
        let Some(process) = self.process(who) else { return Err(Broken(format!("{who:?} is measured, and gone"))) };
        let due = process.measure_at(&policy).is_some_and(|at| now >= at) && process.told.is_none();
        rule!(due, "measured before its time: {process:?}");
        process.measured = Some(now);
        self.saw("measured");
        Ok(())
    }

    fn ask(&mut self, who: Who) -> Result<(), Broken> {
        let (now, policy) = (self.now, self.policy.clone());
        let Some(process) = self.process(who) else { return Err(Broken(format!("{who:?} is asked, and gone"))) };
        let due = process.told.is_none() || process.ask_at(&policy).is_some_and(|at| now >= at);
        rule!(due && process.asked.is_none(), "asked before its time: {process:?}");
        process.asked = Some(now);
        self.saw("asked");
        Ok(())
    }

    fn swarm_notice(&mut self, what: What) -> Result<(), Broken> {
        self.saw(what.name());
        match what {
            What::Stopped => {
                let idle = self.slots.iter().all(Slot::is_idle);
                let late = matches!(self.mode, Mode::Stopping { over_by, .. } if self.now >= over_by);
                let live = matches!(self.mode, Mode::Stopping { .. } | Mode::Running);
                rule!(live && (idle || late), "the swarm is over while {:?}, all idle: {idle}", self.mode);
                let lost = self.slots.iter().filter_map(|slot| slot.process.as_ref());
                let lost: Vec<NodeId> = lost.map(|process| process.who.id).collect();
                rule!(lost == self.lost, "nodes {lost:?} are lost, told of: {:?}", self.lost);
                self.mode = Mode::Over;
            }
            What::Restarted => {
                let Some(since) = self.rolling.take() else { return Err(Broken("no restart is under way".into())) };
                let rolled = |down: Down| down.reason == Reason::Restart && !down.failed;
                let down = self.slots.iter().position(|slot| slot.down.is_some_and(rolled));
                rule!(down.is_none(), "restarted, while node {down:?} is not back");
                let old = self.slots.iter().take(self.wanted as usize).filter_map(|slot| slot.process.as_ref());
                let old = old.filter(|process| process.told.is_none()).find(|process| process.number <= since);
                rule!(old.is_none(), "restarted, but not {old:?}");
            }
            _ => {
                let owed = self.owed.iter().position(|owed| *owed == what);
                let Some(owed) = owed else { return Err(Broken(format!("{what:?} comes from nowhere"))) };
                self.owed.swap_remove(owed);
            }
        }
        Ok(())
    }

    fn notice(&mut self, id: NodeId, notice: &Notice) -> Result<(), Broken> {
        self.saw(notice.what.name());
        if notice.what == What::Error {
            return self.error(id, notice);
        }
        if notice.what == What::CrashLoop {
            return self.looping(id);
        }
        let Some(process) = self.slots.get_mut(id as usize).and_then(|slot| slot.process.as_mut()) else {
            return Err(Broken(format!("{notice:?} of no process")));
        };
        rule!(notice.pid == Some(process.pid), "{notice:?} is not about process {}", process.pid);
        match notice.what {
            What::ReplacementWaits => self.waits(id, notice),
            What::NodeStarted => {
                rule!(!process.announced, "{:?} started twice", process.who);
                process.announced = true;
                Ok(())
            }
            What::NodeReady => self.ready(id),
            What::NodeUnhealthy => {
                rule!(process.wrong.is_none() && process.told.is_none(), "{notice:?} of {process:?}");
                process.wrong = notice.reason;
                let mute = matches!(process.wrong, Some(Reason::Hung | Reason::BootTimeout));
                rule!(!mute || process.asked == Some(self.now), "nobody asked why: {process:?}");
                Ok(())
            }
            What::NodeStopping => self.stopping(id, notice.reason),
            What::NodeKilled => self.node_killed(id, notice.reason),
            What::NodeExited => self.exited(id, notice),
            _ => Err(Broken(format!("{notice:?} is not about a node"))),
        }
    }

    fn ready(&mut self, id: NodeId) -> Result<(), Broken> {
        let now = self.now;
        let slot = &mut self.slots[id as usize];
        let Some(process) = &mut slot.process else { return Ok(()) };
        rule!(process.ready.is_none() && process.told.is_none(), "ready: {process:?}");
        let said = matches!(self.event, Event::Told(who, report) if who == process.who && report.ready);
        let by_itself = process.ready_by_itself_at(&self.policy).is_some_and(|at| now >= at);
        rule!(said || by_itself, "nothing says that it is ready: {process:?}");
        process.ready = Some(now);
        process.measured = Some(now);
        slot.down.take_if(|down| process.who.generation > down.generation);
        Ok(())
    }

    fn stopping(&mut self, id: NodeId, reason: Option<Reason>) -> Result<(), Broken> {
        let (now, quiet, killing) = (self.now, self.is_quiet(), self.is_killing());
        let stopping = matches!(self.mode, Mode::Stopping { .. });
        let (down, most) = (self.down(), self.policy.max_unavailable() as usize);
        let (event, rolling, wanted) = (self.event, self.rolling.is_some(), id < self.wanted);
        let running = self.is_running();
        let slot = &mut self.slots[id as usize];
        let Some(process) = &mut slot.process else { return Ok(()) };
        let Some(reason) = reason else { return Err(Broken("stopping without a reason".into())) };
        rule!(process.told.is_none() && !process.killed, "told to stop twice: {process:?}");
        let fault = match reason {
            Reason::Unhealthy(code) => {
                let said = matches!(event, Event::Told(who, told) if who == process.who && told.worst == Some(code));
                said && code > 0 && !quiet
            }
            Reason::Hung | Reason::BootTimeout => {
                let ready = process.ready_by_itself_at(&self.policy).is_some_and(|at| now >= at);
                let due = process.wrong_at(&self.policy).is_some_and(|(at, wrong)| wrong == reason && now >= at);
                let listens = event == Event::Tick && !quiet;
                rule!(listens && due && (process.ready.is_some() || !ready), "I11: {reason} is not true: {process:?}");
                true
            }
            Reason::Stopped => {
                rule!(stopping, "stopped while the swarm goes on: {process:?}");
                false
            }
            Reason::ScaledDown => {
                rule!(!wanted, "scaled down, but wanted: {process:?}");
                false
            }
            Reason::Restart | Reason::MaxLifetime | Reason::MemoryLimit(_) => {
                let true_ = match reason {
                    Reason::MemoryLimit(bytes) => process.over == Some(bytes),
                    Reason::MaxLifetime => process.old_within(&self.policy).is_some_and(|old| now >= old.from),
                    _ => rolling,
                };
                rule!(true_ && running && wanted, "{reason} is not true: {process:?}");
                rule!(down < most, "{down} nodes are down for what can wait: {process:?}");
                slot.down = Some(Down { generation: process.who.generation, reason, failed: false });
                false
            }
            other => return Err(Broken(format!("{other} is no reason to stop {process:?}"))),
        };
        rule!(process.wrong == fault.then_some(reason), "stopping for {reason}, but wrong: {:?}", process.wrong);
        rule!(!killing || fault || stopping, "{process:?}");
        let generation = process.who.generation;
        process.told = Some((reason, now));
        process.explained.extend([Signal::SIGTERM, Signal::SIGCONT]);
        slot.failed(generation);
        self.saw(match reason {
            Reason::Unhealthy(_) => "unhealthy",
            Reason::Hung => "hung",
            Reason::BootTimeout => "boot timeout",
            Reason::Stopped => "stopped",
            Reason::ScaledDown => "scaled down",
            Reason::MemoryLimit(_) => "memory limit",
            Reason::MaxLifetime => "max lifetime",
            _ => "rolled",
        });
        Ok(())
    }

    fn node_killed(&mut self, id: NodeId, reason: Option<Reason>) -> Result<(), Broken> {
        let (now, killing) = (self.now, self.is_killing());
        let Some(process) = &mut self.slots[id as usize].process else { return Ok(()) };
        rule!(!process.killed, "killed twice: {process:?}");
        let told = process.told.map(|(reason, _)| reason);
        rule!(reason == told.or(Some(Reason::Stopped)), "killed for {reason:?}: {process:?}");
        let late = process.told.is_some_and(|(_, at)| now >= at + self.policy.shutdown_timeout());
        rule!(killing || late, "killed before its time: {process:?}");
        process.killed = true;
        // What was not told to stop before it was killed is treated as if it had been.
        process.told = process.told.or(Some((Reason::Stopped, now)));
        process.explained.push(Signal::SIGKILL);
        if matches!(self.mode, Mode::Stopping { .. }) {
            self.killed.push(id);
        }
        Ok(())
    }

    fn exited(&mut self, id: NodeId, notice: &Notice) -> Result<(), Broken> {
        let (now, running) = (self.now, self.is_running());
        let wanted = running && id < self.wanted;
        let slot = &mut self.slots[id as usize];
        let Some(process) = slot.process.take() else { return Ok(()) };
        let Some(exit) = process.ended else {
            return Err(Broken(format!("exited, but nobody said so: {process:?}")));
        };
        rule!(notice.exit == Some(exit), "I3: ended as {exit:?}, told: {:?}", notice.exit);
        rule!(notice.reason == Some(process.reason(exit)), "I3: {process:?} ended because of {:?}", notice.reason);
        rule!(notice.lasted == Some(now - process.started), "I3: {process:?} lasted {:?}", notice.lasted);
        rule!(process.sent == process.explained, "{process:?} got signals that nobody explains");
        slot.failed(process.who.generation);
        let delay = if wanted { slot.successor(&process, exit, now, &self.policy) } else { None };
        match (delay, notice.delay) {
            (Some(delay), Some(told)) => {
                rule!(delay.from <= told && told <= delay.to, "the next waits {told:?}, allowed: {delay:?}, {slot:?}");
                slot.expects_crash_loop = delay.crash_loop;
                slot.due = Some(slot::Window { from: now + told, to: now + told });
                slot.due_now = told.is_zero();
            }
            (None, None) => {}
            (expected, told) => return Err(Broken(format!("the next comes in {told:?}, expected: {expected:?}"))),
        }
        if delay.is_none() {
            slot.down = None;
        }
        self.ends += 1;
        self.saw(match process.reason(exit) {
            Reason::Exited if wanted && delay.is_none() => "left",
            Reason::Exited => "exited",
            Reason::Crashed => "crashed",
            Reason::Killed => "killed",
            Reason::OomKilled => "oom killed",
            Reason::Unknown => "unknown",
            _ => "as told",
        });
        Ok(())
    }

    fn looping(&mut self, id: NodeId) -> Result<(), Broken> {
        let slot = &mut self.slots[id as usize];
        rule!(slot.expects_crash_loop, "node {id} is in no crash loop: {slot:?}");
        slot.expects_crash_loop = false;
        if self.policy.on_crash_loop() == OnCrashLoop::Stop {
            self.crash_loop = self.crash_loop.or(Some(id));
            self.stop(false);
        }
        Ok(())
    }

    fn error(&mut self, id: NodeId, notice: &Notice) -> Result<(), Broken> {
        let slot = &mut self.slots[id as usize];
        if notice.pid.is_some() {
            rule!(slot.process.as_ref().is_some_and(|process| process.killed), "{notice:?} of {slot:?}");
            self.lost.push(id);
            self.saw("lost");
        } else {
            rule!(slot.roll_failed, "{notice:?} of {slot:?}");
            slot.roll_failed = false;
            self.rolling = None;
            self.saw("roll given up");
        }
        Ok(())
    }
}
