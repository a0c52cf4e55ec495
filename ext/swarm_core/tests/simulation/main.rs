//! The rules of a swarm, played through in a world that is made up.
//!
//! The schedules are the same in each run. `SIMULATION_SEED` gives others, `SIMULATION_SCHEDULES` more; for millions of
//! them there is `cargo run --release --example soak`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::array::uniform;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::model::run::{run, tell};
use self::model::schedule::{Genes, MOST_LIVES, MOST_REQUESTS};

mod model;

fn genes() -> impl Strategy<Value = Genes> {
    let settings = uniform(any::<u16>());
    let lives = vec(uniform(any::<u16>()), 0..=MOST_LIVES);
    let requests = vec(uniform(any::<u16>()), 0..=MOST_REQUESTS);
    (settings, lives, requests).prop_map(|(settings, lives, requests)| Genes { settings, lives, requests })
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a whole number"))
}

/// What 20,000 schedules must come by more than once, or they prove nothing about it.
const ALL: &[&str] = &[
    "node_started",
    "node_ready",
    "node_unhealthy",
    "node_stopping",
    "node_killed",
    "node_exited",
    "crash_loop",
    "replacement_waits",
    "quieting",
    "restarting",
    "restarted",
    "stopping",
    "stopped",
    "error",
    "fork failed",
    "roll given up",
    "unhealthy",
    "hung",
    "boot timeout",
    "scaled down",
    "rolled",
    "exited",
    "crashed",
    "killed",
    "unknown",
    "as told",
    "lost",
    "left",
    "measured",
    "asked",
    "memory limit",
    "max lifetime",
    "oom killed",
];

#[test]
fn the_rules_hold_whatever_happens() {
    let schedules = number("SIMULATION_SCHEDULES", 20_000) as u32;
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number("SIMULATION_SEED", 1).to_le_bytes());
    let config = Config { cases: schedules, max_shrink_iters: 100_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let (seen, steps) = (RefCell::new(BTreeMap::new()), Cell::new(0));
    let found = runner.run(&genes(), |genes| {
        let ran = run(&genes);
        ran.seen.iter().for_each(|(what, times)| *seen.borrow_mut().entry(*what).or_insert(0) += times);
        steps.set(steps.get() + ran.steps);
        ran.verdict.map_err(|broken| TestCaseError::fail(broken.0))
    });
    if let Err(TestError::Fail(why, genes)) = found {
        panic!("{why}\n\n{}\n\n{why}\n{genes:?}", tell(&genes).story.join("\n"));
    }
    found.unwrap();
    assert!(steps.get() / u64::from(schedules) >= 50, "the schedules are short: {steps:?} steps");
    let seen = seen.into_inner();
    for what in ALL.iter().filter(|_| schedules >= 20_000) {
        assert!(seen.get(*what).is_some_and(|times| *times >= 50), "hardly any schedule came by {what:?}: {seen:?}");
    }
}

#[test]
fn the_same_schedule_is_the_same_run() {
    let story = |seed| tell(&Genes::from_seed(seed)).story;
    for seed in 0..50 {
        // What comes out holds absolute times; what goes in, and when, does not.
        let inputs = |line: &String| line.split(" -> ").next().map(str::to_owned);
        let [one, other]: [Vec<_>; 2] = [story(seed), story(seed)].map(|story| story.iter().map(inputs).collect());
        assert_eq!(one, other);
    }
}

#[test]
fn a_schedule_is_shortened_to_what_makes_it_bad() {
    let bad = |genes: &Genes| {
        genes.settings[2] > 0
            && genes.lives.iter().any(|life| life[4] > 9)
            && genes.requests.iter().any(|one| one[3] > 0)
    };
    let genes = (0..).map(Genes::from_seed).find(bad).unwrap().shortest(bad);
    assert!(bad(&genes));
    assert_eq!((genes.lives.len(), genes.requests.len()), (1, 1));
    let set = genes.settings.iter().chain(genes.lives.iter().flatten()).chain(genes.requests.iter().flatten());
    assert_eq!(set.filter(|gene| **gene > 0).count(), 3);
}
