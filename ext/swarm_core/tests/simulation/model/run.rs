//! The supervisor's loop, as production runs it: requests before forks, forks before sleep, what happened before the
//! tick. The kernel and the clock are made up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use swarm_core::fleet::{Event, Fleet};
use swarm_core::node::{Action, Who};

use super::kernel::{Forked, Kernel};
use super::oracle::{Mode, Oracle};
use super::schedule::{Genes, Request, Schedule, What};
use super::{Broken, rule};

/// No schedule needs as many steps; one that takes them has a swarm that does not come to rest.
const MOST_STEPS: u64 = 200_000;

/// How many steps a moment may take before it is a busy loop.
const MOST_AT_ONCE: u64 = 5_000;

pub struct Run {
    fleet: Fleet,
    kernel: Kernel,
    oracle: Oracle,
    requests: VecDeque<Request>,
    /// When the next request comes.
    request_at: Instant,
    asked: VecDeque<Event>,
    forks: VecDeque<Who>,
    backwards: bool,
    early: bool,
    start: Instant,
    now: Instant,
    steps: u64,
    /// The steps at the present time.
    at_once: u64,
    story: Option<Vec<String>>,
}

/// What a whole run gave.
pub struct Ran {
    pub verdict: Result<(), Broken>,
    pub steps: u64,
    pub seen: std::collections::BTreeMap<&'static str, u64>,
    pub story: Vec<String>,
}

/// Plays the schedule of `genes` to its end.
pub fn run(genes: &Genes) -> Ran {
    Run::new(Schedule::of(genes), None).finish()
}

/// The same, with what happened in words.
pub fn tell(genes: &Genes) -> Ran {
    let schedule = Schedule::of(genes);
    let story = vec![format!("{schedule:#?}")];
    Run::new(schedule, Some(story)).finish()
}

impl Run {
    fn new(schedule: Schedule, story: Option<Vec<String>>) -> Self {
        let now = Instant::now();
        let Schedule { policy, seed, lives, requests, early, backwards } = schedule;
        let requests = VecDeque::from(requests);
        Self {
            kernel: Kernel::new(&policy, lives),
            oracle: Oracle::new(&policy, now),
            fleet: Fleet::new(policy, seed),
            request_at: now + requests.front().map_or(Duration::ZERO, |request| request.after),
            requests,
            asked: VecDeque::new(),
            forks: VecDeque::new(),
            backwards,
            early,
            start: now,
            now,
            steps: 0,
            at_once: 0,
            story,
        }
    }

    fn finish(mut self) -> Ran {
        let verdict = self.play();
        Ran { verdict, steps: self.steps, seen: self.oracle.seen, story: self.story.unwrap_or_default() }
    }

    fn play(&mut self) -> Result<(), Broken> {
        if self.early {
            self.take_requests()?;
        }
        self.step(Event::Start)?;
        self.trouble()?;
        if !self.fleet.is_over() {
            self.calm_down()?;
        }
        if !self.fleet.is_over() {
            self.asked.push_back(Event::Stop);
            let policy = self.fleet.policy();
            let long = policy.shutdown_timeout() + policy.kill_grace();
            self.go_on(self.now + long + Duration::from_secs(5), |_| false)?;
        }
        rule!(self.fleet.is_over(), "I4: it does not end");
        for event in
            [Event::Tick, Event::Start, Event::Restart, Event::Scale(9), Event::Quiet, Event::Stop, Event::Kill]
        {
            let actions = self.fleet.step(self.now, event);
            rule!(actions.is_empty(), "it is over, and {event:?} leads to {actions:?}");
        }
        let alive: Vec<Who> = self.kernel.alive();
        let left = alive.iter().find(|who| !self.oracle.lost().contains(&who.id));
        rule!(left.is_none(), "{left:?} is left behind");
        self.oracle.at_the_end()
    }

    /// As long as there are requests, and then long enough for what they led to.
    fn trouble(&mut self) -> Result<(), Broken> {
        while !self.requests.is_empty() && !self.fleet.is_over() {
            self.turn(self.request_at)?;
        }
        let policy = self.fleet.policy();
        let linger = policy.boot_timeout() + policy.shutdown_timeout() + policy.report_timeout().unwrap_or_default();
        self.go_on(self.now + linger, |_| false)
    }

    /// Once nothing goes wrong any more, all nodes are back in time, and then nothing is to be done.
    fn calm_down(&mut self) -> Result<(), Broken> {
        self.kernel.calm(self.now);
        self.go_on(self.now + self.patience(), Self::is_calm)?;
        if self.fleet.is_over() || matches!(self.oracle.mode(), Mode::Quiet | Mode::Stopping { .. }) {
            return Ok(());
        }
        rule!(self.is_calm(), "all is well, and the nodes are not back after {:?}", self.patience());
        let policy = self.fleet.policy();
        if policy.max_lifetime().is_some() {
            return Ok(());
        }
        self.oracle.still = true;
        let while_ = policy.boot_timeout().max(policy.report_timeout().unwrap_or_default());
        self.go_on(self.now + while_.mul_f64(1.1), |_| false)?;
        self.oracle.still = false;
        Ok(())
    }

    fn is_calm(&self) -> bool {
        let policy = self.fleet.policy();
        // Where nodes grow old there is always one that is being replaced.
        let sound = policy.max_lifetime().is_some() || self.kernel.is_sound(policy.report_timeout());
        sound && self.oracle.is_settled()
    }

    /// How long it takes at most until all nodes are back: the last fault is found, its node stops or is killed, the
    /// next one waits, is forked and boots; and a rolling restart may want to do the same to each node in turn.
    fn patience(&self) -> Duration {
        let policy = self.fleet.policy();
        let boot = policy.boot_timeout() + policy.ready_after() + Duration::from_secs(1);
        let found = policy.boot_timeout() + policy.report_timeout().unwrap_or_default();
        let back = policy.shutdown_timeout() + policy.backoff_max().max(policy.settle()) + boot;
        let late = Duration::from_secs(50);
        found + back + late + (back + late) * self.fleet.nodes().len() as u32
    }

    fn go_on(&mut self, until: Instant, enough: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        while self.now < until && !self.fleet.is_over() && !enough(self) {
            self.turn(until)?;
        }
        Ok(())
    }

    /// One turn of the loop. Sleeps until `limit` at most.
    fn turn(&mut self, limit: Instant) -> Result<(), Broken> {
        self.take_requests()?;
        if let Some(who) = self.forks.pop_front() {
            return self.fork(who);
        }
        if self.fleet.is_over() {
            return Ok(());
        }
        let Some(events) = self.sleep(limit) else { return Ok(()) };
        for event in events {
            self.step(event)?;
        }
        self.step(Event::Tick)
    }

    fn take_requests(&mut self) -> Result<(), Broken> {
        self.ask();
        while let Some(event) = self.asked.pop_front() {
            self.step(event)?;
        }
        Ok(())
    }

    /// Lets everybody ask for what they wanted to ask for by now. True if the supervisor is woken by it.
    fn ask(&mut self) -> bool {
        let mut woken = false;
        while self.now >= self.request_at {
            let Some(request) = self.requests.pop_front() else { break };
            self.note(|| format!("{:?}", request.what));
            match request.what {
                What::Ask(event) => self.asked.push_back(event),
                What::Wake => {}
                What::Stall(time) => self.pass(time),
                What::Strike(id, signal) => self.kernel.strike(id, signal, self.now),
            }
            woken |= matches!(request.what, What::Ask(_) | What::Wake);
            // What is asked for while the supervisor has no time waits for it.
            self.request_at += self.requests.front().map_or(Duration::ZERO, |request| request.after);
        }
        woken
    }

    /// Nothing if there was nothing to wake for.
    fn sleep(&mut self, limit: Instant) -> Option<Vec<Event>> {
        loop {
            let deadline = self.fleet.deadline();
            let request = (!self.requests.is_empty()).then_some(self.request_at);
            let next = [deadline, self.kernel.next(), request].into_iter().flatten().fold(limit, Instant::min);
            self.pass(next.saturating_duration_since(self.now));
            let woken = self.ask();
            let mut events = self.kernel.happen(self.now);
            if self.backwards {
                events.reverse();
            }
            if woken || !events.is_empty() || deadline.is_some_and(|at| at <= self.now) {
                return Some(events);
            }
            if self.now >= limit {
                return None;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if !time.is_zero() {
            self.at_once = 0;
        }
    }

    fn fork(&mut self, who: Who) -> Result<(), Broken> {
        self.take_requests()?;
        if !self.fleet.wants_fork(who) {
            return self.step(Event::ForkFailed(who));
        }
        self.pass(self.kernel.fork_takes());
        let (forked, twice) = self.kernel.fork(who, self.now)?;
        let answer = match forked {
            Forked::Process(pid) => Event::Forked(who, pid),
            Forked::Nothing => Event::ForkFailed(who),
        };
        self.step(answer)?;
        if twice { self.step(answer) } else { Ok(()) }
    }

    fn step(&mut self, event: Event) -> Result<(), Broken> {
        self.steps += 1;
        self.at_once += 1;
        rule!(self.at_once < MOST_AT_ONCE && self.steps < MOST_STEPS, "I5: it does not come to rest");
        let was_due = self.fleet.deadline();
        self.oracle.before(self.now, event);
        let actions = self.fleet.step(self.now, event);
        self.note(|| format!("{event:?} -> {actions:?}"));
        for action in &actions {
            self.oracle.action(action)?;
        }
        self.oracle.after(&self.fleet, was_due, actions.is_empty())?;
        for action in actions {
            match action {
                Action::Fork(who) => self.forks.push_back(who),
                Action::Signal(who, signal) => self.kernel.signal(who, signal, self.now),
                Action::Measure(who) => {
                    if let Some(bytes) = self.kernel.measure(who, self.now) {
                        self.step(Event::Measured(who, bytes))?;
                    }
                }
                Action::Diagnose(_) | Action::Emit(_) => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.now - self.start;
        if let Some(story) = &mut self.story {
            story.push(format!("{at:?}: {}", what()));
        }
    }
}
