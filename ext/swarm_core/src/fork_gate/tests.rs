use super::*;

fn handle(name: &str) -> Handle {
    Handle { class: "Producer", name: name.into(), made_at: "app.rb:1".into() }
}

fn a_gate() -> &'static ForkGate {
    Box::leak(Box::default())
}

fn try_lease(gate: &'static ForkGate, name: &str) -> Result<Lease, StillForking> {
    gate.lease(handle(name), SystemTime::UNIX_EPOCH, 0, Duration::ZERO)
}

fn texts(live: &[Live]) -> Vec<String> {
    live.iter().map(ToString::to_string).collect()
}

#[test]
fn a_live_handle_refuses_the_fork_and_is_named() {
    let gate = a_gate();
    let (a, b) = (try_lease(gate, "").unwrap(), try_lease(gate, "b").unwrap());
    a.opened("a");
    let Err(refused) = gate.permit() else { panic!("a permit beside a lease") };
    assert_eq!(texts(&refused.0), ["Producer a (made at app.rb:1)", "Producer b (made at app.rb:1), being made"]);
    assert!(!refused.may_pass());
    drop(a);
    b.closing();
    let Err(refused) = gate.permit() else { panic!("a permit beside a lease") };
    assert_eq!(texts(&refused.0), ["Producer b (made at app.rb:1), being closed"]);
    assert!(refused.may_pass());
    drop(b);
    assert!(gate.permit().is_ok());
}

#[test]
fn a_lease_waits_until_the_fork_is_over() {
    let gate = a_gate();
    let permit = gate.permit().ok().unwrap();
    let opener = std::thread::spawn(move || {
        gate.lease(handle("a"), SystemTime::UNIX_EPOCH, 0, Duration::MAX).map(drop).unwrap();
    });
    assert!(gate.live().is_empty());
    drop(permit);
    opener.join().unwrap();
    assert!(gate.permit().is_ok());
}

#[test]
fn a_lease_gives_up_where_a_fork_does_not_end() {
    let gate = a_gate();
    let permit = gate.permit().ok().unwrap();
    let Err(StillForking(back)) = try_lease(gate, "a") else { panic!("a lease beside a permit") };
    assert_eq!(back, handle("a"));
    let soon = Duration::from_millis(1);
    assert!(gate.lease(back, SystemTime::UNIX_EPOCH, 0, soon).is_err());
    drop(permit);
    assert!(try_lease(gate, "a").is_ok());
}

#[test]
fn whoever_has_forked_need_not_wait_for_himself_but_for_others() {
    let gate = a_gate();
    let (own, other) = (gate.permit().ok().unwrap(), gate.permit().ok().unwrap());
    let beside = |id| gate.lease(handle("a"), SystemTime::UNIX_EPOCH, id, Duration::ZERO);
    gate.used(own.id());
    assert_eq!([&own, &other].map(|permit| gate.is_used(permit.id())), [Some(true), Some(false)]);
    assert!(beside(own.id()).is_err());
    let id = other.id();
    drop(other);
    assert_eq!(gate.is_used(id), None);
    let lease = beside(own.id());
    assert!(lease.is_ok() && beside(0).is_err());
    assert!(gate.permit().is_err());
    drop((lease, own));
    let unused = gate.permit().ok().unwrap();
    assert!(beside(unused.id()).is_err());
}

#[test]
fn what_a_child_inherits_never_waits_for_the_parents_lock() {
    let gate = a_gate();
    let (lease, permit) = (try_lease(gate, "a").unwrap(), Permit { gate, id: 7 });
    let _held_for_ever = gate.state();
    gate.left_behind.store(true, Ordering::Release);
    lease.opened("b");
    drop((lease, permit));
}
