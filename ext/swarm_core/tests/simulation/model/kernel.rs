//! The processes, and when the supervisor hears of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use swarm_core::exit_status::ExitStatus;
use swarm_core::fleet::Event;
use swarm_core::node::Who;
use swarm_core::policy::Policy;
use swarm_core::report::Report;

use super::schedule::{Boot, Fork, Life, OnKill, OnTerm, Says, Turn};
use super::{Broken, rule};

pub const HEALTHY: Report = Report { worst: Some(0), ready: false, malformed: 0 };

/// What a fork gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    Process(i32),
    Nothing,
}

#[derive(Debug)]
struct Process {
    who: Who,
    life: Life,
    started: Instant,
    alive: bool,
    /// Stopped by SIGSTOP: what it was about to do it does once it continues.
    frozen: bool,
    held: Vec<Doing>,
    booted: bool,
    silent: bool,
    killed: bool,
    told: bool,
}

/// What a process does at some time.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Boot,
    Report,
    Turn,
    End(ExitStatus),
    /// It is gone, frozen or not.
    Die,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Does(usize, Doing),
    Heard(Event),
}

/// What is due, told apart by a number, so that what is due at one time comes in the order in which it was planned.
#[derive(Debug)]
struct Planned {
    at: Instant,
    number: u64,
    due: Due,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug)]
pub struct Kernel {
    good: Life,
    lives: std::vec::IntoIter<Life>,
    processes: Vec<Process>,
    plan: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    calm: bool,
}

impl Kernel {
    pub fn new(policy: &Policy, lives: Vec<Life>) -> Self {
        Self {
            good: Life::good(policy),
            lives: lives.into_iter(),
            processes: Vec::new(),
            plan: BinaryHeap::new(),
            planned: 0,
            calm: false,
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        self.plan.peek().map(|Reverse(planned)| planned.at)
    }

    /// How long the next fork takes.
    pub fn fork_takes(&self) -> Duration {
        self.lives.as_slice().first().unwrap_or(&self.good).fork_takes
    }

    pub fn fork(&mut self, who: Who, now: Instant) -> Result<(Forked, bool), Broken> {
        let alive = self.processes.iter().find(|process| process.alive && process.who.id == who.id);
        rule!(alive.is_none(), "I2: {who:?} is forked while {:?} lives", alive.map(|process| process.who));
        let life = self.lives.next().unwrap_or(self.good);
        let twice = matches!(life.fork, Fork::FailsTwice | Fork::WorksTwice);
        if !matches!(life.fork, Fork::Works | Fork::WorksTwice) {
            return Ok((Forked::Nothing, twice));
        }
        let index = self.processes.len();
        self.processes.push(Process {
            who,
            life,
            started: now,
            alive: true,
            frozen: false,
            held: Vec::new(),
            booted: false,
            silent: false,
            killed: false,
            told: false,
        });
        match life.boot {
            Boot::Takes(time) => self.plan(now + time, Due::Does(index, Doing::Boot)),
            Boot::Dies(time, exit) => self.plan(now + time, Due::Does(index, Doing::End(exit))),
            Boot::Hangs => {}
        }
        Ok((Forked::Process(100 + index as i32), twice))
    }

    pub fn signal(&mut self, who: Who, signal: Signal, now: Instant) {
        if let Some(index) = self.processes.iter().position(|process| process.alive && process.who == who) {
            self.deliver(index, signal, now);
        }
    }

    /// Somebody else signals whatever process the node has.
    pub fn strike(&mut self, id: u32, signal: Signal, now: Instant) {
        if let Some(index) = self.processes.iter().position(|process| process.alive && process.who.id == id) {
            self.deliver(index, signal, now);
        }
    }

    fn deliver(&mut self, index: usize, signal: Signal, now: Instant) {
        let process = &mut self.processes[index];
        match signal {
            Signal::SIGKILL if !process.killed => {
                process.killed = true;
                match process.life.on_kill {
                    OnKill::Ends(time) => self.plan(now + time, Due::Does(index, Doing::Die)),
                    OnKill::Stuck if self.calm => self.plan(now, Due::Does(index, Doing::Die)),
                    OnKill::Stuck => {}
                }
            }
            Signal::SIGSTOP => process.frozen = true,
            Signal::SIGCONT => {
                process.frozen = false;
                for doing in std::mem::take(&mut process.held) {
                    self.plan(now, Due::Does(index, doing));
                }
            }
            Signal::SIGTERM | Signal::SIGINT if !process.told => {
                process.told = true;
                if let OnTerm::Ends(time, exit) = process.life.on_term {
                    self.plan(now + time, Due::Does(index, Doing::End(exit)));
                }
            }
            _ => {}
        }
    }

    /// Nothing goes wrong from now on by itself. What is broken stays so, except that the kernel lets go.
    pub fn calm(&mut self, now: Instant) {
        self.calm = true;
        self.lives = Vec::new().into_iter();
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            let Life { reports_every, late, twice, memory, .. } = self.good;
            process.life = Life { reports_every, late, twice, memory, ..process.life };
            if process.killed {
                self.plan(now, Due::Does(index, Doing::Die));
            } else if process.booted && self.good.reports_every.is_some() {
                self.plan(now, Due::Does(index, Doing::Report));
            }
        }
    }

    /// How much memory a process needs. Nothing where it is gone.
    pub fn measure(&self, who: Who, now: Instant) -> Option<u64> {
        let process = self.processes.iter().find(|process| process.alive && process.who == who)?;
        let (after, bytes) = process.life.memory;
        Some(if now >= process.started + after { bytes } else { 1 })
    }

    /// Lets everything happen that is due, and says what the supervisor hears.
    pub fn happen(&mut self, now: Instant) -> Vec<Event> {
        let mut heard = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse(Planned { at, due, .. })) = self.plan.pop() else { break };
            match due {
                Due::Heard(event) => heard.push(event),
                Due::Does(index, doing) => self.does(index, doing, at),
            }
        }
        heard
    }

    fn does(&mut self, index: usize, doing: Doing, now: Instant) {
        let calm = self.calm;
        let process = &mut self.processes[index];
        if !process.alive {
            return;
        }
        if process.frozen && !matches!(doing, Doing::Die) {
            process.held.push(doing);
            return;
        }
        match doing {
            Doing::Boot => self.booted(index, now),
            Doing::Report if !process.silent => {
                let every = process.life.reports_every;
                self.says(index, HEALTHY, now);
                self.reports_in(index, every, now);
            }
            Doing::Turn if !calm => match process.life.turn {
                Some((_, Turn::Dies(exit))) => self.ends(index, exit, now),
                Some((_, Turn::Reports(code))) => {
                    self.says(index, Report { worst: Some(code), ..Report::default() }, now);
                }
                Some((_, Turn::Hangs)) => process.silent = true,
                Some((_, Turn::Freezes)) => process.frozen = true,
                None => {}
            },
            Doing::End(exit) => self.ends(index, exit, now),
            Doing::Die => {
                self.ends(index, ExitStatus::Signaled { signal: Signal::SIGKILL as i32, core_dumped: false }, now);
            }
            Doing::Report | Doing::Turn => {}
        }
    }

    fn booted(&mut self, index: usize, now: Instant) {
        self.processes[index].booted = true;
        let life = self.processes[index].life;
        let (worst, ready, malformed) = match life.says {
            Says::ReadyAndHealthy => (Some(0), true, 0),
            Says::Healthy => (Some(0), false, 0),
            Says::Ready => (None, true, 0),
            Says::Nonsense => (None, false, 2),
            Says::Unhealthy => (Some(7), true, 0),
        };
        self.says(index, Report { worst, ready, malformed }, now);
        self.reports_in(index, life.reports_every, now);
        if let Some((after, _)) = life.turn {
            self.plan(now + after, Due::Does(index, Doing::Turn));
        }
    }

    fn reports_in(&mut self, index: usize, every: Option<Duration>, now: Instant) {
        if let Some(every) = every {
            self.plan(now + every, Due::Does(index, Doing::Report));
        }
    }

    fn says(&mut self, index: usize, report: Report, now: Instant) {
        self.news(index, Event::Told(self.processes[index].who, report), now);
    }

    fn ends(&mut self, index: usize, exit: ExitStatus, now: Instant) {
        let process = &mut self.processes[index];
        process.alive = false;
        let exit = if process.life.stolen { ExitStatus::Unknown } else { exit };
        let who = process.who;
        let killed = matches!(exit, ExitStatus::Signaled { signal: 9, .. });
        if killed && process.life.out_of_memory {
            self.news(index, Event::OutOfMemory(who), now);
        }
        self.news(index, Event::Ended(who, exit), now);
    }

    fn news(&mut self, index: usize, event: Event, now: Instant) {
        let Life { late, twice, .. } = self.processes[index].life;
        self.plan(now + late, Due::Heard(event));
        if let Some(again) = twice {
            self.plan(now + late + again, Due::Heard(event));
        }
    }

    fn plan(&mut self, at: Instant, due: Due) {
        self.planned += 1;
        self.plan.push(Reverse(Planned { at, number: self.planned, due }));
    }

    /// Whether all processes that are left will go on as they do, as far as a supervisor can see.
    pub fn is_sound(&self, report_timeout: Option<Duration>) -> bool {
        let bad = |due: &Due| matches!(due, Due::Heard(event) if !matches!(event, Event::Told(_, HEALTHY)));
        let heard = !self.plan.iter().any(|Reverse(planned)| bad(&planned.due));
        heard
            && self.processes.iter().filter(|process| process.alive).all(|process| {
                let ends = process.told && !process.frozen && matches!(process.life.on_term, OnTerm::Ends(..));
                let leaves = process.killed || ends;
                let mute = process.silent || process.frozen;
                !(leaves || report_timeout.is_some() && mute)
            })
    }

    /// The processes that have not ended.
    pub fn alive(&self) -> Vec<Who> {
        self.processes.iter().filter(|process| process.alive).map(|process| process.who).collect()
    }
}
