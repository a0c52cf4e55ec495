//! What concerns more than one node: stopping, quiet, scale, rolling restart, and when the swarm is over.

use super::*;
use crate::policy::Value;

const READY: Report = Report { worst: None, ready: true, malformed: 0 };
const HEALTHY: Report = Report { worst: Some(0), ready: false, malformed: 0 };

/// A swarm whose forks succeed at once, with its time and all that it asked for.
struct Bench {
    fleet: Fleet,
    now: Instant,
    forks: Vec<Who>,
    signals: Vec<(NodeId, Signal)>,
    told: Vec<What>,
    measured: Vec<NodeId>,
    diagnosed: Vec<NodeId>,
    pid: i32,
}

impl Bench {
    fn started(settings: &[(&str, i64)]) -> Self {
        Self::with(settings.iter().map(|(name, value)| (*name, Value::Integer(*value))).collect())
    }

    fn with(settings: Vec<(&str, Value)>) -> Self {
        let mut bench = Self {
            fleet: Fleet::new(Policy::from_settings(settings).unwrap(), 1),
            now: Instant::now(),
            forks: vec![],
            signals: vec![],
            told: vec![],
            measured: vec![],
            diagnosed: vec![],
            pid: 100,
        };
        bench.step(Event::Start);
        bench
    }

    fn ready(settings: &[(&str, i64)]) -> Self {
        let mut bench = Self::started(settings);
        bench.all_ready();
        bench
    }

    fn all_ready(&mut self) {
        for who in self.whos() {
            self.step(Event::Told(who, READY));
        }
        assert!(self.fleet.nodes().iter().all(|node| matches!(node.state(), State::Ready(_) | State::Idle)));
    }

    /// Takes a step, and forks what it asks for.
    fn step(&mut self, event: Event) -> &mut Self {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.fleet.step(self.now, event) {
                match action {
                    Action::Fork(who) => {
                        assert!(!self.fleet.is_stopping(), "a fork after stop");
                        self.pid += 1;
                        self.forks.push(who);
                        events.push_back(Event::Forked(who, self.pid));
                    }
                    Action::Signal(who, signal) => self.signals.push((who.id, signal)),
                    Action::Emit(notice) => self.told.push(notice.what),
                    Action::Measure(who) => self.measured.push(who.id),
                    Action::Diagnose(who) => self.diagnosed.push(who.id),
                }
            }
        }
        self
    }

    fn after(&mut self, seconds: f64) -> &mut Self {
        self.now += Duration::from_secs_f64(seconds);
        self.step(Event::Tick)
    }

    fn who(&self, id: NodeId) -> Who {
        self.fleet.nodes()[id as usize].who()
    }

    fn whos(&self) -> Vec<Who> {
        self.fleet.nodes().iter().filter(|node| node.state().life().is_some()).map(Node::who).collect()
    }

    fn ends(&mut self, id: NodeId, exit: ExitStatus) -> &mut Self {
        let who = self.who(id);
        self.step(Event::Ended(who, exit))
    }

    fn states(&self) -> Vec<&'static str> {
        self.fleet.nodes().iter().map(|node| node.state().name()).collect()
    }

    fn signaled(&self, signal: Signal) -> Vec<NodeId> {
        self.signals.iter().filter(|(_, sent)| *sent == signal).map(|(id, _)| *id).collect()
    }
}

const GONE: ExitStatus = ExitStatus::Exited(0);
const CRASH: ExitStatus = ExitStatus::Exited(1);

#[test]
fn it_begins_with_a_process_a_node() {
    let bench = Bench::started(&[("nodes", 4)]);
    assert_eq!(bench.forks.iter().map(|who| who.id).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(bench.states(), ["booting"; 4]);
}

#[test]
fn a_stop_tells_all_and_is_over_with_the_last_of_them() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Stop);
    assert_eq!(bench.signaled(Signal::SIGTERM), [0, 1]);
    assert_eq!(bench.signaled(Signal::SIGCONT), [0, 1]);
    bench.ends(0, GONE);
    assert!(!bench.fleet.is_over());
    bench.ends(1, GONE);
    assert!(bench.fleet.is_over());
    assert_eq!(bench.fleet.outcome(), &Outcome::default());
    assert_eq!(bench.told.last(), Some(&What::Stopped));
    assert_eq!(bench.fleet.deadline(), None);
}

#[test]
fn after_a_stop_nothing_is_forked_whatever_ends_or_is_asked() {
    let mut bench = Bench::ready(&[("nodes", 3)]);
    bench.ends(0, GONE);
    assert_eq!(bench.states()[0], "waiting");
    bench.step(Event::Stop);
    assert_eq!(bench.states()[0], "idle");
    let forks = bench.forks.len();
    bench.ends(1, CRASH).step(Event::Restart).step(Event::Scale(9)).step(Event::Start).after(100.0);
    assert_eq!(bench.forks.len(), forks);
}

#[test]
fn two_stops_within_a_second_are_one_and_a_later_one_kills() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Stop).after(0.9).step(Event::Stop);
    assert_eq!(bench.signaled(Signal::SIGKILL), []);
    assert_eq!(bench.signaled(Signal::SIGTERM), [0, 1]);
    bench.after(0.1).step(Event::Stop);
    assert_eq!(bench.signaled(Signal::SIGKILL), [0, 1]);
    let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
    bench.ends(0, killed).ends(1, killed);
    assert_eq!(bench.fleet.outcome().killed, [0, 1]);
}

#[test]
fn a_node_that_does_not_stop_is_killed_and_one_that_cannot_be_killed_is_given_up() {
    let mut bench = Bench::ready(&[("nodes", 1)]);
    bench.step(Event::Stop).after(60.0);
    assert_eq!(bench.signaled(Signal::SIGKILL), [0]);
    bench.after(4.9);
    assert!(!bench.fleet.is_over());
    bench.after(0.2);
    assert!(bench.fleet.is_over());
    assert_eq!(bench.fleet.outcome(), &Outcome { killed: vec![0], lost: vec![0], crash_loop: None });
}

#[test]
fn a_node_killed_for_hanging_while_the_swarm_runs_does_not_make_its_stop_forceful() {
    let mut bench = Bench::ready(&[("nodes", 1)]);
    bench.after(60.0).after(60.0);
    assert_eq!(bench.signaled(Signal::SIGKILL), [0]);
    bench.ends(0, ExitStatus::Signaled { signal: 9, core_dumped: false });
    bench.step(Event::Stop).ends(0, GONE);
    assert!(bench.fleet.is_over());
    assert_eq!(bench.fleet.outcome(), &Outcome::default());
}

#[test]
fn quiet_tells_all_and_restarts_nothing_and_a_stop_ends_it() {
    let mut bench = Bench::ready(&[("nodes", 3)]);
    bench.ends(0, GONE).step(Event::Quiet);
    assert_eq!(bench.signaled(Signal::SIGTSTP), [1, 2]);
    let forks = bench.forks.len();
    bench.ends(1, CRASH).after(1_000.0);
    assert_eq!(bench.states(), ["idle", "idle", "ready"]);
    assert_eq!(bench.forks.len(), forks);
    bench.ends(2, GONE);
    assert!(!bench.fleet.is_over(), "a quiet swarm waits for its stop");
    bench.step(Event::Stop);
    assert!(bench.fleet.is_over());
}

#[test]
fn news_of_a_process_that_is_gone_changes_nothing() {
    let mut bench = Bench::ready(&[("nodes", 1)]);
    let old = bench.who(0);
    bench.ends(0, CRASH);
    assert_eq!(bench.states(), ["booting"]);
    bench.step(Event::Ended(old, CRASH)).step(Event::Told(old, READY)).step(Event::Forked(old, 5));
    assert_eq!(bench.states(), ["booting"]);
    assert_eq!(bench.forks.len(), 2);
}

#[test]
fn a_rolling_restart_replaces_the_next_node_only_once_the_replacement_is_ready() {
    let mut bench = Bench::ready(&[("nodes", 3)]);
    bench.step(Event::Restart);
    for id in 0..3 {
        let expected: Vec<&str> = (0..3).map(|other| if other == id { "stopping" } else { "ready" }).collect();
        assert_eq!(bench.states(), expected);
        bench.ends(id, GONE).after(30.0);
        assert_eq!(bench.states()[id as usize], "booting");
        let others: Vec<Who> = bench.whos().into_iter().filter(|who| who.id != id).collect();
        others.into_iter().for_each(|who| _ = bench.step(Event::Told(who, HEALTHY)));
        let who = bench.who(id);
        bench.step(Event::Told(who, READY));
    }
    assert_eq!(bench.states(), ["ready"; 3]);
    assert_eq!(bench.told.last(), Some(&What::Restarted));
    assert_eq!(bench.fleet.nodes().iter().map(Node::restarts).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn a_replacement_that_does_not_get_ready_ends_the_rolling_restart() {
    let mut bench = Bench::ready(&[("nodes", 3)]);
    bench.step(Event::Restart).ends(0, GONE).ends(0, CRASH);
    assert_eq!(bench.told.last(), Some(&What::Error));
    bench.after(1.5);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["ready"; 3]);
    assert_eq!(bench.who(1).generation, 1);
}

#[test]
fn a_rolling_restart_goes_on_when_its_node_is_scaled_away() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Restart).ends(0, GONE).after(0.0);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["ready", "stopping"]);
    bench.step(Event::Scale(1));
    assert_eq!(bench.told.last(), Some(&What::Restarted));
    bench.ends(1, GONE);
    assert_eq!(bench.states(), ["ready", "idle"]);
}

#[test]
fn a_restart_asked_for_during_a_restart_does_not_take_a_second_node_down() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Restart).step(Event::Restart);
    assert_eq!(bench.states(), ["stopping", "ready"]);
    bench.ends(0, GONE);
    assert_eq!(bench.states(), ["booting", "ready"]);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["ready", "stopping"]);
}

#[test]
fn a_replacement_that_a_second_restart_replaces_has_not_failed() {
    let mut bench = Bench::ready(&[("nodes", 3), ("max_unavailable", 2)]);
    bench.step(Event::Restart).ends(0, GONE).ends(1, GONE);
    let who = bench.who(1);
    bench.step(Event::Told(who, READY)).ends(2, GONE);
    let who = bench.who(2);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["booting", "ready", "ready"]);
    bench.step(Event::Restart);
    assert_eq!(bench.states(), ["stopping", "stopping", "ready"]);
    bench.ends(0, GONE);
    assert_eq!(bench.states(), ["booting", "stopping", "ready"]);
    assert!(!bench.told.contains(&What::Error));
}

#[test]
fn a_node_that_was_replaced_since_the_restart_was_asked_for_is_left_alone() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Restart).ends(1, CRASH);
    let crashed = bench.who(1);
    bench.step(Event::Told(crashed, READY)).ends(0, GONE);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.told.last(), Some(&What::Restarted));
    assert_eq!(bench.who(1), crashed);
}

#[test]
fn a_restart_whose_node_is_scaled_away_needs_no_other_event_to_go_on() {
    let mut bench = Bench::ready(&[("nodes", 3), ("report_timeout", 86_400)]);
    bench.step(Event::Restart).ends(0, GONE);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY)).ends(1, GONE);
    assert_eq!(bench.states(), ["ready", "booting", "ready"]);
    bench.step(Event::Scale(1));
    assert_eq!(bench.told.last(), Some(&What::Restarted));
}

#[test]
fn asking_again_to_stop_does_not_put_the_end_off() {
    let mut bench = Bench::ready(&[("nodes", 1), ("shutdown_timeout", 3), ("kill_grace", 5)]);
    bench.step(Event::Stop);
    for _ in 0..5 {
        bench.after(1.0).step(Event::Stop);
    }
    assert!(!bench.fleet.is_over());
    bench.after(1.0);
    assert!(bench.fleet.is_over(), "a node that cannot be killed is given up 5 s after the kill");
}

#[test]
fn a_swarm_that_has_not_begun_has_the_size_that_it_was_made_with() {
    let mut bench = Bench {
        fleet: Fleet::new(Policy::default(), 1),
        now: Instant::now(),
        forks: vec![],
        signals: vec![],
        told: vec![],
        measured: vec![],
        diagnosed: vec![],
        pid: 100,
    };
    bench.step(Event::Scale(5)).step(Event::Start);
    assert_eq!(bench.states(), ["booting"; 3]);
    bench.step(Event::Scale(5));
    assert_eq!(bench.states(), ["booting"; 5]);
}

#[test]
fn a_swarm_grows_at_once_and_shrinks_from_the_highest_id() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Scale(4)).all_ready();
    assert_eq!(bench.states(), ["ready"; 4]);
    bench.step(Event::Scale(1));
    assert_eq!(bench.signaled(Signal::SIGTERM), [3, 2, 1]);
    bench.ends(3, GONE).ends(2, CRASH).ends(1, GONE);
    assert_eq!(bench.states(), ["ready", "idle", "idle", "idle"]);
    bench.step(Event::Scale(2));
    assert_eq!(bench.states(), ["ready", "booting", "idle", "idle"]);
}

#[test]
fn a_node_that_is_wanted_again_while_it_stops_comes_back() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Scale(1)).step(Event::Scale(2));
    assert_eq!(bench.states(), ["ready", "stopping"]);
    bench.ends(1, GONE);
    assert_eq!(bench.states(), ["ready", "booting"]);
}

#[test]
fn a_crash_loop_can_end_the_swarm() {
    let mut bench = Bench::with(vec![("nodes", Value::Integer(2)), ("on_crash_loop", Value::Word("stop".into()))]);
    for _ in 0..5 {
        bench.ends(1, CRASH).after(40.0);
    }
    assert!(bench.fleet.is_stopping());
    assert_eq!(bench.fleet.outcome().crash_loop, Some(1));
    assert_eq!(bench.told.iter().filter(|what| **what == What::CrashLoop).count(), 1);
}

#[test]
fn a_swarm_whose_nodes_have_all_done_their_work_is_over() {
    let mut bench = Bench::with(vec![("nodes", Value::Integer(2)), ("on_normal_exit", Value::Word("leave".into()))]);
    bench.ends(0, GONE);
    assert!(!bench.fleet.is_over());
    bench.ends(1, GONE);
    assert!(bench.fleet.is_over());
}

#[test]
fn a_swarm_that_is_stopped_before_it_began_forks_nothing() {
    let mut fleet = Fleet::new(Policy::default(), 1);
    let now = Instant::now();
    fleet.step(now, Event::Stop);
    assert!(fleet.is_over());
    assert_eq!(fleet.step(now, Event::Start), []);
}

#[test]
fn an_idle_swarm_has_one_deadline_for_each_node_and_wakes_for_none_before_it() {
    let bench = Bench::ready(&[("nodes", 100), ("report_timeout", 30)]);
    assert_eq!(bench.fleet.deadline(), Some(bench.now + Duration::from_secs(30)));
    assert_eq!(bench.fleet.deadlines.len(), 100);
}

#[test]
fn a_second_rolling_restart_goes_on_once_the_slot_that_ended_the_first_is_ready() {
    let mut bench = Bench::ready(&[("nodes", 2)]);
    bench.step(Event::Restart).ends(0, GONE).ends(0, CRASH);
    assert_eq!(bench.told.last(), Some(&What::Error));
    bench.step(Event::Restart);
    assert_eq!(bench.told[bench.told.len() - 2..], [What::Restarting, What::ReplacementWaits]);
    bench.after(2.0);
    assert_eq!(bench.states(), ["booting", "ready"], "one node at a time is down");
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["ready", "stopping"]);
    bench.ends(1, GONE).all_ready();
    let count = |what| bench.told.iter().filter(|told| **told == what).count();
    assert_eq!([What::Error, What::ReplacementWaits].map(count), [1, 1]);
    assert_eq!(bench.told.last(), Some(&What::Restarted));
}

const LIMIT: i64 = 100 << 20;

#[test]
fn a_node_over_its_memory_limit_is_stopped_in_order_and_replaced_at_once() {
    let mut bench = Bench::ready(&[("nodes", 2), ("memory_limit", LIMIT), ("memory_interval", 30)]);
    assert_eq!(bench.fleet.deadline(), Some(bench.now + Duration::from_secs(30)));
    bench.after(30.0);
    assert_eq!(bench.measured, [0, 1]);
    let (first, second) = (bench.who(0), bench.who(1));
    bench.step(Event::Measured(first, LIMIT as u64)).step(Event::Measured(second, LIMIT as u64 + 1));
    assert_eq!(bench.states(), ["ready", "stopping"]);
    assert_eq!(bench.fleet.nodes()[0].state().life().unwrap().memory, Some(LIMIT as u64));
    bench.ends(1, GONE);
    assert_eq!(bench.states(), ["ready", "booting"]);
    assert_eq!(bench.fleet.nodes()[1].last_end().unwrap().reason, Reason::MemoryLimit(LIMIT as u64 + 1));
}

#[test]
fn no_more_nodes_are_down_for_what_can_wait_than_allowed_and_a_crash_never_waits() {
    let mut bench = Bench::ready(&[("nodes", 4), ("memory_limit", LIMIT), ("max_unavailable", 2)]);
    for who in bench.whos() {
        bench.step(Event::Measured(who, 2 * LIMIT as u64));
    }
    assert_eq!(bench.states(), ["stopping", "stopping", "ready", "ready"]);
    bench.ends(3, CRASH);
    assert_eq!(bench.states(), ["stopping", "stopping", "ready", "booting"]);
    bench.ends(0, GONE);
    assert_eq!(bench.states(), ["booting", "stopping", "ready", "booting"]);
    let who = bench.who(0);
    bench.step(Event::Told(who, READY));
    assert_eq!(bench.states(), ["ready", "stopping", "stopping", "booting"]);
    bench.ends(1, GONE).ends(2, GONE).all_ready();
    assert_eq!(bench.fleet.nodes().iter().map(Node::restarts).collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn a_node_that_is_old_enough_is_replaced_when_enough_others_are_up() {
    let mut bench = Bench::ready(&[("nodes", 3), ("max_lifetime", 1000)]);
    let all_healthy =
        |bench: &mut Bench| bench.whos().into_iter().for_each(|who| _ = bench.step(Event::Told(who, HEALTHY)));
    for _ in 0..30 {
        all_healthy(bench.after(29.0));
    }
    assert_eq!(bench.states(), ["ready"; 3], "870 s are less than nine tenths of the lifetime");
    while bench.states() == ["ready"; 3] {
        all_healthy(bench.after(1.0));
    }
    // By now, and certainly in a while, the others are old enough too.
    bench.after(50.0);
    assert_eq!(bench.states().iter().filter(|state| **state == "stopping").count(), 1);
    while bench.fleet.nodes().iter().any(|node| node.restarts() == 0) {
        match bench.states().iter().position(|state| *state == "stopping") {
            Some(stopping) => bench.ends(stopping as NodeId, GONE).all_ready(),
            None => all_healthy(bench.after(1.0)),
        }
    }
    assert_eq!(bench.fleet.nodes().iter().map(Node::restarts).collect::<Vec<_>>(), [1; 3]);
}

#[test]
fn while_quiet_nobody_is_replaced_for_what_can_wait() {
    let mut bench = Bench::ready(&[("nodes", 2), ("memory_limit", LIMIT)]);
    bench.step(Event::Quiet);
    for who in bench.whos() {
        bench.step(Event::Measured(who, 2 * LIMIT as u64));
    }
    assert_eq!(bench.states(), ["ready", "ready"]);
}

#[test]
fn a_node_that_does_not_stop_is_asked_why_before_it_is_killed_and_one_that_hangs_at_once() {
    let mut bench = Bench::ready(&[("nodes", 1)]);
    bench.step(Event::Stop).after(58.9);
    assert_eq!(bench.diagnosed, []);
    bench.after(0.2);
    assert_eq!((bench.diagnosed.as_slice(), bench.signaled(Signal::SIGKILL)), (&[0][..], vec![]));
    bench.after(1.0);
    assert_eq!((bench.diagnosed.as_slice(), bench.signaled(Signal::SIGKILL)), (&[0][..], vec![0]));

    let mut bench = Bench::ready(&[("nodes", 1)]);
    bench.after(60.0);
    assert_eq!(bench.diagnosed, [0]);
    bench.after(60.0);
    assert_eq!(bench.diagnosed, [0]);
}

#[test]
fn a_kill_that_the_kernel_s_record_explains_is_told_as_such() {
    let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
    let mut bench = Bench::ready(&[("nodes", 1)]);
    let who = bench.who(0);
    bench.step(Event::OutOfMemory(who)).ends(0, killed);
    assert_eq!(bench.fleet.nodes()[0].last_end().unwrap().reason, Reason::OomKilled);
    bench.all_ready();
    bench.ends(0, killed);
    assert_eq!(bench.fleet.nodes()[0].last_end().unwrap().reason, Reason::Killed);
}
