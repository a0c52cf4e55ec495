//! The table of a node's life, and what a single step says.

use super::*;
use crate::notice::What;

const BEGIN: Duration = Duration::from_secs(1_000);

/// A node, its time and what it asked for.
struct Bench {
    policy: Policy,
    node: Node,
    start: Instant,
    now: Instant,
    wanted: bool,
    quiet: bool,
    out: Vec<Action>,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let start = Instant::now() + BEGIN;
        Self { policy, node: Node::new(7), start, now: start, wanted: true, quiet: false, out: Vec::new() }
    }

    fn step(&mut self, event: Event) -> &'static str {
        self.out.clear();
        let rules = Rules { policy: &self.policy, now: self.now, wanted: self.wanted, quiet: self.quiet, jitter: 0.5 };
        self.node.step(event, &rules, &mut self.out);
        self.node.state().name()
    }

    fn after(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self
    }

    fn waits(&self) -> Duration {
        match self.node.state() {
            State::Waiting { until } => *until - self.now,
            State::Forking => Duration::ZERO,
            other => panic!("{}", other.name()),
        }
    }

    fn signals(&self) -> Vec<Signal> {
        self.out.iter().filter_map(|action| if let Action::Signal(_, s) = action { Some(*s) } else { None }).collect()
    }

    fn notices(&self) -> Vec<(What, Option<Reason>)> {
        let told = |action: &Action| match action {
            Action::Emit(notice) => Some((notice.what, notice.reason)),
            _ => None,
        };
        self.out.iter().filter_map(told).collect()
    }

    /// A node in each of its states.
    fn in_state(name: &str) -> Self {
        let mut bench = Self::new(Policy::default());
        let path: &[Event] = match name {
            "idle" => &[],
            "waiting" => &[Event::Start, Event::ForkFailed],
            "forking" => &[Event::Start],
            "booting" => &[Event::Start, Event::Forked(11)],
            "ready" => &[Event::Start, Event::Forked(11), READY],
            "stopping" => &[Event::Start, Event::Forked(11), READY, Event::Stop(Reason::Restart)],
            "killing" => &[Event::Start, Event::Forked(11), READY, Event::Kill],
            other => panic!("{other}"),
        };
        path.iter().for_each(|event| _ = bench.step(*event));
        assert_eq!(bench.node.state().name(), name);
        bench
    }
}

const READY: Event = Event::Told(Report { worst: None, ready: true, malformed: 0 });
const HEALTHY: Event = Event::Told(Report { worst: Some(0), ready: false, malformed: 0 });
const ILL: Event = Event::Told(Report { worst: Some(3), ready: false, malformed: 0 });
const CRASH: Event = Event::Ended(ExitStatus::Exited(1));

/// The whole life of a node: a state a row, an event a column. The clock stands still but for `late`, a tick long
/// after every deadline. A node that was ready and crashes comes back at once the first time.
#[test]
fn the_table_of_states_and_events() {
    type Column = (&'static str, f64, Event);
    let columns: [Column; 11] = [
        ("start", 0.0, Event::Start),
        ("forked", 0.0, Event::Forked(12)),
        ("failed", 0.0, Event::ForkFailed),
        ("ready", 0.0, READY),
        ("healthy", 0.0, HEALTHY),
        ("ill", 0.0, ILL),
        ("tick", 0.0, Event::Tick),
        ("late", 100.0, Event::Tick),
        ("stop", 0.0, Event::Stop(Reason::Stopped)),
        ("kill", 0.0, Event::Kill),
        ("ended", 0.0, CRASH),
    ];
    let table = "
        state    | start   forked   failed  ready    healthy  ill      tick     late     stop     kill    ended
        idle     | forking idle     idle    idle     idle     idle     idle     idle     idle     idle    idle
        waiting  | waiting waiting  waiting waiting  waiting  waiting  waiting  forking  idle     idle    waiting
        forking  | forking booting  waiting forking  forking  forking  forking  forking  idle     idle    forking
        booting  | booting booting  booting ready    booting  stopping booting  stopping stopping killing waiting
        ready    | ready   ready    ready   ready    ready    stopping ready    stopping stopping killing forking
        stopping | stopping stopping stopping stopping stopping stopping stopping killing stopping killing forking
        killing  | killing killing  killing killing  killing  killing  killing  killing  killing  killing forking";
    let mut rows = table.trim().lines();
    let names: Vec<&str> = rows.next().unwrap().split(['|', ' ']).filter(|word| !word.is_empty()).collect();
    assert_eq!(names[1..], columns.map(|(name, ..)| name));
    let mut checked = 0;
    for row in rows {
        let words: Vec<&str> = row.split(['|', ' ']).filter(|word| !word.is_empty()).collect();
        for ((event, after, given), expected) in columns.iter().zip(&words[1..]) {
            let mut bench = Bench::in_state(words[0]);
            let got = bench.after(*after).step(*given);
            assert_eq!(got, *expected, "{} on {event}", words[0]);
            checked += 1;
        }
    }
    assert_eq!(checked, 7 * 11);
}

#[test]
fn a_node_knows_since_when_it_is_in_its_state() {
    let mut bench = Bench::in_state("idle");
    assert_eq!(bench.node.since(), None);
    let begun = bench.now;
    bench.step(Event::Start);
    bench.after(1.0).step(Event::Tick);
    assert_eq!(bench.node.since(), Some(begun));
    bench.after(1.0).step(Event::Forked(11));
    bench.after(0.5).step(HEALTHY);
    assert_eq!(bench.node.since(), Some(begun + Duration::from_secs(2)));
    bench.after(1.0).step(READY);
    assert_eq!(bench.node.since(), Some(bench.now));
}

#[test]
fn a_stop_is_term_and_cont_and_a_kill_comes_at_the_deadline() {
    let mut bench = Bench::in_state("ready");
    bench.step(Event::Stop(Reason::Stopped));
    assert_eq!(bench.signals(), [Signal::SIGTERM, Signal::SIGCONT]);
    assert_eq!(bench.node.deadline(&bench.policy, false), Some(bench.now + Duration::from_secs(59)));
    assert_eq!(bench.after(59.0).step(Event::Tick), "stopping");
    assert_eq!(bench.out, [Action::Diagnose(bench.node.who())]);
    assert_eq!(bench.node.deadline(&bench.policy, false), Some(bench.now + Duration::from_secs(1)));
    assert_eq!(bench.after(0.9).step(Event::Tick), "stopping");
    assert_eq!(bench.after(0.1).step(Event::Tick), "killing");
    assert_eq!(bench.signals(), [Signal::SIGKILL]);
    assert_eq!(bench.notices(), [(What::NodeKilled, Some(Reason::Stopped))]);
    assert_eq!(bench.node.deadline(&bench.policy, false), None);
}

#[test]
fn a_block_that_never_says_ready_is_ready_once_it_was_healthy_and_lived_a_second() {
    let mut bench = Bench::in_state("booting");
    assert_eq!(bench.after(0.2).step(HEALTHY), "booting");
    assert_eq!(bench.node.deadline(&bench.policy, false), Some(bench.start + Duration::from_secs(1)));
    assert_eq!(bench.after(0.7).step(Event::Tick), "booting");
    assert_eq!(bench.after(0.1).step(Event::Tick), "ready");
}

#[test]
fn a_node_that_is_old_when_the_supervisor_finds_it_ready_needs_no_second_look() {
    let mut bench = Bench::new(Policy { max_lifetime: Some(Duration::from_secs(5)), ..Policy::default() });
    [Event::Start, Event::Forked(11), HEALTHY].iter().for_each(|event| _ = bench.step(*event));
    assert_eq!(bench.after(20.0).step(Event::Tick), "ready");
    assert_eq!(bench.node.wish(), Some(Reason::MaxLifetime));
    assert!(bench.node.deadline(&bench.policy, false) > Some(bench.now));
}

#[test]
fn where_only_the_block_says_ready_a_healthy_node_goes_on_booting_until_its_deadline() {
    let mut bench = Bench::new(Policy { ready: Told::Manual, ..Policy::default() });
    bench.step(Event::Start);
    bench.step(Event::Forked(11));
    assert_eq!(bench.after(30.0).step(HEALTHY), "booting");
    assert_eq!(bench.after(29.9).step(Event::Tick), "booting");
    assert_eq!(bench.after(0.1).step(Event::Tick), "stopping");
    assert_eq!(bench.notices()[0], (What::NodeUnhealthy, Some(Reason::BootTimeout)));
}

#[test]
fn a_busy_node_that_reports_is_left_alone_and_a_silent_one_hangs_at_its_deadline() {
    let mut bench = Bench::in_state("ready");
    for _ in 0..100 {
        assert_eq!(bench.after(59.0).step(HEALTHY), "ready");
    }
    assert_eq!(bench.node.deadline(&bench.policy, false), Some(bench.now + Duration::from_secs(60)));
    assert_eq!(bench.after(60.0).step(Event::Tick), "stopping");
    assert_eq!(bench.notices()[0], (What::NodeUnhealthy, Some(Reason::Hung)));
}

#[test]
fn while_quiet_nobody_is_stopped_for_what_it_reports_or_does_not() {
    let mut bench = Bench::in_state("ready");
    (bench.quiet, bench.wanted) = (true, false);
    assert_eq!(bench.step(ILL), "ready");
    assert_eq!(bench.after(1_000.0).step(Event::Tick), "ready");
    assert_eq!(bench.node.deadline(&bench.policy, true), None);
    assert_eq!(bench.step(CRASH), "idle");
}

#[test]
fn an_end_that_looks_like_a_stop_waits_for_the_stop_and_another_does_not() {
    let signaled = |signal| Event::Ended(ExitStatus::Signaled { signal, core_dumped: false });
    for event in [Event::Ended(ExitStatus::Exited(0)), signaled(libc::SIGTERM), signaled(libc::SIGINT)] {
        let mut bench = Bench::in_state("ready");
        bench.after(20.0).step(event);
        assert_eq!(bench.waits(), Duration::from_millis(250), "{event:?}");
    }
    for event in [CRASH, signaled(libc::SIGKILL), signaled(libc::SIGSEGV), Event::Ended(ExitStatus::Unknown)] {
        let mut bench = Bench::in_state("ready");
        bench.after(20.0).step(event);
        assert_eq!(bench.waits(), Duration::ZERO, "{event:?}");
    }
}

#[test]
fn the_reason_of_an_end_is_what_the_supervisor_wanted_or_what_the_status_says() {
    let ends = [
        (ExitStatus::Exited(0), Reason::Exited),
        (ExitStatus::Exited(1), Reason::Crashed),
        (ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false }, Reason::Killed),
        (ExitStatus::Signaled { signal: libc::SIGSEGV, core_dumped: true }, Reason::Crashed),
        (ExitStatus::Signaled { signal: libc::SIGTERM, core_dumped: false }, Reason::Stopped),
        (ExitStatus::Unknown, Reason::Unknown),
    ];
    for (exit, reason) in ends {
        let mut bench = Bench::in_state("ready");
        bench.step(Event::Ended(exit));
        assert_eq!(bench.notices()[0], (What::NodeExited, Some(reason)));
        let mut bench = Bench::in_state("ready");
        bench.step(ILL);
        bench.step(Event::Ended(exit));
        assert_eq!(bench.notices()[0], (What::NodeExited, Some(Reason::Unhealthy(3))));
        assert_eq!(bench.node.last_end(), Some(End { pid: 11, exit, reason: Reason::Unhealthy(3) }));
    }
}

#[test]
fn a_node_whose_work_is_done_leaves_its_slot_empty_where_that_is_wanted() {
    let mut bench = Bench::new(Policy { on_normal_exit: OnNormalExit::Leave, ..Policy::default() });
    [Event::Start, Event::Forked(11), READY].iter().for_each(|event| _ = bench.step(*event));
    assert_eq!(bench.step(Event::Ended(ExitStatus::Exited(0))), "idle");
}

#[test]
fn a_fork_that_was_under_way_when_the_swarm_stopped_is_stopped_as_soon_as_it_is_there() {
    let mut bench = Bench::in_state("forking");
    bench.wanted = false;
    assert_eq!(bench.step(Event::Forked(11)), "stopping");
    assert_eq!(bench.signals(), [Signal::SIGTERM, Signal::SIGCONT]);
}

#[test]
fn a_fork_that_fails_is_tried_again_later_and_later() {
    let mut bench = Bench::in_state("forking");
    bench.step(Event::ForkFailed);
    assert_eq!(bench.waits(), Duration::from_secs(1));
    assert_eq!(bench.after(1.0).step(Event::Tick), "forking");
    bench.step(Event::ForkFailed);
    assert_eq!(bench.waits(), Duration::from_secs(2));
}

#[test]
fn the_time_that_a_node_took_to_stop_does_not_make_it_a_stable_one() {
    for seconds in [9.0, 10.0] {
        let mut bench = Bench::in_state("ready");
        bench.node.backoff = Backoff::default();
        for _ in 0..3 {
            bench.node.backoff.death(Tenure::Ready(Duration::ZERO), &bench.policy, 0.5);
        }
        bench.after(seconds).step(Event::Told(Report { worst: Some(3), ..Report::default() }));
        bench.after(30.0).step(Event::Ended(ExitStatus::Exited(0)));
        let stable = seconds >= 10.0;
        assert_eq!(
            bench.waits(),
            if stable { Duration::ZERO } else { Duration::from_secs(1) },
            "ready for {seconds} s"
        );
    }
}
