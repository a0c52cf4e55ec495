//! Plays as many schedules as one likes: `cargo run --release --example soak -- 10000000 [seed [threads]]`, on all cores
//! unless told otherwise.
//!
//! Ends with 1 at the first broken rule, after the shortest schedule that still breaks it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use self::model::run::{run, tell};
use self::model::schedule::Genes;

#[path = "../tests/simulation/model/mod.rs"]
mod model;

/// How many schedules a thread takes at a time.
const BATCH: u64 = 500;

#[derive(Default)]
struct Found {
    seen: BTreeMap<&'static str, u64>,
    steps: u64,
    broken: Option<u64>,
}

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    let (schedules, seed, threads) = match [numbers.next(), numbers.next(), numbers.next()] {
        [Some(Ok(schedules)), None, None] => (schedules, 0, cores),
        [Some(Ok(schedules)), Some(Ok(seed)), None] => (schedules, seed, cores),
        [Some(Ok(schedules)), Some(Ok(seed)), Some(Ok(threads @ 1..))] => (schedules, seed, threads),
        _ => {
            eprintln!("usage: soak SCHEDULES [SEED [THREADS]]");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let found = soak(schedules, seed, threads);
    let seconds = started.elapsed().as_secs_f64();
    if let Some(broken) = found.broken {
        report(broken);
        return ExitCode::FAILURE;
    }
    println!("{schedules} schedules from seed {seed}, {} steps, {seconds:.1} s", found.steps);
    println!("{:.0} schedules/s, {:.0} steps/s", schedules as f64 / seconds, found.steps as f64 / seconds);
    found.seen.iter().for_each(|(what, times)| println!("{times:>12} {what}"));
    ExitCode::SUCCESS
}

/// Schedule n is the one of the seed `seed + n`, whichever thread plays it.
fn soak(schedules: u64, seed: u64, threads: u64) -> Found {
    let (next, stop, found) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Found::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= schedules {
                return;
            }
            let part = play(seed + first..seed + (first + BATCH).min(schedules));
            let mut found = found.lock().expect("no thread panics while it holds the lock");
            found.steps += part.steps;
            part.seen.into_iter().for_each(|(what, times)| *found.seen.entry(what).or_default() += times);
            if part.broken.is_some() {
                found.broken = found.broken.min(part.broken).or(part.broken);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
    found.into_inner().expect("no thread panics while it holds the lock")
}

fn play(seeds: std::ops::Range<u64>) -> Found {
    let mut found = Found::default();
    for seed in seeds {
        let Ok(ran) = catch_unwind(|| run(&Genes::from_seed(seed))) else {
            found.broken = Some(seed);
            break;
        };
        found.steps += ran.steps;
        ran.seen.into_iter().for_each(|(what, times)| *found.seen.entry(what).or_default() += times);
        if ran.verdict.is_err() {
            found.broken = Some(seed);
            break;
        }
    }
    found
}

fn is_broken(genes: &Genes) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(genes).verdict.is_err())).unwrap_or(true)
}

fn report(seed: u64) {
    // While it looks for a shorter one, a panic is an answer and no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let genes = Genes::from_seed(seed).shortest(is_broken);
    std::panic::set_hook(hook);
    let told = tell(&genes);
    println!("{}\n", told.story.join("\n"));
    println!("broken by seed {seed}: {}", told.verdict.expect_err("it was broken before").0);
}
