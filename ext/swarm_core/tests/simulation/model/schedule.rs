//! What happens in one run: settings, how each process behaves, and what is asked of the supervisor when.
//!
//! A schedule is decoded from plain numbers, its [`Genes`]. A zero always means the most harmless choice, and a missing
//! life is a good one, so whoever shrinks the numbers shrinks the story. Times are fractions of the settings that they
//! challenge, the exact edge and its neighbours among them.

use std::time::Duration;

use nix::sys::signal::Signal;
use swarm_core::exit_status::ExitStatus;
use swarm_core::fleet::Event;
use swarm_core::policy::{Policy, Told, Value};

pub const SETTING_GENES: usize = 23;
pub const LIFE_GENES: usize = 18;
pub const REQUEST_GENES: usize = 4;
pub const MOST_LIVES: usize = 20;
pub const MOST_REQUESTS: usize = 10;

/// The numbers that a schedule is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genes {
    pub settings: [u16; SETTING_GENES],
    pub lives: Vec<[u16; LIFE_GENES]>,
    pub requests: Vec<[u16; REQUEST_GENES]>,
}

impl Genes {
    /// The genes that belong to `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let lives = random.usize(..=MOST_LIVES);
        let requests = random.usize(..=MOST_REQUESTS);
        Self {
            settings: genes(&mut random),
            lives: (0..lives).map(|_| genes(&mut random)).collect(),
            requests: (0..requests).map(|_| genes(&mut random)).collect(),
        }
    }
}

impl Genes {
    /// The shortest and most harmless genes that still are `bad`, as far as taking away one thing at a time leads.
    pub fn shortest(mut self, bad: impl Fn(&Self) -> bool) -> Self {
        loop {
            let before = self.clone();
            self.drop_each(|genes| &mut genes.requests, &bad);
            self.drop_each(|genes| &mut genes.lives, &bad);
            self.clear_each(|genes| Some(&mut genes.settings), &bad);
            for index in 0..self.requests.len() {
                self.clear_each(|genes| genes.requests.get_mut(index), &bad);
            }
            for index in 0..self.lives.len() {
                self.clear_each(|genes| genes.lives.get_mut(index), &bad);
            }
            if self == before {
                return self;
            }
        }
    }

    fn drop_each<T>(&mut self, list: impl Fn(&mut Self) -> &mut Vec<T>, bad: &impl Fn(&Self) -> bool) {
        for index in (0..list(self).len()).rev() {
            let mut shorter = self.clone();
            list(&mut shorter).remove(index);
            if bad(&shorter) {
                *self = shorter;
            }
        }
    }

    fn clear_each<const N: usize>(
        &mut self,
        genes: impl Fn(&mut Self) -> Option<&mut [u16; N]>,
        bad: &impl Fn(&Self) -> bool,
    ) {
        for index in 0..N {
            let mut simpler = self.clone();
            if let Some(genes) = genes(&mut simpler) {
                genes[index] = 0;
            }
            if bad(&simpler) {
                *self = simpler;
            }
        }
    }
}

fn genes<const N: usize>(random: &mut fastrand::Rng) -> [u16; N] {
    std::array::from_fn(|_| random.u16(..))
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub policy: Policy,
    pub seed: u64,
    /// How the processes behave, in the order of their forks; later ones are good.
    pub lives: Vec<Life>,
    pub requests: Vec<Request>,
    /// Whether requests may come before the swarm has begun.
    pub early: bool,
    /// Whether what comes at the same time comes in the opposite order.
    pub backwards: bool,
}

/// What is asked of the supervisor, so long after the request before.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub after: Duration,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Something that the supervisor is asked for.
    Ask(Event),
    /// It is woken for nothing.
    Wake,
    /// It has no time for so long: a listener computes, or the machine is loaded.
    Stall(Duration),
    /// Somebody else sends a signal to the process of this node.
    Strike(u32, Signal),
}

/// How one process behaves.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub fork: Fork,
    pub fork_takes: Duration,
    pub boot: Boot,
    pub says: Says,
    pub reports_every: Option<Duration>,
    /// What becomes of it so long after it has booted.
    pub turn: Option<(Duration, Turn)>,
    pub on_term: OnTerm,
    pub on_kill: OnKill,
    /// Other code reaps it.
    pub stolen: bool,
    /// What it needs once it has grown, and how long after its start it has.
    pub memory: (Duration, u64),
    /// The kernel says that it lacked memory when it killed it.
    pub out_of_memory: bool,
    /// How late its news comes.
    pub late: Duration,
    /// Its news comes a second time, so much later.
    pub twice: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    Works,
    Fails,
    /// It fails, and the supervisor is told twice.
    FailsTwice,
    /// There is a process, but the supervisor cannot take it in, and kills it.
    NotAdopted,
    /// It works, and the supervisor is told twice.
    WorksTwice,
}

#[derive(Clone, Copy, Debug)]
pub enum Boot {
    Takes(Duration),
    Hangs,
    Dies(Duration, ExitStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    ReadyAndHealthy,
    Healthy,
    Ready,
    Nonsense,
    Unhealthy,
}

#[derive(Clone, Copy, Debug)]
pub enum Turn {
    Dies(ExitStatus),
    /// It works on and says nothing any more.
    Hangs,
    /// As by SIGSTOP.
    Freezes,
    Reports(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum OnTerm {
    Ends(Duration, ExitStatus),
    Ignores,
}

#[derive(Clone, Copy, Debug)]
pub enum OnKill {
    Ends(Duration),
    /// It is stuck in the kernel.
    Stuck,
}

/// Takes one gene after the other.
struct Reader<'a>(std::slice::Iter<'a, u16>);

impl<'a> Reader<'a> {
    fn of(genes: &'a [u16]) -> Self {
        Self(genes.iter())
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        let gene = self.0.next().expect("there is a gene for each choice");
        choices[usize::from(*gene) % choices.len()].clone()
    }

    fn share(&mut self, of: Duration, shares: &[f64]) -> Duration {
        of.mul_f64(self.pick(shares))
    }
}

/// The memory limit, where there is one.
pub const LIMIT: u64 = 1 << 30;

const MOMENT: Duration = Duration::from_micros(1);

impl Schedule {
    pub fn of(genes: &Genes) -> Self {
        let reader = &mut Reader::of(&genes.settings);
        let policy = policy(reader);
        Self {
            seed: reader.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 9]),
            early: reader.pick(&[false, false, false, false, false, true]),
            backwards: reader.pick(&[false, false, true]),
            lives: genes.lives.iter().map(|genes| Life::read(&mut Reader::of(genes), &policy)).collect(),
            requests: genes.requests.iter().map(|genes| Request::read(&mut Reader::of(genes), &policy)).collect(),
            policy,
        }
    }
}

fn policy(reader: &mut Reader<'_>) -> Policy {
    let seconds = Value::Float;
    let word = |word: &str| Value::Word(word.into());
    let boot_timeout = reader.pick(&[10.0, 1.0, 60.0, 0.05]);
    let report_timeout = reader.pick(&[Some(10.0), None, Some(4.0), Some(30.0), Some(10.0)]);
    let backoff_min = reader.pick(&[1.0, 1.0, 0.001, 0.1, 5.0]);
    let shutdown_timeout = reader.pick(&[10.0, 1.0, 60.0, 0.05]);
    let memory_limit = reader.pick(&[None, None, Some(LIMIT as i64)]);
    // A life is longer than it takes to come and to go, or there would be no end of replacements.
    let whole = 4.0 * (boot_timeout + shutdown_timeout) + 1.0;
    let max_lifetime = reader.pick(&[None, None, None, Some(whole), Some(10.0 * whole)]);
    let settings = [
        ("nodes", Value::Integer(reader.pick(&[2, 1, 3, 4, 2, 3, 6]))),
        ("boot_timeout", seconds(boot_timeout)),
        ("report_timeout", report_timeout.map_or(Value::Nil, seconds)),
        ("report_interval", seconds(report_timeout.map_or(10.0, |timeout: f64| timeout / 4.0))),
        ("report", reader.pick(&[word("auto"), word("manual")])),
        ("ready", reader.pick(&[word("auto"), word("manual")])),
        ("ready_after", seconds(boot_timeout * reader.pick(&[0.1, 0.0, 0.5, 1.0]))),
        ("shutdown_timeout", seconds(shutdown_timeout)),
        ("kill_grace", seconds(reader.pick(&[5.0, 0.5, 0.01, 30.0]))),
        ("settle", seconds(reader.pick(&[0.25, 0.0, 1.0, 5.0]))),
        ("stable_after", seconds(reader.pick(&[10.0, 0.0, 1.0, 60.0]))),
        ("backoff_min", seconds(backoff_min)),
        ("backoff_max", seconds(backoff_min * reader.pick(&[30.0, 1.0, 4.0, 20.0]))),
        ("memory_limit", memory_limit.map_or(Value::Nil, Value::Integer)),
        ("memory_interval", seconds(reader.pick(&[30.0, 3.0]))),
        ("max_lifetime", max_lifetime.map_or(Value::Nil, seconds)),
        ("max_unavailable", Value::Integer(reader.pick(&[1, 1, 2, 3]))),
        ("diagnose_timeout", seconds(reader.pick(&[1.0, 0.0, 30.0]))),
        ("crash_loop_limit", Value::Integer(reader.pick(&[5, 1, 2, 3]))),
        ("on_crash_loop", reader.pick(&[word("slow"), word("slow"), word("stop")])),
        ("on_normal_exit", reader.pick(&[word("restart"), word("restart"), word("leave")])),
    ];
    Policy::from_settings(settings).expect("the drawn settings are within their ranges and go together")
}

const fn exited(code: i32) -> ExitStatus {
    ExitStatus::Exited(code)
}

const fn ended_by(signal: Signal) -> ExitStatus {
    ExitStatus::Signaled { signal: signal as i32, core_dumped: false }
}

impl Life {
    /// A process that does all that is asked of it.
    pub fn good(policy: &Policy) -> Self {
        let every = policy.report_timeout().map(|timeout| timeout.mul_f64(0.4));
        Self {
            fork: Fork::Works,
            fork_takes: Duration::from_millis(1),
            boot: Boot::Takes(policy.boot_timeout().mul_f64(0.1)),
            says: Says::ReadyAndHealthy,
            reports_every: every,
            turn: None,
            on_term: OnTerm::Ends(policy.shutdown_timeout().mul_f64(0.1), exited(0)),
            on_kill: OnKill::Ends(Duration::ZERO),
            stolen: false,
            memory: (Duration::ZERO, LIMIT),
            out_of_memory: false,
            late: Duration::ZERO,
            twice: None,
        }
    }

    fn read(reader: &mut Reader<'_>, policy: &Policy) -> Self {
        use Fork::{Fails, FailsTwice, NotAdopted, Works, WorksTwice};
        let good = Self::good(policy);
        let grace = policy.kill_grace();
        let fork = reader.pick(&[
            Works, Works, Works, Works, Works, Works, Works, Works, Works, WorksTwice, WorksTwice, Fails, FailsTwice,
            NotAdopted,
        ]);
        let fork_takes = reader.pick(&[good.fork_takes, Duration::ZERO, Duration::from_millis(700)]);
        let end = reader.pick(&[
            exited(1),
            exited(0),
            ended_by(Signal::SIGSEGV),
            ended_by(Signal::SIGTERM),
            ended_by(Signal::SIGKILL),
            ended_by(Signal::SIGINT),
            exited(255),
        ]);
        let boot_time = reader.share(policy.boot_timeout(), &[0.1, 0.0, 0.01, 0.02, 0.5, 0.8, 0.999, 1.0, 1.001]);
        let boot = match reader.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 2, 2]) {
            0 => Boot::Takes(boot_time),
            1 => Boot::Hangs,
            _ => Boot::Dies(boot_time, end),
        };
        let says = reader.pick(&[
            Says::ReadyAndHealthy,
            Says::ReadyAndHealthy,
            Says::ReadyAndHealthy,
            Says::Healthy,
            Says::Healthy,
            Says::Healthy,
            Says::Ready,
            Says::Ready,
            Says::Nonsense,
            Says::Unhealthy,
        ]);
        let slowness = reader.pick(&[0.4, 0.4, 0.9, 1.0, 1.001]);
        let turn = match reader.pick(&[0, 0, 1, 1, 1, 2, 3, 4]) {
            0 => None,
            1 => Some(Turn::Dies(end)),
            2 => Some(Turn::Hangs),
            3 => Some(Turn::Freezes),
            _ => Some(Turn::Reports(3)),
        };
        let stable = policy.stable_after();
        let later = reader.pick(&[
            Duration::from_millis(500),
            Duration::ZERO,
            stable.mul_f64(0.5),
            stable.saturating_sub(MOMENT),
            stable,
            stable.mul_f64(2.5) + policy.ready_after(),
        ]);
        let term_takes = reader.share(policy.shutdown_timeout(), &[0.1, 0.0, 0.9, 1.0, 1.1]);
        let term_end = reader.pick(&[exited(0), exited(0), ended_by(Signal::SIGTERM), exited(1), end]);
        let on_term = match reader.pick(&[0, 0, 0, 1]) {
            0 => OnTerm::Ends(term_takes, term_end),
            _ => OnTerm::Ignores,
        };
        let on_kill = reader.pick(&[
            OnKill::Ends(Duration::ZERO),
            OnKill::Ends(Duration::ZERO),
            OnKill::Ends(grace.mul_f64(0.5)),
            OnKill::Ends(grace),
            OnKill::Stuck,
        ]);
        let short = Duration::from_millis(30);
        let late = reader.pick(&[Duration::ZERO, Duration::ZERO, MOMENT, short, Duration::from_secs(2)]);
        Self {
            fork,
            fork_takes,
            boot,
            says,
            reports_every: policy.report_timeout().map(|timeout| timeout.mul_f64(slowness)),
            turn: turn.map(|turn| (later, turn)),
            on_term,
            on_kill,
            memory: (later, reader.pick(&[LIMIT, LIMIT, LIMIT + 1, 2 * LIMIT])),
            out_of_memory: reader.pick(&[false, true]),
            stolen: reader.pick(&[false, false, false, true]),
            late,
            twice: reader.pick(&[None, None, Some(Duration::ZERO), Some(short), Some(Duration::from_secs(40))]),
        }
    }
}

impl Request {
    fn read(reader: &mut Reader<'_>, policy: &Policy) -> Self {
        let second = Duration::from_secs(1);
        let after = reader.pick(&[
            second,
            Duration::ZERO,
            Duration::ZERO,
            Duration::ZERO,
            Duration::from_millis(1),
            second - MOMENT,
            second.mul_f64(3.0),
            second.mul_f64(20.0),
            policy.boot_timeout().mul_f64(0.2),
            policy.shutdown_timeout().mul_f64(0.5),
            policy.shutdown_timeout() + policy.kill_grace(),
            policy.backoff_min().mul_f64(0.5),
        ]);
        let nodes = reader.pick(&[1, 2, 3, 4, 5]);
        let signal = reader.pick(&[
            Signal::SIGTERM,
            Signal::SIGKILL,
            Signal::SIGSTOP,
            Signal::SIGCONT,
            Signal::SIGTTIN,
            Signal::SIGINT,
        ]);
        let what = match reader.pick(&[0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 8, 9, 9, 9, 9]) {
            0 => What::Wake,
            1 => What::Stall(after),
            2 => What::Ask(Event::Scale(nodes)),
            3 => What::Ask(Event::Restart),
            4 => What::Ask(Event::Quiet),
            5 => What::Ask(Event::Signal(signal)),
            6 => What::Ask(Event::Start),
            7 => What::Ask(Event::Kill),
            8 => What::Ask(Event::Stop),
            _ => What::Strike(nodes - 1, signal),
        };
        Self { after, what }
    }
}

/// Whether a process may count as ready without having said so.
pub fn ready_by_itself(policy: &Policy) -> bool {
    policy.ready() == Told::Auto
}
