//! What a process is doing that does not do as it should, without its help: from /proc alone.

use std::fmt;
use std::fs;
use std::time::Duration;

use super::pidfd::Pidfd;

/// A look at all threads of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    threads: Vec<Thread>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    id: i32,
    name: String,
    state: char,
    cpu: Duration,
    /// The kernel function that it waits in, where the kernel tells.
    waits_in: Option<String>,
    system_call: Option<i64>,
    /// Innermost first, where the kernel lets us see it.
    kernel_stack: Vec<String>,
}

/// The threads that a node has for its supervisor's sake.
const OURS: [&str; 2] = ["orphan-watch", "swarm node"];

impl Diagnosis {
    /// Looks at a process. None where it has ended.
    pub fn of(process: &Pidfd) -> Option<Self> {
        let folder = format!("/proc/{}/task", process.pid());
        let mut threads: Vec<Thread> = fs::read_dir(&folder)
            .ok()?
            .filter_map(|entry| Thread::read(&entry.ok()?.path().to_string_lossy()))
            .collect();
        threads.sort_by_key(|thread| thread.id);
        // The pid may be somebody else's by now only if the process has ended.
        (!process.exited() && !threads.is_empty()).then_some(Self { threads })
    }

    /// In a few words: frozen, busy, or waiting.
    pub fn verdict(&self) -> &'static str {
        let users = || self.threads.iter().filter(|thread| !OURS.contains(&thread.name.as_str()));
        let any = |states: &[char]| users().any(|thread| states.contains(&thread.state));
        if self.threads.iter().all(|thread| thread.state == 'T') {
            "frozen (SIGSTOP)"
        } else if any(&['t']) {
            "frozen (traced)"
        } else if any(&['D']) {
            "waiting in the kernel for a device, not to be interrupted"
        } else if any(&['R']) {
            "busy on the processor"
        } else if users().any(Thread::waits_for_lock) {
            "waiting for a lock"
        } else {
            "waiting"
        }
    }
}

impl Thread {
    fn read(folder: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
        // The name stands in parentheses and may hold some of its own.
        let (head, tail) = stat.rsplit_once(") ")?;
        let (id, name) = head.split_once(" (")?;
        let fields: Vec<&str> = tail.split(' ').collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let waits_in =
            fs::read_to_string(format!("{folder}/wchan")).ok().filter(|name| !["", "0"].contains(&name.as_str()));
        let system_call = fs::read_to_string(format!("{folder}/syscall")).ok();
        let kernel_stack = fs::read_to_string(format!("{folder}/stack")).unwrap_or_default();
        Some(Self {
            id: id.parse().ok()?,
            name: name.into(),
            state: fields.first()?.chars().next()?,
            cpu: Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)),
            waits_in,
            system_call: system_call.and_then(|call| call.split_whitespace().next()?.parse().ok()),
            kernel_stack: kernel_stack.lines().map(|line| line.trim_start_matches("[<0>] ").to_owned()).collect(),
        })
    }

    fn waits_for_lock(&self) -> bool {
        self.waits_in.as_ref().is_some_and(|name| name.contains("futex"))
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} {}: state {}, {:.2} s of CPU", self.id, self.name, self.state, self.cpu.as_secs_f64())?;
        if let Some(name) = &self.waits_in {
            write!(f, ", waits in {name}")?;
        }
        if let Some(number) = self.system_call {
            write!(f, ", system call {number}")?;
        }
        self.kernel_stack.iter().try_for_each(|frame| write!(f, "\n  {frame}"))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict())?;
        self.threads.iter().try_for_each(|thread| write!(f, "\n{thread}"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use nix::sys::signal::Signal;

    use super::*;

    fn verdict_of(child: &mut Child, expected: &str) {
        let handle = Pidfd::open(child.id() as i32).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while Diagnosis::of(&handle).map(|found| found.verdict()) != Some(expected) {
            assert!(std::time::Instant::now() < deadline, "{:?} is not {expected}", Diagnosis::of(&handle));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Diagnosis::of(&handle), None);
    }

    #[test]
    fn a_frozen_process_is_told_from_a_busy_and_from_a_waiting_one() {
        let mut frozen = Command::new("sleep").arg("60").spawn().unwrap();
        Pidfd::open(frozen.id() as i32).unwrap().signal(Signal::SIGSTOP as i32).unwrap();
        verdict_of(&mut frozen, "frozen (SIGSTOP)");
        verdict_of(
            &mut Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap(),
            "busy on the processor",
        );
        verdict_of(&mut Command::new("sleep").arg("60").spawn().unwrap(), "waiting");
    }

    #[test]
    fn each_thread_is_named_with_its_state_and_time() {
        let own = Pidfd::open(std::process::id() as i32).unwrap();
        let named = std::thread::Builder::new().name("a (name) of ours".into());
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = named.spawn(move || _ = wait.recv()).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // The kernel cuts names after 15 characters.
        while !Diagnosis::of(&own).unwrap().to_string().contains(" a (name) of our: state S, 0.00 s of CPU") {
            assert!(std::time::Instant::now() < deadline, "{}", Diagnosis::of(&own).unwrap());
        }
        drop(go);
        thread.join().unwrap();
    }
}
