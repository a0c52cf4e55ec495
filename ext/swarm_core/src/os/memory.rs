//! How much memory a process needs.
//!
//! The resident set is cheap to ask for (microseconds) and never smaller than the proportional one, whose sum over all
//! mappings the kernel has to work out (13 to 17 ms a GB, during which it holds up the process's own mmap). So the
//! second question is asked only of a process whose first answer is over the limit.

use std::fs;

use super::pidfd::Pidfd;
use crate::policy::MemoryMetric;

/// The memory of a process in bytes. With [`MemoryMetric::Pss`] and below `limit` it is the resident set, which then
/// answers the question as well. None where the process has ended.
pub fn measure(process: &Pidfd, metric: MemoryMetric, limit: u64) -> Option<u64> {
    let resident = resident(process.pid())?;
    let bytes = match metric {
        MemoryMetric::Pss if resident > limit => proportional(process.pid()).unwrap_or(resident),
        MemoryMetric::Pss | MemoryMetric::Rss => resident,
    };
    // The pid may be somebody else's by now only if the process has ended.
    (!process.exited()).then_some(bytes)
}

fn resident(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Pidfd {
        Pidfd::open(std::process::id() as i32).unwrap()
    }

    #[test]
    fn the_proportional_share_is_asked_for_only_over_the_limit_and_is_not_larger() {
        let resident = measure(&own(), MemoryMetric::Rss, 0).unwrap();
        let proportional = measure(&own(), MemoryMetric::Pss, 0).unwrap();
        assert!(proportional < resident, "{proportional} of {resident}");
        assert!(measure(&own(), MemoryMetric::Pss, u64::MAX).unwrap() > proportional);
    }

    #[test]
    fn what_is_allocated_is_seen() {
        let before = measure(&own(), MemoryMetric::Rss, 0).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = measure(&own(), MemoryMetric::Rss, 0).unwrap();
        assert!(after > before + (48 << 20), "{before} {after}");
        drop(block);
    }

    #[test]
    fn a_process_that_has_ended_has_none() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let handle = Pidfd::open(child.id() as i32).unwrap();
        child.wait().unwrap();
        assert_eq!(measure(&handle, MemoryMetric::Rss, 0), None);
    }
}
