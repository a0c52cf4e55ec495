//! What a step of the fleet costs: `cargo run --release --example step -- ROUNDS`, for `bench/step.rb`.
//!
//! Prints a line for each size of the swarm and each kind of event: nodes, kind, and the nanoseconds that a step took, the
//! fleet's next deadline asked for included, as the median of many batches. Which node an event is about is up to chance,
//! so that nothing stays in the processor's cache that would not in production.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use swarm_core::exit_status::ExitStatus;
use swarm_core::fleet::{Event, Fleet};
use swarm_core::node::{Action, Who};
use swarm_core::policy::{Policy, Value};
use swarm_core::report::Report;

const READY: Report = Report { worst: Some(0), ready: true, malformed: 0 };
const HEALTHY: Report = Report { worst: Some(0), ready: false, malformed: 0 };
const CRASH: ExitStatus = ExitStatus::Exited(1);

/// How many steps are timed together: a look at the clock costs about as much as a step.
const BATCH: u32 = 100;

/// A swarm whose nodes are all ready.
struct Swarm {
    fleet: Fleet,
    now: Instant,
    random: fastrand::Rng,
    nodes: u32,
}

impl Swarm {
    fn new(nodes: u32) -> Self {
        let settings = [("nodes", Value::Integer(nodes.into())), ("stable_after", Value::Integer(0))];
        let policy = Policy::from_settings(settings).expect("these settings may be");
        let mut swarm =
            Self { fleet: Fleet::new(policy, 1), now: Instant::now(), random: fastrand::Rng::with_seed(1), nodes };
        let forks = swarm.step(Event::Start);
        forks.iter().for_each(|action| swarm.boot(action));
        swarm
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let actions = self.fleet.step(self.now, event);
        std::hint::black_box(self.fleet.deadline());
        actions
    }

    fn boot(&mut self, action: &Action) {
        if let Action::Fork(who) = action {
            self.step(Event::Forked(*who, 1));
            self.step(Event::Told(*who, READY));
        }
    }

    fn someone(&mut self) -> Who {
        let id = self.random.u32(0..self.nodes);
        self.fleet.nodes()[id as usize].who()
    }

    /// A node reports. The next report is a little later, as is its deadline.
    fn report(&mut self) {
        let who = self.someone();
        self.now += Duration::from_nanos(10);
        self.step(Event::Told(who, HEALTHY));
    }

    /// A node crashes, is forked anew and gets ready: three steps.
    fn replace(&mut self) {
        let who = self.someone();
        self.now += Duration::from_nanos(10);
        let actions = self.step(Event::Ended(who, CRASH));
        actions.iter().for_each(|action| self.boot(action));
    }

    /// The supervisor woke, and no deadline is due.
    fn tick(&mut self) {
        self.step(Event::Tick);
    }
}

/// The median nanoseconds of a step.
fn median(rounds: u32, steps: u32, swarm: &mut Swarm, event: fn(&mut Swarm)) -> f64 {
    let mut batches: Vec<f64> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            (0..BATCH).for_each(|_| event(swarm));
            started.elapsed().as_nanos() as f64 / f64::from(BATCH * steps)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

fn main() -> ExitCode {
    let Some(Ok(rounds @ 1..)) = std::env::args().nth(1).map(|rounds| rounds.parse::<u32>()) else {
        eprintln!("usage: step ROUNDS");
        return ExitCode::from(2);
    };
    for nodes in [10, 100, 1_000, 10_000] {
        let mut swarm = Swarm::new(nodes);
        println!("{nodes} report {:.1}", median(rounds, 1, &mut swarm, Swarm::report));
        println!("{nodes} replacement {:.1}", median(rounds, 3, &mut swarm, Swarm::replace));
        println!("{nodes} tick {:.1}", median(rounds, 1, &mut swarm, Swarm::tick));
    }
    ExitCode::SUCCESS
}
