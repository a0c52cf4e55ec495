//! When a dead node comes back.
//!
//! A node that had been ready for `stable_after` comes back at once: its death is news. So do the first deaths in a
//! row of a slot whose nodes get ready, since a crash must not cost a partition a second. Everything else looks like a
//! fault that will be there again: it waits, twice as long each time, and `crash_loop_limit` such deaths in a row are
//! a crash loop, of which an operator is told once.

use std::time::Duration;

use crate::policy::Policy;

/// How many deaths in a row of nodes that had been ready are forgiven before a replacement waits.
const FORGIVEN: u32 = 3;

/// How far a node got before it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// It died while it booted.
    NeverReady,
    /// It died so long after it had become ready.
    Ready(Duration),
}

/// What a death means for the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How long the replacement waits.
    pub delay: Duration,
    /// True for the one death in a row that makes it a crash loop.
    pub crash_loop: bool,
}

/// The deaths in a row of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    forgiven: u32,
    /// How many deaths were not forgiven: they make a crash loop.
    deaths: u32,
    /// The same and the forks that failed: they make the delay.
    delayed: u32,
}

impl Backoff {
    /// Counts a death. `jitter` is between 0 and 1 and spreads the delays by a fifth to either side.
    pub fn death(&mut self, tenure: Tenure, policy: &Policy, jitter: f64) -> Verdict {
        if let Tenure::Ready(lasted) = tenure {
            if lasted >= policy.stable_after {
                *self = Self::default();
                return Verdict { delay: Duration::ZERO, crash_loop: false };
            }
            if self.forgiven < FORGIVEN {
                self.forgiven += 1;
                return Verdict { delay: Duration::ZERO, crash_loop: false };
            }
        }
        self.deaths = self.deaths.saturating_add(1);
        self.delayed = self.delayed.saturating_add(1);
        Verdict { delay: self.delay(policy, jitter), crash_loop: self.deaths == policy.crash_loop_limit }
    }

    /// Counts a fork that failed: the system is short of something, and asking again at once would not help it.
    pub fn fork_failed(&mut self, policy: &Policy, jitter: f64) -> Duration {
        self.delayed = self.delayed.saturating_add(1);
        self.delay(policy, jitter)
    }

    fn delay(self, policy: &Policy, jitter: f64) -> Duration {
        // A doubling past 2^31 is above every `backoff_max` that the policy allows.
        let doublings = self.delayed.saturating_sub(1).min(31);
        let whole = policy.backoff_min.saturating_mul(1 << doublings).min(policy.backoff_max);
        whole.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)).min(policy.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTING: Tenure = Tenure::NeverReady;
    const BRIEFLY: Tenure = Tenure::Ready(Duration::from_secs(1));
    const LONG: Tenure = Tenure::Ready(Duration::from_secs(10));

    fn delays(deaths: &[Tenure]) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let policy = Policy::default();
        deaths.iter().map(|tenure| backoff.death(*tenure, &policy, 0.5).delay.as_secs()).collect()
    }

    #[test]
    fn a_failed_boot_waits_twice_as_long_each_time_up_to_the_limit() {
        assert_eq!(delays(&[BOOTING; 7]), [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_stable_node_comes_back_at_once_and_resets_the_count() {
        assert_eq!(delays(&[BOOTING, BOOTING, LONG, BOOTING]), [1, 2, 0, 1]);
    }

    #[test]
    fn three_deaths_of_nodes_that_got_ready_are_forgiven_but_not_a_fourth() {
        assert_eq!(delays(&[BRIEFLY; 6]), [0, 0, 0, 1, 2, 4]);
    }

    #[test]
    fn becoming_ready_alone_does_not_reset_the_count() {
        assert_eq!(delays(&[BOOTING, BOOTING, BRIEFLY, BRIEFLY, BRIEFLY, BRIEFLY, BOOTING]), [1, 2, 0, 0, 0, 4, 8]);
    }

    #[test]
    fn stable_after_zero_asks_only_that_a_node_had_been_ready() {
        let policy = Policy { stable_after: Duration::ZERO, ..Policy::default() };
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            assert_eq!(backoff.death(Tenure::Ready(Duration::ZERO), &policy, 0.5).delay, Duration::ZERO);
        }
        assert_eq!(backoff.death(BOOTING, &policy, 0.5).delay, Duration::from_secs(1));
    }

    #[test]
    fn a_crash_loop_is_told_once_until_the_slot_is_stable_again() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        let mut told = |deaths: &[Tenure]| -> usize {
            deaths.iter().filter(|tenure| backoff.death(**tenure, &policy, 0.5).crash_loop).count()
        };
        assert_eq!(told(&[BOOTING; 4]), 0);
        assert_eq!(told(&[BOOTING; 20]), 1);
        assert_eq!(told(&[LONG]), 0);
        assert_eq!(told(&[BOOTING; 5]), 1);
    }

    #[test]
    fn forks_that_failed_neither_make_a_crash_loop_nor_hide_one() {
        let policy = Policy::default();
        let mut backoff = Backoff::default();
        (0..7).for_each(|_| _ = backoff.fork_failed(&policy, 0.5));
        let told: Vec<bool> = (0..7).map(|_| backoff.death(BOOTING, &policy, 0.5).crash_loop).collect();
        assert_eq!(told, [false, false, false, false, true, false, false]);
    }

    #[test]
    fn a_node_that_dies_at_boot_costs_at_most_ten_forks_a_minute() {
        for jitter in [0.0, 0.5, 1.0] {
            let policy = Policy::default();
            let mut backoff = Backoff::default();
            let (mut at, mut forks) = (Duration::ZERO, 0);
            while at < Duration::from_secs(60) {
                forks += 1;
                at += backoff.death(BOOTING, &policy, jitter).delay;
            }
            assert!(forks <= 10, "{forks} forks with jitter {jitter}");
        }
    }
}
