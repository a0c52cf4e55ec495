//! What has to hold between two steps.

use std::time::Instant;

use swarm_core::fleet::{Event, Fleet};
use swarm_core::node::NodeId;

use super::slot::{Process, Slot};
use super::{Mode, Oracle};
use crate::model::{Broken, rule};

impl Oracle {
    /// Judges where the fleet stands after a step. `was_due` is the deadline that it had before, `idle` whether the step
    /// did nothing.
    pub fn after(&mut self, fleet: &Fleet, was_due: Option<Instant>, idle: bool) -> Result<(), Broken> {
        rule!(self.owed.is_empty(), "nobody was told: {:?}", self.owed);
        let all_idle = self.slots.iter().all(Slot::is_idle);
        let over = self.mode == Mode::Over;
        rule!(over == fleet.is_over(), "over: {}, expected: {over}", fleet.is_over());
        let live = matches!(self.mode, Mode::Running | Mode::Stopping { .. });
        rule!(!(all_idle && live), "no process and none to come, and not over");
        for id in 0..self.slots.len() {
            self.slot(id as NodeId, fleet)?;
        }
        rule!(fleet.nodes().len() == self.slots.len(), "{} slots", fleet.nodes().len());
        if self.event == Event::Tick {
            let due = was_due.is_some_and(|at| self.now >= at);
            rule!(due || idle, "a tick before the deadline does something");
            rule!(!due || !idle || self.may_grow_old(), "I5: it woke for nothing");
            let next = fleet.deadline();
            rule!(next.is_none_or(|at| at > self.now), "I5: busy loop, the next deadline is past");
        }
        self.obligations(fleet.deadline())?;
        self.plan()?;
        let outcome = fleet.outcome();
        rule!(outcome.killed == self.killed, "killed: {:?}, told: {:?}", self.killed, outcome.killed);
        rule!(outcome.lost == self.lost, "lost: {:?}, told: {:?}", self.lost, outcome.lost);
        rule!(outcome.crash_loop == self.crash_loop, "crash loop: {:?}", outcome.crash_loop);
        Ok(())
    }

    fn slot(&mut self, id: NodeId, fleet: &Fleet) -> Result<(), Broken> {
        let (stopping, killing) = (matches!(self.mode, Mode::Stopping { .. }), self.is_killing());
        let (quiet, wanted) = (self.is_quiet(), id < self.wanted);
        let running = self.is_running();
        let slot = &mut self.slots[id as usize];
        rule!(!slot.due_now, "node {id} is not forked at once");
        rule!(!slot.expects_crash_loop, "nobody was told of the crash loop of node {id}");
        rule!(!slot.roll_failed, "the rolling restart goes on though the replacement failed: {slot:?}");
        let mut expected = "idle";
        if let Some(process) = &mut slot.process {
            rule!(process.announced, "nobody was told of the start of {process:?}");
            rule!(process.ended.is_none(), "I3: nobody was told of the end of {process:?}");
            rule!(process.sent == process.explained, "signals without a reason, or the reverse: {process:?}");
            process.sent.clear();
            process.explained.clear();
            rule!(!stopping || process.told.is_some(), "I4: not told to stop: {process:?}");
            rule!(!killing || process.killed, "I4: not killed: {process:?}");
            rule!(!running || wanted || process.told.is_some(), "not told to stop, and not wanted: {process:?}");
            expected = match (process.killed, process.told, process.ready) {
                (true, ..) => "killing",
                (_, Some(_), _) => "stopping",
                (.., Some(_)) => "ready",
                _ => "booting",
            };
            if let Event::Told(who, report) = self.event {
                if who == process.who && process.told.is_none() && !quiet {
                    rule!(report.worst.unwrap_or(0) == 0, "goes on though unhealthy: {process:?}");
                    rule!(process.ready.is_some() || !report.ready, "is not ready, though it says so: {process:?}");
                }
            }
        } else if slot.forking.is_some() {
            expected = "forking";
        } else if slot.due.is_some() {
            expected = "waiting";
        }
        let state = fleet.nodes()[id as usize].state();
        rule!(state.name() == expected, "node {id} is {state:?}, expected: {expected}");
        let pid = slot.process.as_ref().map(|process| process.pid);
        rule!(state.life().map(|life| life.pid) == pid, "node {id} is {state:?}, expected: process {pid:?}");
        Ok(())
    }

    /// Everything that is due by a certain time: after a tick none of it is due, and the deadline comes before all of it.
    fn obligations(&self, deadline: Option<Instant>) -> Result<(), Broken> {
        let ticked = self.event == Event::Tick;
        let check = |at: Instant, what: &dyn std::fmt::Debug| {
            rule!(!ticked || at > self.now, "due and not done: {what:?}");
            rule!(deadline.is_some_and(|deadline| deadline <= at), "I11: it will sleep through {what:?}");
            Ok(())
        };
        if self.mode == Mode::Over {
            rule!(deadline.is_none(), "it is over and has a deadline");
            return Ok(());
        }
        if let Mode::Stopping { over_by, .. } = self.mode {
            check(over_by, &"I4: the end of the stop")?;
        }
        for slot in &self.slots {
            if let Some(due) = slot.due {
                check(due.to, &("a fork", slot))?;
            }
            let Some(process) = &slot.process else { continue };
            match (process.killed, process.told) {
                (true, _) => {}
                (_, Some((_, at))) => {
                    check(at + self.policy.shutdown_timeout(), &("a kill", process))?;
                    if let Some(at) = process.ask_at(&self.policy) {
                        check(at, &("a question", process))?;
                    }
                }
                (_, None) => {
                    if let Some((at, _)) = process.wrong_at(&self.policy).filter(|_| !self.is_quiet()) {
                        check(at, &("what is wrong", process))?;
                    }
                    if let Some(at) = process.measure_at(&self.policy) {
                        check(at, &("a measurement", process))?;
                    }
                    let by_itself = process.ready_by_itself_at(&self.policy).filter(|_| process.ready.is_none());
                    if let Some(at) = by_itself {
                        check(at, &("readiness", process))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether all nodes that are wanted work, and nothing is under way. Where nodes grow old, as many may be down as
    /// the policy allows.
    pub fn is_settled(&self) -> bool {
        let ages = self.policy.max_lifetime().is_some();
        let works = |slot: &Slot| {
            let works = |process: &Process| process.ready.is_some() && process.told.is_none() && process.over.is_none();
            slot.left || slot.process.as_ref().is_some_and(works) || (ages && slot.down.is_some())
        };
        let (wanted, other) = self.slots.split_at((self.wanted as usize).min(self.slots.len()));
        self.rolling.is_none() && wanted.iter().all(works) && other.iter().all(Slot::is_idle)
    }

    /// Judges the whole run, once it is over.
    pub fn at_the_end(&self) -> Result<(), Broken> {
        let lost = self.lost.len() as u64;
        rule!(self.forks == self.ends + lost, "I3: {} starts, {} ends, {lost} lost", self.forks, self.ends);
        Ok(())
    }

    /// The nodes that did not end though they were killed.
    pub fn lost(&self) -> &[NodeId] {
        &self.lost
    }
}
