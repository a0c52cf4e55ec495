//! What a swarm tells of itself, for listeners and people: what happened, to whom, and why, in words.

use std::fmt;
use std::time::Duration;

use crate::exit_status::ExitStatus;
use crate::node::NodeId;

/// Why a process was told to stop, or why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The swarm stops, or somebody else told the node to.
    Stopped,
    /// A rolling restart.
    Restart,
    /// The swarm became smaller.
    ScaledDown,
    /// It reported this code.
    Unhealthy(u32),
    /// It did not report in time.
    Hung,
    /// It was not ready in time.
    BootTimeout,
    /// It needed so many bytes of memory, which is more than its limit.
    MemoryLimit(u64),
    /// It had lived long enough.
    MaxLifetime,
    /// It ended by itself with status 0.
    Exited,
    /// It ended by itself with another status, or by a signal that means a fault.
    Crashed,
    /// Somebody else killed it.
    Killed,
    /// The kernel killed it, since its control group had run out of memory.
    OomKilled,
    /// Other code reaped it, and the kernel does not tell how it ended.
    Unknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Stopped => "stopped",
            Reason::Restart => "restart",
            Reason::ScaledDown => "scaled_down",
            Reason::Unhealthy(code) => return write!(f, "unhealthy({code})"),
            Reason::Hung => "hung",
            Reason::BootTimeout => "boot_timeout",
            Reason::MemoryLimit(_) => "memory_limit",
            Reason::MaxLifetime => "max_lifetime",
            Reason::Exited => "exited",
            Reason::Crashed => "crashed",
            Reason::Killed => "killed",
            Reason::OomKilled => "oom_killed",
            Reason::Unknown => "unknown",
        })
    }
}

impl Reason {
    /// What the end of a process says that nobody had told to end.
    pub(crate) fn of_an_unasked_end(exit: ExitStatus, out_of_memory: bool) -> Self {
        match exit {
            ExitStatus::Exited(0) => Reason::Exited,
            ExitStatus::Signaled { signal: libc::SIGTERM | libc::SIGINT | libc::SIGQUIT, .. } => Reason::Stopped,
            ExitStatus::Signaled { signal: libc::SIGKILL, .. } if out_of_memory => Reason::OomKilled,
            ExitStatus::Signaled { signal: libc::SIGKILL, .. } => Reason::Killed,
            ExitStatus::Exited(_) | ExitStatus::Signaled { .. } => Reason::Crashed,
            ExitStatus::Unknown => Reason::Unknown,
        }
    }

    /// True where a node is replaced that could work on: it waits until enough others are up.
    pub(crate) fn can_wait(self) -> bool {
        matches!(self, Reason::Restart | Reason::MemoryLimit(_) | Reason::MaxLifetime)
    }

    /// True where the supervisor stops a node that is well: its replacement does not wait.
    pub(crate) fn is_planned(self) -> bool {
        matches!(self, Reason::Stopped | Reason::ScaledDown) || self.can_wait()
    }
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A process was forked.
    NodeStarted,
    /// It has booted.
    NodeReady,
    /// It reported a code above 0, or nothing at all.
    NodeUnhealthy,
    /// It was told to stop.
    NodeStopping,
    /// It was killed, since it did not stop in time.
    NodeKilled,
    /// It has ended and was reaped.
    NodeExited,
    /// The slot's nodes die again and again.
    CrashLoop,
    /// A node that is to be replaced waits for a slot whose replacements do not get ready.
    ReplacementWaits,
    /// The swarm fetches no more; nothing is restarted.
    Quieting,
    /// A rolling restart has begun.
    Restarting,
    /// A rolling restart is done.
    Restarted,
    /// The swarm stops.
    Stopping,
    /// All nodes have stopped.
    Stopped,
    /// Something failed that the swarm survives.
    Error,
}

impl What {
    /// The event's name in Ruby.
    pub fn name(self) -> &'static str {
        match self {
            What::NodeStarted => "node_started",
            What::NodeReady => "node_ready",
            What::NodeUnhealthy => "node_unhealthy",
            What::NodeStopping => "node_stopping",
            What::NodeKilled => "node_killed",
            What::NodeExited => "node_exited",
            What::CrashLoop => "crash_loop",
            What::ReplacementWaits => "replacement_waits",
            What::Quieting => "quieting",
            What::Restarting => "restarting",
            What::Restarted => "restarted",
            What::Stopping => "stopping",
            What::Stopped => "stopped",
            What::Error => "error",
        }
    }
}

/// Something that happened, for people and listeners. What a field does not apply to leaves it empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What happened.
    pub what: What,
    /// To which node.
    pub node: Option<NodeId>,
    /// In which process.
    pub pid: Option<i32>,
    /// Why.
    pub reason: Option<Reason>,
    /// How the process ended.
    pub exit: Option<ExitStatus>,
    /// How long that took: a boot, a stop, or a life.
    pub lasted: Option<Duration>,
    /// How long the replacement waits.
    pub delay: Option<Duration>,
    /// The same for a person, where the fields do not say it.
    pub message: Option<String>,
}

impl Notice {
    /// A notice of which nothing is known but what it is about.
    pub fn new(what: What) -> Self {
        Self { what, node: None, pid: None, reason: None, exit: None, lasted: None, delay: None, message: None }
    }
}
