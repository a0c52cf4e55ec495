//! librdkafka's log lines, kept for whoever wants to hear of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One line of librdkafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Syslog's level: 3 an error, 4 a warning, 6 information, 7 debugging.
    pub level: i32,
    /// What it is about, such as `FAIL`.
    pub facility: String,
    /// The line.
    pub text: String,
}

/// How many lines wait at most. Who does not come for them in time loses the oldest.
const MOST: usize = 1000;

/// Lines of one handle that nobody has taken yet.
#[derive(Default)]
pub struct Lines {
    wanted: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Line>,
    /// Lines that gave way since that was told last.
    lost: u64,
}

impl Kept {
    /// A line that says how many are missing before the oldest.
    fn gap(&mut self) -> Option<Line> {
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then(|| Line {
            level: 4,
            facility: "LOST".into(),
            text: format!("{lost} lines of the log were lost here: they came faster than they were heard"),
        })
    }

    fn next(&mut self) -> Option<Line> {
        self.gap().or_else(|| self.lines.pop_front())
    }
}

impl Lines {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps lines from now on, or no more.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Keeps a line, if anybody wants it.
    pub(crate) fn push(&self, line: impl FnOnce() -> Line) {
        if self.wanted.load(Ordering::Relaxed) {
            let line = line();
            let mut kept = self.kept();
            if kept.lines.len() == MOST {
                kept.lines.pop_front();
                kept.lost += 1;
            }
            kept.lines.push_back(line);
        }
    }

    /// True when there are some.
    pub fn any(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) && !self.kept().lines.is_empty()
    }

    /// Takes the oldest; where older ones gave way, first a line that says how many.
    pub fn next(&self) -> Option<Line> {
        self.kept().next()
    }

    /// Takes what there is.
    pub fn take(&self) -> Vec<Line> {
        if !self.wanted.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut kept = self.kept();
        std::iter::from_fn(|| kept.next()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> Line {
        Line { level: 6, facility: "TEST".into(), text: number.to_string() }
    }

    #[test]
    fn lines_are_kept_for_who_wants_them_and_the_oldest_give_way() {
        let lines = Lines::default();
        lines.push(|| panic!("nobody wants it"));
        lines.want(true);
        for number in 0..MOST + 2 {
            lines.push(|| line(number));
        }
        assert!(lines.any());
        let gap = lines.next().expect("it says how many are missing");
        assert_eq!((gap.facility.as_str(), gap.text.split(' ').next()), ("LOST", Some("2")));
        assert_eq!(lines.next(), Some(line(2)));
        let taken = lines.take();
        assert_eq!((taken.len(), &taken[0], &taken[MOST - 2]), (MOST - 1, &line(3), &line(MOST + 1)));
        assert!(lines.take().is_empty());
        assert_eq!((lines.any(), lines.next()), (false, None));
    }
}
