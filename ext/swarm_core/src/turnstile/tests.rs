//! The rules one by one.

use super::*;

const US: Nanos = 1_000;

fn turnstile() -> Turnstile {
    Turnstile::new(Settings::new(0.1, 0.002, 0.000_05).unwrap(), 0)
}

/// A thread that has the GVL and has used `used` of it by `now`.
fn running(turnstile: &mut Turnstile, used: Nanos, now: Nanos) -> ThreadId {
    let id = turnstile.add(Class::Auto, now - used);
    turnstile.ready(id, true, now - used);
    turnstile.resumed(id, now - used);
    id
}

/// A thread that comes back from a wait.
fn waiter(turnstile: &mut Turnstile, now: Nanos) -> (ThreadId, bool) {
    let id = turnstile.add(Class::Auto, 0);
    let rouse = turnstile.ready(id, true, now);
    (id, rouse)
}

#[test]
fn a_light_thread_that_waits_gets_whoever_is_heavy_nudged_until_it_has_run() {
    let mut turnstile = turnstile();
    let heavy = running(&mut turnstile, 10 * MS, 20 * MS);
    let (light, rouse) = waiter(&mut turnstile, 20 * MS);
    assert!(rouse);
    assert_eq!(turnstile.look(20 * MS), Next::Nudge);
    assert_eq!(turnstile.look(20 * MS), Next::At(20 * MS + 100 * US));
    assert_eq!(turnstile.look(20 * MS + 100 * US), Next::Nudge);
    assert_eq!(turnstile.step(heavy, 20 * MS + 110 * US), Step::Yield);
    turnstile.suspended(heavy, 20 * MS + 110 * US);
    turnstile.resumed(light, 20 * MS + 140 * US);
    assert_eq!(turnstile.look(20 * MS + 200 * US), Next::Sleep);
    let counts = turnstile.counts(21 * MS);
    // The heavy one has been light, too.
    assert_eq!((counts.wake_ups, counts.nudges, counts.lost), (2, 2, 30 * US));
    assert_eq!((counts.light, counts.heavy), (1, 1));
}

#[test]
fn nobody_is_roused_where_no_light_thread_waits_or_no_heavy_one_runs() {
    let mut turnstile = turnstile();
    let (light, rouse) = waiter(&mut turnstile, MS);
    assert!(!rouse || turnstile.look(MS) != Next::Nudge);
    turnstile.resumed(light, MS);
    assert_eq!(turnstile.look(MS), Next::Sleep);
    turnstile.suspended(light, MS + 10 * US);
    let heavy = running(&mut turnstile, 10 * MS, 20 * MS);
    assert_eq!(turnstile.look(20 * MS), Next::Sleep);
    // Heavy beside heavy: Ruby's own time slices.
    let other = turnstile.add(Class::Heavy, 20 * MS);
    assert!(!turnstile.ready(other, false, 20 * MS));
    assert_eq!(turnstile.look(20 * MS), Next::Sleep);
    assert_eq!(turnstile.step(heavy, 20 * MS), Step::Stay);
}

#[test]
fn a_thread_is_looked_at_when_it_will_be_heavy() {
    let mut turnstile = turnstile();
    let light = running(&mut turnstile, 500 * US, 10 * MS);
    assert!(waiter(&mut turnstile, 10 * MS).1);
    assert_eq!(turnstile.step(light, 10 * MS), Step::Stay);
    let Next::At(at) = turnstile.look(10 * MS) else { panic!("sleeps") };
    assert!((11_500 * US..=13 * MS).contains(&at), "{at}");
    assert_eq!(turnstile.look(at), Next::Nudge);
    assert_eq!(turnstile.step(light, at), Step::Yield);
}

#[test]
fn a_preempted_thread_stays_heavy_and_one_that_has_waited_is_light_again() {
    let mut turnstile = turnstile();
    let thread = running(&mut turnstile, 10 * MS, 20 * MS);
    turnstile.suspended(thread, 20 * MS);
    turnstile.ready(thread, false, 20 * MS + 2 * US);
    turnstile.resumed(thread, 20 * MS + 5 * US);
    assert_eq!(turnstile.counts(21 * MS).heavy, 1);
    turnstile.suspended(thread, 21 * MS);
    turnstile.ready(thread, false, 21 * MS + 30 * US);
    assert_eq!(turnstile.counts(22 * MS).heavy, 0);
}

#[test]
fn of_the_heavy_threads_one_queues_and_the_others_park_until_the_turn_comes_to_them() {
    let mut turnstile = turnstile();
    let first = running(&mut turnstile, 10 * MS, 20 * MS);
    let _light = waiter(&mut turnstile, 20 * MS);
    assert_eq!(turnstile.step(first, 20 * MS), Step::Yield);
    turnstile.suspended(first, 20 * MS);
    turnstile.ready(first, false, 20 * MS);
    let second = running(&mut turnstile, 5 * MS, 25 * MS);
    assert_eq!(turnstile.step(second, 25 * MS), Step::Park);
    turnstile.suspended(second, 25 * MS);
    turnstile.resumed(first, 25 * MS);
    turnstile.back(first);
    assert_eq!(turnstile.unparked().count(), 0);
    // It waits for something: the turn passes on at once.
    turnstile.suspended(first, 26 * MS);
    assert_eq!(turnstile.unparked().collect::<Vec<_>>(), [second]);
}

#[test]
fn a_slice_ends_the_turn_also_where_nobody_wants_to_pass() {
    let mut turnstile = turnstile();
    let first = running(&mut turnstile, 10 * MS, 20 * MS);
    let (light, _) = waiter(&mut turnstile, 20 * MS);
    turnstile.step(first, 20 * MS);
    turnstile.suspended(first, 20 * MS);
    turnstile.ready(first, false, 20 * MS);
    let second = running(&mut turnstile, 5 * MS, 25 * MS);
    turnstile.step(second, 25 * MS);
    turnstile.suspended(second, 25 * MS);
    turnstile.resumed(light, 25 * MS);
    turnstile.suspended(light, 25 * MS);
    turnstile.resumed(first, 25 * MS);
    turnstile.back(first);
    assert_eq!(turnstile.look(25 * MS), Next::At(75 * MS));
    assert_eq!(turnstile.look(75 * MS), Next::Nudge);
    assert_eq!(turnstile.unparked().collect::<Vec<_>>(), [second]);
    assert_eq!(turnstile.step(first, 75 * MS), Step::Park);
}

#[test]
fn parked_threads_are_let_go_once_nobody_wants_to_pass_for_long() {
    let mut turnstile = turnstile();
    let first = running(&mut turnstile, 10 * MS, 20 * MS);
    let (light, _) = waiter(&mut turnstile, 20 * MS);
    turnstile.step(first, 20 * MS);
    turnstile.suspended(first, 20 * MS);
    let second = running(&mut turnstile, 5 * MS, 25 * MS);
    assert_eq!(turnstile.step(second, 25 * MS), Step::Park);
    turnstile.suspended(second, 25 * MS);
    turnstile.resumed(light, 25 * MS);
    assert!(turnstile.look(1_019 * MS) != Next::Sleep);
    assert_eq!(turnstile.unparked().count(), 0);
    assert_eq!(turnstile.look(1_020 * MS), Next::Sleep);
    assert_eq!(turnstile.unparked().collect::<Vec<_>>(), [second]);
}

#[test]
fn a_thread_that_ends_leaves_nothing_behind() {
    let mut turnstile = turnstile();
    let first = running(&mut turnstile, 10 * MS, 20 * MS);
    let (light, _) = waiter(&mut turnstile, 20 * MS);
    turnstile.step(first, 20 * MS);
    turnstile.suspended(first, 20 * MS);
    let second = running(&mut turnstile, 5 * MS, 25 * MS);
    turnstile.step(second, 25 * MS);
    turnstile.suspended(second, 25 * MS);
    for id in [light, second, first] {
        turnstile.remove(id, 26 * MS);
        turnstile.remove(id, 26 * MS);
    }
    assert_eq!(turnstile.look(26 * MS), Next::Sleep);
    assert_eq!((turnstile.counts(27 * MS).light, turnstile.counts(27 * MS).heavy), (0, 0));
    assert_eq!(turnstile.add(Class::Auto, 27 * MS), first);
}

#[test]
fn a_class_set_by_hand_wins() {
    let mut turnstile = turnstile();
    let busy = running(&mut turnstile, 10 * MS, 20 * MS);
    turnstile.set_class(busy, Class::Light);
    let (waiting, _) = waiter(&mut turnstile, 20 * MS);
    assert_eq!(turnstile.step(busy, 20 * MS), Step::Stay);
    turnstile.set_class(busy, Class::Auto);
    assert_eq!(turnstile.step(busy, 20 * MS), Step::Yield);
    turnstile.back(busy);
    turnstile.set_class(waiting, Class::Heavy);
    assert_eq!(turnstile.step(busy, 20 * MS), Step::Stay);
}

#[test]
fn nudges_that_nobody_follows_get_rarer_and_come_back_with_the_next_thread() {
    let mut turnstile = turnstile();
    let heavy = running(&mut turnstile, 10 * MS, 20 * MS);
    waiter(&mut turnstile, 20 * MS);
    let (mut now, mut nudges) = (20 * MS, 0);
    while now < 120 * MS {
        match turnstile.look(now) {
            Next::Nudge => nudges += 1,
            Next::At(at) => now = at,
            Next::Sleep => panic!("sleeps"),
        }
    }
    assert!((50..70).contains(&nudges), "{nudges}");
    turnstile.step(heavy, now);
    turnstile.suspended(heavy, now);
    let next = turnstile.add(Class::Heavy, now);
    turnstile.resumed(next, now + 20 * US);
    assert_eq!(turnstile.look(now + 20 * US), Next::Nudge);
    assert_eq!(turnstile.look(now + 20 * US), Next::At(now + 120 * US));
}

#[test]
fn events_in_any_order_and_with_any_lost_leave_counts_that_add_up() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let mut turnstile = turnstile();
        let mut ids: Vec<_> = (0..6).map(|_| turnstile.add(Class::Auto, 0)).collect();
        let mut now = 0;
        for _ in 0..500 {
            now += random.u64(..5 * MS);
            let at = random.usize(..ids.len());
            let id = ids[at];
            match random.u8(..9) {
                0 | 1 => drop(turnstile.ready(id, random.bool(), now)),
                2 => drop(turnstile.resumed(id, now)),
                3 => turnstile.suspended(id, now),
                4 => drop(turnstile.step(id, now)),
                5 => turnstile.back(id),
                6 => drop(turnstile.look(now)),
                7 => turnstile.set_class(id, [Class::Auto, Class::Light, Class::Heavy][random.usize(..3)]),
                _ => {
                    turnstile.remove(id, now);
                    ids[at] = turnstile.add(Class::Auto, now);
                }
            }
            let queued = turnstile.threads.iter().flatten();
            let queued = queued.filter(|thread| matches!(thread.place, Place::Ready { light: true, .. })).count();
            assert_eq!(turnstile.waiting, queued);
        }
        turnstile.release();
        assert!(turnstile.parked.is_empty());
    }
}

#[test]
fn heavy_threads_keep_what_is_set_where_light_ones_want_all_of_it() {
    for (keep, owed) in [(0.0, 0), (0.1, MS / 9), (0.9, 9 * MS)] {
        let settings = Settings::new(0.1, 0.002, 0.000_05).unwrap().with_keep(keep).unwrap();
        let mut turnstile = Turnstile::new(settings, 0);
        let heavy = running(&mut turnstile, 10 * MS, 20 * MS);
        let (light, _) = waiter(&mut turnstile, 20 * MS);
        assert_eq!(turnstile.step(heavy, 20 * MS), Step::Yield);
        turnstile.suspended(heavy, 20 * MS);
        turnstile.resumed(light, 20 * MS);
        turnstile.suspended(light, 21 * MS);
        turnstile.resumed(heavy, 21 * MS);
        turnstile.back(heavy);
        waiter(&mut turnstile, 21 * MS);
        let due = turnstile.due(21 * MS) - 21 * MS;
        assert!(due.abs_diff(owed) <= 100 * US, "{keep}: {due}");
    }
}

#[test]
fn a_thread_is_light_until_it_has_used_so_much() {
    let mut turnstile = turnstile();
    let id = running(&mut turnstile, 0, 10 * MS);
    assert!(turnstile.is_light(id, 12 * MS - 1));
    assert!(!turnstile.is_light(id, 12 * MS));
    turnstile.remove(id, 12 * MS);
    assert!(!turnstile.is_light(id, 12 * MS));
}
