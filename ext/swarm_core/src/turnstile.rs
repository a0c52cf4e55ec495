//! Who is asked to hand the GVL over, for whom and when.
//!
//! Ruby's threads queue for the GVL, first come, first served, and one that burns CPU keeps it for 100 ms. The rules
//! here let a *light* thread pass, one that has used little since it last waited for something: whoever has the GVL is
//! nudged until the light one has run. A *heavy* thread that is nudged goes to the end of Ruby's queue where it has the
//! *turn*; without it, it parks outside of the queue until the turn comes to it. So at most one heavy thread stands in
//! the queue, and one nudge is enough.
//!
//! What handing over costs is measured and bounded: the budget is a bucket of time that fills with a share of the time
//! and that each passage, from the heavy thread's step aside to the next heavy thread's run, empties.
//!
//! Pure: events and the time come in, and what is to be done goes out as values. Events may be lost (the VM does not
//! tell of every one), so none is trusted to follow another.

mod account;
mod settings;
mod waits;

use std::collections::VecDeque;

pub use account::Counts;
pub use settings::{Invalid, Settings};
pub use waits::Waits;

use account::Account;

/// Nanoseconds since some moment.
pub type Nanos = u64;

const NEVER: Nanos = Nanos::MAX;
const MS: Nanos = 1_000_000;

/// A wait that its thread ends itself in less is not one: so fast does Ruby take the GVL back for a thread that it
/// has preempted, and a system call that returns at once.
const SHORTEST_WAIT: Nanos = 20_000;

/// What Ruby gives to a busy thread, and what one gets here where few are busy.
const SLICE: Nanos = 100 * MS;
const SHORTEST_SLICE: Nanos = 10 * MS;

/// How long heavy threads stay parked without a light one that wants to pass.
const PATIENCE: Nanos = 1_000 * MS;

/// The pause between two nudges doubles up to this while they have no effect: whoever has the GVL is in a long C call.
const LONGEST_PAUSE: Nanos = 2 * MS;

/// When to look again where a light thread waits and it is not known who has the GVL.
const UNKNOWN: Nanos = MS;

/// How much later than it should the nudging thread may look.
const LATE: Nanos = 20_000;

/// A thread that the turnstile knows of, from [`Turnstile::add`] to [`Turnstile::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(pub u32);

/// What a thread counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Light or heavy by what it uses.
    #[default]
    Auto,
    /// Light, set by hand: never asked to hand over.
    Light,
    /// Heavy, set by hand: nobody is asked to hand over to it.
    Heavy,
}

/// What a nudged thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Goes on: nobody wants to pass any more, or it is light itself.
    Stay,
    /// Gives the GVL away and queues for it at once. Tell [`Turnstile::back`] afterwards.
    Yield,
    /// Gives the GVL away and queues for it once it is told to ([`Turnstile::unparked`]). Tell [`Turnstile::back`]
    /// afterwards.
    Park,
}

/// What the nudging thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nudges whoever has the GVL and asks again.
    Nudge,
    /// Asks again at this time, or when it is roused.
    At(Nanos),
    /// Asks again when it is roused.
    Sleep,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Waits for something, as far as is known.
    Away { since: Nanos },
    /// In Ruby's queue. `light`: it counts among those that want to pass.
    Ready { since: Nanos, light: bool },
    /// Has the GVL.
    Running { since: Nanos },
}

#[derive(Debug)]
struct Thread {
    class: Class,
    place: Place,
    /// GVL time since it last waited for something.
    used: Nanos,
    /// It was nudged, and gives the GVL away for that reason.
    aside: bool,
}

/// The rules. See the module.
#[derive(Debug)]
pub struct Turnstile {
    settings: Settings,
    threads: Vec<Option<Thread>>,
    free: Vec<u32>,
    holder: Option<ThreadId>,
    /// Light threads in Ruby's queue.
    waiting: usize,
    last_light: Nanos,
    turn: Option<ThreadId>,
    turn_since: Nanos,
    turn_used: Nanos,
    /// Had the turn until its slice was over, and still has the GVL.
    turned_out: Option<ThreadId>,
    parked: VecDeque<ThreadId>,
    unparked: Vec<ThreadId>,
    last_nudge: Nanos,
    pause: Nanos,
    /// Until when a light thread that has the GVL is not looked at; grows while that leads to nothing.
    watch: Nanos,
    watch_from: Nanos,
    /// When the nudging thread looks next.
    looks_at: Nanos,
    account: Account,
}

impl Turnstile {
    /// No thread is known, and the nudging thread sleeps.
    pub fn new(settings: Settings, now: Nanos) -> Self {
        Self {
            settings,
            threads: Vec::new(),
            free: Vec::new(),
            holder: None,
            waiting: 0,
            last_light: now,
            turn: None,
            turn_since: now,
            turn_used: 0,
            turned_out: None,
            parked: VecDeque::new(),
            unparked: Vec::new(),
            last_nudge: 0,
            pause: settings.nudge_interval,
            watch: settings.light,
            watch_from: 0,
            looks_at: NEVER,
            account: Account::new(&settings, now),
        }
    }

    /// The same without the threads: for when events were missed.
    pub fn afresh(self, now: Nanos) -> Self {
        Self { account: self.account.afresh(), ..Self::new(self.settings, now) }
    }

    /// What was set.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Makes a thread known.
    pub fn add(&mut self, class: Class, now: Nanos) -> ThreadId {
        let thread = Thread { class, place: Place::Away { since: now }, used: 0, aside: false };
        if let Some(index) = self.free.pop() {
            self.threads[index as usize] = Some(thread);
            return ThreadId(index);
        }
        self.threads.push(Some(thread));
        ThreadId(self.threads.len() as u32 - 1)
    }

    /// Forgets a thread, which has ended.
    pub fn remove(&mut self, id: ThreadId, now: Nanos) {
        self.suspended(id, now);
        self.leave_queue(id);
        if self.threads.get_mut(id.0 as usize).and_then(Option::take).is_some() {
            self.parked.retain(|parked| *parked != id);
            self.free.push(id.0);
        }
    }

    /// Sets by hand what a thread counts as.
    pub fn set_class(&mut self, id: ThreadId, class: Class) {
        let Some(thread) = self.thread(id) else { return };
        thread.class = class;
        if class == Class::Heavy {
            self.leave_queue(id);
        }
    }

    /// A thread wants the GVL. `woken`: another thread has ended its wait, or it is new. True: rouse the nudging thread.
    pub fn ready(&mut self, id: ThreadId, woken: bool, now: Nanos) -> bool {
        let light_below = self.settings.light;
        let Some(thread) = self.thread(id) else { return false };
        let Place::Away { since } = thread.place else { return false };
        if !thread.aside && (woken || now.saturating_sub(since) >= SHORTEST_WAIT) {
            thread.used = 0;
        }
        let light = thread.is_light(light_below) && !thread.aside;
        thread.place = Place::Ready { since: now, light };
        if !light {
            return false;
        }
        self.waiting += 1;
        self.last_light = now;
        self.rouse(now)
    }

    /// A thread has got the GVL. True: rouse the nudging thread.
    pub fn resumed(&mut self, id: ThreadId, now: Nanos) -> bool {
        if let Some(since) = self.leave_queue(id) {
            self.account.wait(now.saturating_sub(since));
        }
        let light_below = self.settings.light;
        let Some(thread) = self.thread(id) else { return false };
        thread.place = Place::Running { since: now };
        let heavy = !thread.is_light(light_below);
        if self.holder != Some(id) {
            self.pause = self.settings.nudge_interval;
        }
        self.holder = Some(id);
        self.account.resumed(heavy, now);
        (self.waiting > 0 || !self.parked.is_empty()) && self.rouse(now)
    }

    /// A thread has given the GVL away, because it waits for something, was preempted or steps aside.
    pub fn suspended(&mut self, id: ThreadId, now: Nanos) {
        self.leave_queue(id);
        let Some(thread) = self.thread(id) else { return };
        let Place::Running { since } = thread.place else {
            thread.place = Place::Away { since: now };
            return;
        };
        let ran = now.saturating_sub(since);
        thread.used += ran;
        thread.place = Place::Away { since: now };
        let aside = thread.aside;
        if self.holder == Some(id) {
            self.holder = None;
        }
        if self.turned_out == Some(id) {
            self.turned_out = None;
        }
        self.account.suspended(now);
        if self.turn == Some(id) {
            self.turn_used += now.saturating_sub(since.max(self.turn_since));
            if !aside {
                self.pass_turn(now);
            }
        }
    }

    /// The nudge has reached a thread.
    pub fn step(&mut self, id: ThreadId, now: Nanos) -> Step {
        self.pause = self.settings.nudge_interval;
        // It has the GVL, whatever was told of it.
        if self.holder != Some(id) {
            self.leave_queue(id);
            let Some(thread) = self.thread(id) else { return Step::Stay };
            thread.place = Place::Running { since: now };
            self.holder = Some(id);
        }
        let heavy = self.is_heavy(id, now);
        if !heavy && self.turned_out == Some(id) {
            self.turned_out = None;
        }
        if !heavy || (self.waiting == 0 && self.turned_out != Some(id)) {
            return Step::Stay;
        }
        if self.turn.is_none() {
            self.take_turn(Some(id), now);
        }
        if let Some(thread) = self.thread(id) {
            thread.aside = true;
        }
        self.account.passage(now);
        if self.turn == Some(id) {
            return Step::Yield;
        }
        self.parked.push_back(id);
        Step::Park
    }

    /// A thread that has stepped aside has the GVL again, or has not given it away because it was interrupted.
    pub fn back(&mut self, id: ThreadId) {
        if let Some(thread) = self.thread(id) {
            thread.aside = false;
        }
        self.parked.retain(|parked| *parked != id);
        self.account.unless_suspended();
    }

    /// Threads that queue for the GVL again, once: they have got the turn, or nobody wants to pass any more.
    pub fn unparked(&mut self) -> std::vec::Drain<'_, ThreadId> {
        self.unparked.drain(..)
    }

    /// Lets all threads queue again.
    pub fn release(&mut self) {
        self.turn = None;
        self.unparked.extend(self.parked.drain(..));
    }

    /// What the nudging thread does now.
    pub fn look(&mut self, now: Nanos) -> Next {
        self.account.refill(now);
        if !self.parked.is_empty() && self.waiting == 0 && now >= self.last_light.saturating_add(PATIENCE) {
            self.release();
        }
        if !self.parked.is_empty() && self.turn.is_none() {
            self.pass_turn(now);
        }
        if self.turn_is_over_at().is_some_and(|end| now >= end) {
            self.turned_out = self.turn;
            self.pass_turn(now);
        }
        self.watch_from = now;
        let due = self.due(now);
        if due <= now {
            self.last_nudge = now;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE.max(self.settings.nudge_interval));
            self.watch = self.settings.light;
            self.account.nudge();
            self.looks_at = now;
            return Next::Nudge;
        }
        if self.waiting > 0 {
            self.watch = (self.watch * 2).min(8 * self.settings.light);
        }
        self.looks_at = due;
        if due == NEVER { Next::Sleep } else { Next::At(due) }
    }

    /// Whether a thread is let through by what it has used so far.
    pub fn is_light(&self, id: ThreadId, now: Nanos) -> bool {
        self.heavy_at(id).is_some_and(|at| now < at)
    }

    /// What has happened so far, and how many threads are light and heavy now.
    pub fn counts(&mut self, now: Nanos) -> Counts {
        let heavy = (0..self.threads.len() as u32).filter(|id| self.is_heavy(ThreadId(*id), now)).count();
        let all = self.threads.len() - self.free.len();
        self.account.counts(all - heavy, heavy, now)
    }

    fn thread(&mut self, id: ThreadId) -> Option<&mut Thread> {
        self.threads.get_mut(id.0 as usize)?.as_mut()
    }

    /// Whether it is heavy by now: what it is using counts.
    fn is_heavy(&self, id: ThreadId, now: Nanos) -> bool {
        self.heavy_at(id).is_some_and(|at| now >= at)
    }

    /// When a thread becomes heavy if it goes on as it does. `None`: there is no such thread.
    fn heavy_at(&self, id: ThreadId) -> Option<Nanos> {
        let thread = self.threads.get(id.0 as usize)?.as_ref()?;
        Some(match (thread.class, thread.place) {
            (Class::Heavy, _) => 0,
            (Class::Light, _) => NEVER,
            (Class::Auto, _) if thread.used >= self.settings.light => 0,
            (Class::Auto, Place::Running { since }) => since + (self.settings.light - thread.used),
            (Class::Auto, _) => NEVER,
        })
    }

    /// Takes a thread out of those that want to pass; since when it did.
    fn leave_queue(&mut self, id: ThreadId) -> Option<Nanos> {
        let thread = self.thread(id)?;
        let Place::Ready { since, light: true } = thread.place else { return None };
        thread.place = Place::Ready { since, light: false };
        self.waiting -= 1;
        Some(since)
    }

    fn pass_turn(&mut self, now: Nanos) {
        let next = self.parked.pop_front();
        self.unparked.extend(next);
        self.take_turn(next, now);
    }

    fn take_turn(&mut self, id: Option<ThreadId>, now: Nanos) {
        self.turn = id;
        self.turn_since = now;
        self.turn_used = 0;
    }

    /// When whoever has the GVL and the turn loses it, if others wait for it.
    fn turn_is_over_at(&self) -> Option<Nanos> {
        let holder = self.holder.filter(|holder| self.turn == Some(*holder) && !self.parked.is_empty())?;
        let Place::Running { since } = self.threads.get(holder.0 as usize)?.as_ref()?.place else { return None };
        let slice = (SLICE / (self.parked.len() as Nanos + 1)).max(SHORTEST_SLICE);
        let since = since.max(self.turn_since);
        let by_use = (since + slice.saturating_sub(self.turn_used)).max(self.account.affords_at(since));
        // Where light threads take most of the time, nobody waits longer for the turn than in Ruby.
        let by_time = (self.turn_since + SLICE)
            .max(since + (slice / 4).saturating_sub(self.turn_used))
            .max(self.account.owed_until());
        Some(by_use.min(by_time))
    }

    /// When to look. At most `now`: nudge.
    fn due(&self, now: Nanos) -> Nanos {
        let mut due = NEVER;
        if !self.parked.is_empty() {
            due = self.turn_is_over_at().unwrap_or(NEVER).min(self.last_light.saturating_add(PATIENCE).max(now + MS));
        }
        let next_nudge = self.last_nudge + self.pause;
        if self.turned_out.is_some() {
            due = due.min(next_nudge);
        }
        if self.waiting == 0 {
            return due;
        }
        let allowed = next_nudge.max(self.account.affords_at(now));
        due.min(match self.holder.and_then(|holder| self.heavy_at(holder)) {
            Some(heavy_at) if now >= heavy_at => allowed,
            Some(heavy_at) => heavy_at.max(self.watch_from + self.watch),
            None => allowed.max(self.last_light + UNKNOWN),
        })
    }

    /// True where the nudging thread sleeps longer than it should.
    fn rouse(&mut self, now: Nanos) -> bool {
        // Nobody has it: the next one has been chosen, and will tell of itself.
        if self.holder.is_none() {
            return false;
        }
        let due = self.due(now);
        if due == NEVER || due.saturating_add(LATE) >= self.looks_at {
            return false;
        }
        self.looks_at = due;
        true
    }
}

impl Thread {
    fn is_light(&self, below: Nanos) -> bool {
        match self.class {
            Class::Auto => self.used < below,
            Class::Light => true,
            Class::Heavy => false,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
