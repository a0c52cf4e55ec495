//! What handing over costs, against what it may cost.

use super::{MS, Nanos, Settings, Waits};

/// What a passage costs until one was measured.
const FIRST_ESTIMATE: Nanos = 60_000;

/// No gap counts for more: the machine was busy with something else.
const LONGEST_GAP: Nanos = 2 * MS;

/// How much time can be saved up for a burst.
const SAVINGS: f64 = 2.0 * MS as f64;

/// What has happened since the turnstile was made.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Times that a light thread has got the GVL after asking for it.
    pub wake_ups: u64,
    /// Times that whoever had the GVL was asked to hand it over.
    pub nudges: u64,
    /// How long the light threads waited for the GVL.
    pub waits: Waits,
    /// Time lost to handing over, in nanoseconds.
    pub lost: Nanos,
    /// All of the time, in nanoseconds.
    pub time: Nanos,
    /// Threads that are light now.
    pub light: usize,
    /// Threads that are heavy now.
    pub heavy: usize,
}

#[derive(Debug)]
pub(super) struct Account {
    budget: f64,
    /// Heavy threads run at least for the time that light ones had since they last did, times this.
    heavy_for_light: f64,
    /// Below 0: overdrawn.
    saved: f64,
    refilled: Nanos,
    estimate: Nanos,
    passage: Option<Passage>,
    /// Until when the heavy thread that ended the last passage may run.
    owed_until: Nanos,
    since: Nanos,
    counts: Counts,
}

/// From a heavy thread's step aside to the next run of a heavy thread.
#[derive(Debug)]
struct Passage {
    since: Nanos,
    cost: Nanos,
    /// What is still owed to the heavy threads from the one before.
    owed: Nanos,
    /// Since when nobody has the GVL.
    gap: Option<Nanos>,
}

impl Account {
    pub fn new(settings: &Settings, now: Nanos) -> Self {
        Self {
            budget: settings.budget,
            heavy_for_light: settings.keep / (1.0 - settings.keep),
            saved: SAVINGS,
            refilled: now,
            estimate: FIRST_ESTIMATE,
            passage: None,
            owed_until: 0,
            since: now,
            counts: Counts::default(),
        }
    }

    /// Goes on without what is under way.
    pub fn afresh(self) -> Self {
        Self { passage: None, owed_until: 0, ..self }
    }

    pub fn refill(&mut self, now: Nanos) {
        let earned = now.saturating_sub(self.refilled) as f64 * self.budget;
        self.saved = (self.saved + earned).min(SAVINGS);
        self.refilled = self.refilled.max(now);
    }

    /// When there is enough for one more passage.
    pub fn affords_at(&self, now: Nanos) -> Nanos {
        let missing = self.estimate as f64 - self.saved;
        let saved = if missing <= 0.0 { now } else { self.refilled + (missing / self.budget).ceil() as Nanos };
        saved.max(self.owed_until)
    }

    /// Until when the heavy thread that has the GVL may run because light ones had much of it.
    pub fn owed_until(&self) -> Nanos {
        self.owed_until
    }

    /// A heavy thread steps aside.
    pub fn passage(&mut self, now: Nanos) {
        self.refill(now);
        if self.passage.is_none() {
            self.passage = Some(Passage { since: now, cost: 0, owed: self.owed_until.saturating_sub(now), gap: None });
        }
    }

    pub fn suspended(&mut self, now: Nanos) {
        if let Some(passage) = &mut self.passage {
            passage.gap = Some(now);
        }
    }

    /// The step aside did not come about.
    pub fn unless_suspended(&mut self) {
        if self.passage.as_ref().is_some_and(|passage| passage.cost == 0 && passage.gap.is_none()) {
            self.passage = None;
        }
    }

    pub fn resumed(&mut self, heavy: bool, now: Nanos) {
        let Some(passage) = &mut self.passage else { return };
        if let Some(gap) = passage.gap.take() {
            let lost = now.saturating_sub(gap).min(LONGEST_GAP);
            passage.cost += lost;
            self.counts.lost += lost;
            self.saved -= lost as f64;
        }
        if heavy {
            self.estimate = ((self.estimate * 7 + passage.cost) / 8).min(SAVINGS as Nanos / 2);
            let by_light = now.saturating_sub(passage.since + passage.cost);
            self.owed_until = now + passage.owed + (by_light as f64 * self.heavy_for_light) as Nanos;
            self.passage = None;
        }
    }

    pub fn nudge(&mut self) {
        self.counts.nudges += 1;
    }

    pub fn wait(&mut self, wait: Nanos) {
        self.counts.wake_ups += 1;
        self.counts.waits.add(wait);
    }

    pub fn counts(&self, light: usize, heavy: usize, now: Nanos) -> Counts {
        Counts { light, heavy, time: now.saturating_sub(self.since), ..self.counts.clone() }
    }
}
