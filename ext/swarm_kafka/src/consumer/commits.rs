//! What becomes of commits that nobody waits for: those of `enable.auto.commit`, and those that were begun and left.

use std::time::{Duration, Instant};

use super::Consumer;
use super::polling::{Left, Notice, Wants};
use crate::error::{KafkaError, code};
use crate::partitions::{Partition, Partitions};
use crate::queue::Event;
use crate::sys;

/// A failure that goes on is told twice a minute.
const QUIET: Duration = Duration::from_secs(30);
/// So many partitions are named in an error's text.
const NAMED: usize = 5;

/// A failure that was told, and how often it came since.
#[derive(Default)]
pub(super) struct Failing {
    told: Option<(i32, Instant)>,
    since: u64,
}

impl Failing {
    /// Whether to tell of a failure now: with how many like it that were not told.
    fn fails(&mut self, code: i32, now: Instant) -> Option<u64> {
        match self.told {
            Some((known, at)) if known == code && now.duration_since(at) < QUIET => {
                self.since += 1;
                None
            }
            _ => {
                self.told = Some((code, now));
                Some(std::mem::take(&mut self.since))
            }
        }
    }

    fn works(&mut self) {
        *self = Self::default();
    }
}

/// What may happen to a commit of a group's member whenever the group changes. Nothing is lost by it: what is this
/// member's still is committed by the next commit, and of what is not a listener hears by the rebalance.
fn comes_with_a_rebalance(code: i32) -> bool {
    matches!(
        code,
        code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID | code::REBALANCE_IN_PROGRESS | code::STALE_MEMBER_EPOCH
    )
}

/// The failure of a commit, with the partitions that it concerns; nothing where all is as it should be.
fn failure(code: i32, partitions: Vec<Partition>, member: impl FnOnce() -> bool) -> Option<(i32, Vec<Partition>)> {
    let (code, concerned) = if code == code::NO_ERROR {
        let code = partitions.iter().find(|partition| partition.code != code::NO_ERROR)?.code;
        (code, partitions.into_iter().filter(|partition| partition.code != code::NO_ERROR).collect())
    } else {
        // Without an offset it was not to be committed.
        (code, partitions.into_iter().filter(|partition| partition.offset.is_some()).collect())
    };
    // Nothing was stored; or the client ends, which commits in its own way.
    let normal = matches!(code, code::NO_OFFSET | code::DESTROY) || comes_with_a_rebalance(code) && member();
    (!normal).then_some((code, concerned))
}

fn said(code: i32, concerned: &[Partition], more: u64) -> String {
    let place = |it: &Partition| match it.offset {
        Some(offset) => format!("{}/{} at {offset}", it.topic, it.partition),
        None => format!("{}/{}", it.topic, it.partition),
    };
    let mut places: Vec<_> = concerned.iter().take(NAMED).map(place).collect();
    if concerned.len() > NAMED {
        places.push(format!("{} more", concerned.len() - NAMED));
    }
    let before = if more > 0 { format!("; so did {more} before it") } else { String::new() };
    format!("a commit failed: {} ({}){before}", KafkaError::of(code).message, places.join(", "))
}

fn partitions_of(event: &Event) -> Vec<Partition> {
    // SAFETY: the event lives; its list is copied.
    unsafe { Partitions::copy(sys::rd_kafka_event_topic_partition_list(event.as_ptr())) }.to_vec()
}

/// A commit has ended while the group is being left: nobody polls any more, who could be told.
pub(super) fn log_failure(event: &Event) {
    if let Some((code, concerned)) = failure(event.code(), partitions_of(event), || false) {
        let message = said(code, &concerned, 0);
        tracing::warn!(target: "librdkafka", name = crate::error::name_of(code), "{message}");
    }
}

impl Consumer {
    /// A commit that nobody waits for has ended.
    pub(super) fn look_at_commit(&self, event: &Event, left: &mut Left) {
        let is_member = || self.subscription().is_ok_and(|topics| !topics.is_empty());
        let Some((code, concerned)) = failure(event.code(), partitions_of(event), is_member) else {
            if event.code() == code::NO_ERROR {
                left.failing.works();
            }
            return;
        };
        let message = said(code, &concerned, 0);
        tracing::warn!(target: "librdkafka", name = crate::error::name_of(code), "{message}");
        if let (true, Some(more)) = (self.wants(Wants::ERROR), left.failing.fails(code, Instant::now())) {
            let error = KafkaError::with(code, said(code, &concerned, more));
            left.notice = Some(Notice::Commit(error, concerned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: Option<i64>, code: i32) -> Partition {
        Partition { topic: "t".into(), partition, offset, code }
    }

    #[test]
    fn a_failure_is_that_of_the_request_or_of_the_partitions_that_have_one() {
        let member = || panic!("that does not matter");
        assert_eq!(failure(0, vec![at(0, Some(1), 0)], member), None);
        assert_eq!(failure(code::NO_OFFSET, vec![], member), None);
        assert_eq!(failure(code::DESTROY, vec![at(0, Some(1), 0)], member), None);
        let found = failure(0, vec![at(0, Some(1), 0), at(1, Some(7), 29)], member);
        assert_eq!(found, Some((29, vec![at(1, Some(7), 29)])));
        let found = failure(30, vec![at(0, Some(1), 30), at(1, None, 0)], member);
        assert_eq!(found, Some((30, vec![at(0, Some(1), 30)])));
    }

    #[test]
    fn what_comes_with_a_rebalance_is_no_failure_for_a_member_but_for_who_has_no_group() {
        for code in [22, 25, 27, 113] {
            assert_eq!(failure(code, vec![at(0, Some(1), 0)], || true), None);
            assert_eq!(failure(code, vec![at(0, Some(1), 0)], || false), Some((code, vec![at(0, Some(1), 0)])));
        }
    }

    #[test]
    fn a_failure_that_goes_on_is_told_twice_a_minute_with_how_often_it_came() {
        let (mut failing, begin) = (Failing::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(failing.fails(30, after(0)), Some(0));
        assert_eq!((failing.fails(30, after(1)), failing.fails(30, after(2))), (None, None));
        assert_eq!(failing.fails(30, after(30)), Some(2));
        failing.works();
        assert_eq!((failing.fails(30, after(31)), failing.fails(29, after(31))), (Some(0), Some(0)));
    }

    #[test]
    fn the_text_names_some_of_the_partitions() {
        let many: Vec<_> = (0..7).map(|number| at(number, Some(9), 0)).collect();
        let text = said(30, &many, 3);
        assert!(text.contains("t/0 at 9, ") && text.ends_with("t/4 at 9, 2 more); so did 3 before it"), "{text}");
    }
}
