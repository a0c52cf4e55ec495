//! How long light threads waited for the GVL.

use super::Nanos;

/// Steps between a time and its double.
const STEPS: usize = 4;

/// The last one is over four minutes.
const BUCKETS: usize = STEPS * 28;

/// The smallest time that is told apart.
const LEAST: Nanos = 1_000;

/// A histogram of times, whose buckets are 19 % wide.
#[derive(Clone, Debug)]
pub struct Waits {
    counts: [u64; BUCKETS],
}

impl Default for Waits {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Waits {
    /// Counts one wait.
    pub fn add(&mut self, wait: Nanos) {
        self.counts[bucket(wait)] += 1;
    }

    /// All that have counted something: the time that the bucket ends with, in seconds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, count)| (end(index), *count))
    }
}

fn bucket(wait: Nanos) -> usize {
    if wait <= LEAST {
        return 0;
    }
    let octaves = (wait as f64 / LEAST as f64).log2();
    ((octaves * STEPS as f64).ceil() as usize).min(BUCKETS - 1)
}

fn end(index: usize) -> f64 {
    LEAST as f64 / 1e9 * (index as f64 / STEPS as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Waits, bucket, end};

    #[test]
    fn a_wait_is_never_longer_than_the_end_of_its_bucket_and_at_most_a_fifth_shorter() {
        for wait in (0..40_000_000_000).step_by(7_777_777).chain(0..3_000) {
            let end = end(bucket(wait)) * 1e9;
            assert!(wait as f64 <= end * 1.000_001 && (wait <= 1_000 || wait as f64 > end / 1.2), "{wait} {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn only_buckets_that_have_counted_are_told() {
        let mut waits = Waits::default();
        waits.add(500);
        waits.add(2_000);
        waits.add(2_000);
        assert_eq!(waits.buckets().map(|(end, count)| (end * 1e9).round() as u64 * 10 + count).sum::<u64>(), 30_003);
    }
}
