//! All nodes of a swarm: start, stop, quiet, scale, rolling restart.
//!
//! [`Fleet::step`] takes what happened and returns what is to be done; [`Fleet::deadline`] says when it wants to be asked
//! again though nothing has happened. A step costs as much as the nodes that it concerns, not as much as all of them.
//!
//! Stop wins over everything: from then on nothing is forked, whatever else is under way.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::exit_status::ExitStatus;
use crate::node::{self, Action, Node, NodeId, Rules, State, Who};
use crate::notice::{Notice, Reason, What};
use crate::policy::{OnCrashLoop, Policy};
use crate::report::Report;

/// A second request to stop within this time is the first one, told twice: by Ctrl-C and by a script, say.
const SAME_STOP: Duration = Duration::from_secs(1);

/// What can happen to a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins.
    Start,
    /// A fork gave this process.
    Forked(Who, i32),
    /// A fork failed.
    ForkFailed(Who),
    /// A process reported.
    Told(Who, Report),
    /// A process was measured: so many bytes.
    Measured(Who, u64),
    /// The kernel killed a process for want of memory; its end is about to be told.
    OutOfMemory(Who),
    /// A process ended.
    Ended(Who, ExitStatus),
    /// A deadline may be due.
    Tick,
    /// Somebody wants it to stop. A second time, later than a second: at once.
    Stop,
    /// Somebody wants it to be gone, without waiting for anything.
    Kill,
    /// Somebody wants it to fetch no more.
    Quiet,
    /// Somebody wants all nodes replaced, one after the other.
    Restart,
    /// Somebody wants so many nodes.
    Scale(u32),
    /// Somebody wants all nodes to get this signal.
    Signal(Signal),
}

/// What the swarm as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    New,
    Running,
    Quiet,
    Stopping { since: Instant, give_up_at: Instant },
    Over,
}

/// The replacements that can wait: who is being replaced now, and who is next.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// In the order in which they were wished for. A process that is gone by its turn is passed over.
    next: VecDeque<(Who, Reason)>,
    /// The processes that replace those which are down for it.
    coming: Vec<Coming>,
    /// A rolling restart is under way.
    rolling: bool,
    /// Somebody was told that what is next waits for slots that do not come back.
    waits: bool,
}

/// What has become of a replacement.
enum Arrival {
    /// It is not ready yet, or its predecessor has not ended.
    Coming,
    /// It is ready, or nobody waits for it any more.
    There,
    /// It ended, or is being stopped, before it was ready.
    Failed,
}

/// A process that replaces one which is down for a reason that could wait.
#[derive(Clone, Copy, Debug)]
struct Coming {
    who: Who,
    reason: Reason,
    /// It, or one after it, ended before it was ready. Its slot stays down for the plan until one is ready.
    failed: bool,
}

/// How a swarm ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The nodes that had to be killed to stop.
    pub killed: Vec<NodeId>,
    /// The nodes that did not end though they were killed.
    pub lost: Vec<NodeId>,
    /// The slot whose crash loop ended the swarm.
    pub crash_loop: Option<NodeId>,
}

/// All nodes of a swarm.
#[derive(Clone, Debug)]
pub struct Fleet {
    policy: Policy,
    nodes: Vec<Node>,
    wanted: u32,
    mode: Mode,
    plan: Plan,
    /// How many nodes are not idle.
    busy: usize,
    /// The deadline of each node that has one, soonest first.
    deadlines: BTreeSet<(Instant, NodeId)>,
    /// The same by node: what stands in `deadlines` for it.
    due: Vec<Option<Instant>>,
    random: fastrand::Rng,
    outcome: Outcome,
}

impl Fleet {
    /// A swarm that has not begun. `seed` decides the jitter of its delays.
    pub fn new(policy: Policy, seed: u64) -> Self {
        let wanted = policy.nodes;
        Self {
            policy,
            nodes: (0..wanted).map(Node::new).collect(),
            wanted,
            mode: Mode::New,
            plan: Plan::default(),
            busy: 0,
            deadlines: BTreeSet::new(),
            due: vec![None; wanted as usize],
            random: fastrand::Rng::with_seed(seed),
            outcome: Outcome::default(),
        }
    }

    /// All slots, those that a smaller swarm has left idle included.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its settings.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// True once it will do nothing more.
    pub fn is_over(&self) -> bool {
        self.mode == Mode::Over
    }

    /// True once somebody has asked it to stop.
    pub fn is_stopping(&self) -> bool {
        matches!(self.mode, Mode::Stopping { .. } | Mode::Over)
    }

    /// How it ended, or has ended so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// True where a fork was asked for and is still wanted.
    pub fn wants_fork(&self, who: Who) -> bool {
        self.nodes.get(who.id as usize).is_some_and(|node| node.who() == who && *node.state() == State::Forking)
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let node = self.deadlines.first().map(|(at, _)| *at);
        match self.mode {
            Mode::Stopping { give_up_at, .. } => Some(node.map_or(give_up_at, |at| at.min(give_up_at))),
            Mode::Over => None,
            Mode::New | Mode::Running | Mode::Quiet => node,
        }
    }

    /// Takes what happened and says what is to be done.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Forked(who, pid) => self.one(who, node::Event::Forked(pid), now, &mut out),
            Event::ForkFailed(who) => self.one(who, node::Event::ForkFailed, now, &mut out),
            Event::Told(who, report) => self.one(who, node::Event::Told(report), now, &mut out),
            Event::Measured(who, bytes) => self.one(who, node::Event::Measured(bytes), now, &mut out),
            Event::OutOfMemory(who) => self.one(who, node::Event::OutOfMemory, now, &mut out),
            Event::Ended(who, exit) => self.one(who, node::Event::Ended(exit), now, &mut out),
            Event::Tick => self.tick(now, &mut out),
            Event::Stop => self.stop(now, &mut out),
            Event::Kill => {
                self.stop(now, &mut out);
                self.kill(now, &mut out);
            }
            Event::Quiet => self.quiet(now, &mut out),
            Event::Restart => self.restart(now, &mut out),
            Event::Scale(nodes) => self.scale(nodes, now, &mut out),
            Event::Signal(signal) => self.signal(signal, &mut out),
        }
        if !self.is_over() && self.busy == 0 && matches!(self.mode, Mode::Stopping { .. } | Mode::Running) {
            self.end(&mut out);
        }
        out
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.mode == Mode::New {
            self.mode = Mode::Running;
            self.all(node::Event::Start, now, out);
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        // Each due node gets one tick a step: one whose deadline stays due must not hold up the others.
        let due: Vec<NodeId> = self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.node(id, node::Event::Tick, now, out);
        }
        self.go_on(now, out);
        if matches!(self.mode, Mode::Stopping { give_up_at, .. } if now >= give_up_at) {
            self.give_up(out);
        }
    }

    fn stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.mode {
            Mode::New | Mode::Running | Mode::Quiet => {
                let give_up_at = now + self.policy.shutdown_timeout + self.policy.kill_grace;
                self.mode = Mode::Stopping { since: now, give_up_at };
                self.plan = Plan::default();
                out.push(Action::Emit(Notice::new(What::Stopping)));
                self.all(node::Event::Stop(Reason::Stopped), now, out);
            }
            Mode::Stopping { since, .. } if now.saturating_duration_since(since) >= SAME_STOP => self.kill(now, out),
            Mode::Stopping { .. } | Mode::Over => {}
        }
    }

    fn kill(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Mode::Stopping { since, give_up_at } = self.mode {
            // Whoever asks again and again does not put the end off.
            let give_up_at = give_up_at.min(now + self.policy.kill_grace);
            self.mode = Mode::Stopping { since, give_up_at };
            self.all(node::Event::Kill, now, out);
        }
    }

    fn quiet(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.mode == Mode::Running {
            self.mode = Mode::Quiet;
            self.plan = Plan::default();
            out.push(Action::Emit(Notice::new(What::Quieting)));
            self.signal(Signal::SIGTSTP, out);
            // A slot that waits for its next process gets none; the deadlines of the others have changed.
            for id in 0..self.nodes.len() as NodeId {
                let event = match self.nodes[id as usize].state() {
                    State::Waiting { .. } | State::Forking => node::Event::Stop(Reason::Stopped),
                    _ => node::Event::Tick,
                };
                self.node(id, event, now, out);
            }
        }
    }

    fn restart(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.mode == Mode::Running {
            out.push(Action::Emit(Notice::new(What::Restarting)));
            self.plan.next.retain(|(_, reason)| *reason != Reason::Restart);
            // A node without a process gets a new one anyway, and one that is stopping is being replaced already.
            let all = self.nodes.iter().filter(|node| node.is_up());
            self.plan.next.extend(all.map(|node| (node.who(), Reason::Restart)));
            self.plan.rolling = true;
            self.go_on(now, out);
        }
    }

    /// Goes on with the planned replacements as far as `max_unavailable` allows.
    fn go_on(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        for mut coming in std::mem::take(&mut self.plan.coming) {
            match self.arrival(coming.who) {
                Arrival::There => continue,
                Arrival::Coming => {}
                Arrival::Failed if coming.failed => {}
                Arrival::Failed => {
                    coming.failed = true;
                    if coming.reason == Reason::Restart {
                        self.give_up_roll(coming.who.id, out);
                    }
                }
            }
            // A slot whose work is done stays empty: nobody waits for it.
            if !(coming.failed && *self.nodes[coming.who.id as usize].state() == State::Idle) {
                self.plan.coming.push(coming);
            }
        }
        while self.plan.coming.len() < self.policy.max_unavailable as usize {
            let Some((who, reason)) = self.plan.next.pop_front() else { break };
            if self.up(who).is_some() {
                let next = Who { generation: who.generation + 1, ..who };
                // A replacement that is replaced in its turn has not failed.
                self.plan.coming.retain(|coming| coming.who.id != who.id);
                self.plan.coming.push(Coming { who: next, reason, failed: false });
                self.node(who.id, node::Event::Stop(reason), now, out);
            }
        }
        while self.plan.next.front().is_some_and(|(who, _)| self.up(*who).is_none()) {
            self.plan.next.pop_front();
        }
        let next = self.plan.next.iter().map(|(_, reason)| reason);
        let coming = self.plan.coming.iter().filter(|coming| !coming.failed).map(|coming| &coming.reason);
        if self.plan.rolling && !next.chain(coming).any(|reason| *reason == Reason::Restart) {
            self.plan.rolling = false;
            out.push(Action::Emit(Notice::new(What::Restarted)));
        }
        self.tell_who_waits(out);
    }

    /// Says once that who is next waits for slots whose replacements do not get ready: only a person may know why.
    fn tell_who_waits(&mut self, out: &mut Vec<Action>) {
        let Plan { next, coming, .. } = &self.plan;
        let stuck = coming.len() >= self.policy.max_unavailable as usize && coming.iter().all(|coming| coming.failed);
        let first = next.front().filter(|_| stuck);
        if let (Some((who, reason)), false) = (first, self.plan.waits) {
            let slots: Vec<String> = coming.iter().map(|coming| coming.who.id.to_string()).collect();
            let slots = format!("{} {}", if slots.len() == 1 { "node" } else { "one of the nodes" }, slots.join(", "));
            out.push(Action::Emit(Notice {
                node: Some(who.id),
                pid: self.up(*who).and_then(|node| node.state().life()).map(|life| life.pid),
                reason: Some(*reason),
                message: Some(format!("{slots} has to be ready first, and does not get ready")),
                ..Notice::new(What::ReplacementWaits)
            }));
        }
        self.plan.waits = first.is_some();
    }

    /// The node of a process that is present and was not told to stop.
    fn up(&self, who: Who) -> Option<&Node> {
        self.nodes.get(who.id as usize).filter(|node| node.who() == who && node.is_up())
    }

    /// What has become of a process that replaces another.
    fn arrival(&self, coming: Who) -> Arrival {
        let node = &self.nodes[coming.id as usize];
        let present = node.who().generation;
        match node.state() {
            _ if coming.id >= self.wanted => Arrival::There,
            State::Ready(_) if present >= coming.generation => Arrival::There,
            _ if present > coming.generation => Arrival::Failed,
            State::Waiting { .. } | State::Stopping { .. } | State::Idle if present == coming.generation => {
                Arrival::Failed
            }
            _ => Arrival::Coming,
        }
    }

    /// The replacement did not get ready: the rest stays on what works.
    fn give_up_roll(&mut self, id: NodeId, out: &mut Vec<Action>) {
        self.plan.rolling = false;
        self.plan.next.retain(|(_, reason)| *reason != Reason::Restart);
        out.push(Action::Emit(Notice {
            node: Some(id),
            message: Some("rolling restart given up: the replacement did not get ready".into()),
            ..Notice::new(What::Error)
        }));
    }

    fn scale(&mut self, nodes: u32, now: Instant, out: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, nodes);
        self.nodes.extend((self.nodes.len() as NodeId..nodes).map(Node::new));
        self.due.resize(self.nodes.len(), None);
        for id in (nodes..before).rev() {
            self.node(id, node::Event::Stop(Reason::ScaledDown), now, out);
        }
        for id in before..nodes {
            self.node(id, node::Event::Start, now, out);
        }
        self.go_on(now, out);
    }

    fn signal(&self, signal: Signal, out: &mut Vec<Action>) {
        let alive = self.nodes.iter().filter(|node| node.state().life().is_some());
        out.extend(alive.map(|node| Action::Signal(node.who(), signal)));
    }

    /// The killed nodes have not ended: the swarm does not wait for ever.
    fn give_up(&mut self, out: &mut Vec<Action>) {
        for node in &self.nodes {
            let Some(life) = node.state().life() else { continue };
            self.outcome.lost.push(node.who().id);
            out.push(Action::Emit(Notice {
                node: Some(node.who().id),
                pid: Some(life.pid),
                message: Some("killed, and has not ended: the kernel holds it, or it is traced".into()),
                ..Notice::new(What::Error)
            }));
        }
        self.end(out);
    }

    fn end(&mut self, out: &mut Vec<Action>) {
        self.mode = Mode::Over;
        out.push(Action::Emit(Notice::new(What::Stopped)));
    }

    /// News of one process, which counts only while it is the node's present one.
    fn one(&mut self, who: Who, event: node::Event, now: Instant, out: &mut Vec<Action>) {
        if self.nodes.get(who.id as usize).is_some_and(|node| node.who() == who) {
            self.node(who.id, event, now, out);
            self.go_on(now, out);
        }
    }

    fn all(&mut self, event: node::Event, now: Instant, out: &mut Vec<Action>) {
        for id in 0..self.nodes.len() as NodeId {
            self.node(id, event, now, out);
        }
    }

    fn node(&mut self, id: NodeId, event: node::Event, now: Instant, out: &mut Vec<Action>) {
        let quiet = self.mode == Mode::Quiet;
        let Some(node) = self.nodes.get_mut(id as usize) else { return };
        let wished = node.wish().is_some();
        let was_idle = *node.state() == State::Idle;
        let first = out.len();
        let rules = Rules {
            policy: &self.policy,
            now,
            wanted: self.mode == Mode::Running && id < self.wanted,
            quiet,
            jitter: self.random.f64(),
        };
        node.step(event, &rules, out);
        self.busy = self.busy + usize::from(was_idle) - usize::from(*node.state() == State::Idle);
        if let (false, true, Some(reason)) = (wished, self.mode == Mode::Running, node.wish()) {
            self.plan.next.push_back((node.who(), reason));
        }
        let due = node.deadline(&self.policy, quiet);
        let was_due = std::mem::replace(&mut self.due[id as usize], due);
        if was_due != due {
            was_due.map(|at| self.deadlines.remove(&(at, id)));
            due.map(|at| self.deadlines.insert((at, id)));
        }
        self.note(id, first, now, out);
    }

    /// Keeps what of the new actions since `first` concerns the swarm as a whole.
    fn note(&mut self, id: NodeId, first: usize, now: Instant, out: &mut Vec<Action>) {
        let stopping = matches!(self.mode, Mode::Stopping { .. });
        let mut crash_loop = false;
        for action in &out[first..] {
            match action {
                Action::Signal(_, Signal::SIGKILL) if stopping => self.outcome.killed.push(id),
                Action::Emit(Notice { what: What::CrashLoop, .. }) => crash_loop = true,
                _ => {}
            }
        }
        if crash_loop && self.policy.on_crash_loop == OnCrashLoop::Stop && self.outcome.crash_loop.is_none() {
            self.outcome.crash_loop = Some(id);
            self.stop(now, out);
        }
    }
}

#[cfg(test)]
mod tests;
