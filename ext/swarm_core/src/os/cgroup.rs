//! Evidence that the kernel has killed for want of memory: the counter of this process's control group.
//!
//! A process that the OOM killer ends looks like any other that got SIGKILL. Only the control group's `memory.events`
//! tells, and only a counter that has gone up since the last look is evidence.

use std::fs;
use std::path::PathBuf;

/// The kills for want of memory in this process's control group, as far as they have been accounted for.
#[derive(Debug)]
pub struct OomKills {
    events: Option<PathBuf>,
    seen: u64,
}

impl OomKills {
    /// Begins to count. Without a control group of version 2 there is never evidence.
    pub fn watch() -> Self {
        let events = own_group().map(|group| PathBuf::from("/sys/fs/cgroup").join(group).join("memory.events"));
        let mut kills = Self { events, seen: 0 };
        kills.seen = kills.count().unwrap_or(0);
        kills
    }

    /// True where a kill has been counted that no earlier call has been told of. Each accounts for one process.
    pub fn take(&mut self) -> bool {
        let more = self.count().is_some_and(|count| count > self.seen);
        self.seen += u64::from(more);
        more
    }

    fn count(&self) -> Option<u64> {
        let events = fs::read_to_string(self.events.as_ref()?).ok()?;
        events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }
}

fn own_group() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_that_is_counted_is_told_once() {
        let path = std::env::temp_dir().join(format!("memory.events.{}", std::process::id()));
        let count = |kills: u64| fs::write(&path, format!("low 0\nhigh 3\noom 9\noom_kill {kills}\n")).unwrap();
        count(4);
        let mut kills = OomKills { events: Some(path.clone()), seen: 4 };
        assert!(!kills.take());
        count(6);
        assert_eq!([kills.take(), kills.take(), kills.take()], [true, true, false]);
        fs::remove_file(&path).unwrap();
        assert!(!kills.take());
    }

    #[test]
    fn without_a_control_group_there_is_no_evidence() {
        assert!(!OomKills { events: None, seen: 0 }.take());
    }
}
