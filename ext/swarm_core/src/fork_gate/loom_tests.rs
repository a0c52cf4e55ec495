//! Run by `RUSTFLAGS="--cfg loom" cargo test --release -p swarm_core --lib loom`, which tries every interleaving.

use super::*;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What is really there, as opposed to what the gate believes: 1 for each handle, 100 for each fork. Not loom's
/// atomic: it is to check the interleavings, not to add to them.
#[derive(Clone, Default)]
struct World(Arc<AtomicUsize>);

impl World {
    fn handle_appears(&self) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 100, "a handle is made during a fork");
    }

    fn handle_goes(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn fork_begins(&self) {
        assert_eq!(self.0.fetch_add(100, Ordering::SeqCst), 0, "a fork beside a handle");
    }

    fn fork_ends(&self) {
        self.0.fetch_sub(100, Ordering::SeqCst);
    }
}

fn open(gate: &'static ForkGate, world: &World) -> Lease {
    let handle = Handle { class: "Producer", name: String::new(), made_at: String::new() };
    // loom's wait never times out: a lost wake-up is a deadlock, which loom reports.
    let lease = gate.lease(handle, SystemTime::UNIX_EPOCH, 0, Duration::MAX).unwrap();
    world.handle_appears();
    lease
}

fn close(lease: Lease, world: &World) {
    world.handle_goes();
    drop(lease);
}

fn fork(gate: &'static ForkGate, world: &World) {
    let Ok(permit) = gate.permit() else { return };
    world.fork_begins();
    thread::yield_now(); // others come between the beginning of the fork and its end
    world.fork_ends();
    drop(permit);
}

#[test]
fn loom_two_openers_one_closer_one_forker() {
    loom::model(|| {
        let (gate, world) = (&*Box::leak(Box::<ForkGate>::default()), World::default());
        let early = open(gate, &world);
        let threads = [
            {
                let world = world.clone();
                thread::spawn(move || close(early, &world))
            },
            {
                let world = world.clone();
                thread::spawn(move || close(open(gate, &world), &world))
            },
            {
                let world = world.clone();
                thread::spawn(move || close(open(gate, &world), &world))
            },
        ];
        fork(gate, &world);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(gate.permit().is_ok(), "something was not given back");
    });
}

#[test]
fn loom_two_forkers_and_an_opener() {
    loom::model(|| {
        let (gate, world) = (&*Box::leak(Box::<ForkGate>::default()), World::default());
        let threads = [
            {
                let world = world.clone();
                thread::spawn(move || close(open(gate, &world), &world))
            },
            thread::spawn(move || drop(gate.permit())),
        ];
        drop(gate.permit());
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(gate.permit().is_ok(), "something was not given back");
    });
}
