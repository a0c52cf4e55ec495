//! What can wait: who is down for it, who is next, and who has to be told that it waits.

use swarm_core::fleet::Event;
use swarm_core::node::NodeId;
use swarm_core::notice::{Notice, Reason};

use super::Oracle;
use super::slot::Process;
use crate::model::{Broken, rule};

impl Oracle {
    /// How many nodes are down for what could wait.
    pub(super) fn down(&self) -> usize {
        self.slots.iter().filter(|slot| slot.down.is_some()).count()
    }

    pub(super) fn give_up_roll(&mut self) {
        self.rolling = None;
        self.waiting = None;
        for slot in &mut self.slots {
            slot.down = None;
            slot.roll_failed = false;
        }
    }

    /// Whether all that may be down are down, and none of them comes back by itself.
    fn is_stuck(&self) -> bool {
        let mut down = self.slots.iter().filter_map(|slot| slot.down);
        self.down() >= self.policy.max_unavailable() as usize && down.all(|down| down.failed)
    }

    /// Somebody is told that a node has to wait for its replacement.
    pub(super) fn waits(&mut self, id: NodeId, notice: &Notice) -> Result<(), Broken> {
        rule!(self.is_running() && self.is_stuck(), "nothing hinders it: {notice:?}");
        let slots = self.slots.iter();
        let mut up = slots.filter_map(|slot| slot.process.as_ref()).filter(|process| process.told.is_none());
        let told = up.clone().find(|process| Some(process.who) == self.waiting);
        rule!(told.is_none(), "told twice: {notice:?}, {told:?}");
        let Some(process) = up.find(|process| process.who.id == id) else {
            return Err(Broken(format!("{notice:?} of a node that is not up")));
        };
        let is_true = match notice.reason {
            Some(Reason::Restart) => self.rolling.is_some(),
            Some(Reason::MemoryLimit(bytes)) => process.over == Some(bytes),
            Some(Reason::MaxLifetime) => process.old_within(&self.policy).is_some_and(|old| self.now >= old.from),
            _ => false,
        };
        rule!(is_true, "{notice:?} is not true: {process:?}");
        self.waiting = Some(process.who);
        Ok(())
    }

    /// The processes that work and are not told to stop.
    fn working(&self) -> impl Iterator<Item = &Process> {
        let processes = self.slots.iter().filter_map(|slot| slot.process.as_ref());
        processes.filter(|process| process.ready.is_some() && process.told.is_none())
    }

    /// Whether a node may have become too old. When exactly is up to chance, and it may have to wait for its turn.
    pub(super) fn may_grow_old(&self) -> bool {
        self.working().any(|process| process.old_within(&self.policy).is_some_and(|old| self.now >= old.from))
    }

    /// What can wait is done as soon as enough nodes are up, and somebody is told when a rolling restart is done.
    pub(super) fn plan(&mut self) -> Result<(), Broken> {
        if !self.is_running() {
            return Ok(());
        }
        if !self.is_stuck() {
            self.waiting = None;
        }
        let since = self.rolling.unwrap_or(0);
        let up = self.slots.iter().filter_map(|slot| slot.process.as_ref()).filter(|process| process.told.is_none());
        let old = up.clone().find(|process| process.number <= since);
        if self.down() < self.policy.max_unavailable() as usize {
            rule!(old.is_none(), "the rolling restart does not go on: {old:?}");
            let ticked = self.event == Event::Tick;
            let ripe = |process: &&Process| {
                let old = process.old_within(&self.policy).is_some_and(|old| ticked && self.now >= old.to);
                process.over.is_some() || old
            };
            let ripe = self.working().find(ripe);
            rule!(ripe.is_none(), "nothing hinders its replacement: {ripe:?}");
            let rolled = self
                .slots
                .iter()
                .filter_map(|slot| slot.down)
                .any(|down| !down.failed && down.reason == Reason::Restart);
            rule!(self.rolling.is_none() || rolled, "the rolling restart is done, and nobody was told");
        } else if self.is_stuck() && self.waiting.is_none() {
            rule!(old.is_none(), "the rolling restart waits, and nobody was told: {old:?}");
            let over = self.working().find(|process| process.over.is_some());
            rule!(over.is_none(), "its replacement waits, and nobody was told: {over:?}");
        }
        Ok(())
    }
}
