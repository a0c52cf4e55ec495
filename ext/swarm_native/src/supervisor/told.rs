//! What the supervisor tells Ruby of its nodes.

use std::time::Instant;

use magnus::{Error, RHash, Ruby};
use swarm_core::node::{Node, State};
use swarm_core::notice::{Notice, Reason, What};
use swarm_core::os::diagnosis::Diagnosis;
use swarm_core::report::Words;

/// What a process has said of itself, and what was seen of it.
#[derive(Default)]
pub struct Said {
    /// The exception that ended it.
    died: Option<String>,
    /// What it did when it did not do as it should.
    pub diagnosis: Option<Diagnosis>,
    /// The backtraces of its threads.
    traces: Vec<String>,
}

impl Said {
    /// Takes in what the process has said.
    pub fn hear(&mut self, words: Words) {
        match words {
            Words::Died(text) => self.died = Some(text),
            Words::Trace(text) => self.traces.push(text),
        }
    }

    fn diagnosis(&self) -> Option<String> {
        let seen = self.diagnosis.as_ref().map(ToString::to_string);
        let parts: Vec<String> = seen.into_iter().chain(self.traces.iter().cloned()).collect();
        (!parts.is_empty()).then(|| parts.join("\n"))
    }
}

/// What happened, as the keywords of `SwarmNative::Event.new`; `status` is a raw wait status in an array, or nil.
pub fn event(ruby: &Ruby, notice: &Notice, said: Option<&Said>) -> Result<RHash, Error> {
    let hash = ruby.hash_new();
    hash.aset(ruby.to_symbol("name"), ruby.to_symbol(notice.what.name()))?;
    hash.aset(ruby.to_symbol("node_id"), notice.node)?;
    hash.aset(ruby.to_symbol("pid"), notice.pid)?;
    hash.aset(ruby.to_symbol("reason"), notice.reason.map(|reason| reason.to_string()))?;
    hash.aset(ruby.to_symbol("status"), notice.exit.map(|exit| vec![exit.to_raw()]))?;
    hash.aset(ruby.to_symbol("duration"), notice.lasted.map(|lasted| lasted.as_secs_f64()))?;
    hash.aset(ruby.to_symbol("restart_in"), notice.delay.map(|delay| delay.as_secs_f64()))?;
    hash.aset(ruby.to_symbol("message"), notice.message.as_deref())?;
    if let Some(Reason::MemoryLimit(bytes)) = notice.reason {
        hash.aset(ruby.to_symbol("memory"), bytes)?;
    }
    if let Some(said) = said {
        if matches!(notice.what, What::NodeUnhealthy | What::NodeKilled | What::NodeExited) {
            hash.aset(ruby.to_symbol("diagnosis"), said.diagnosis())?;
        }
        if notice.what == What::NodeExited {
            hash.aset(ruby.to_symbol("message"), said.died.as_deref())?;
        }
    }
    Ok(hash)
}

/// A node as it is now; times as seconds from now, below 0 in the past.
pub fn snapshot(ruby: &Ruby, node: &Node, now: Instant) -> Result<RHash, Error> {
    let life = node.state().life();
    let ago = |at: Instant| -now.saturating_duration_since(at).as_secs_f64();
    let restart_in = match node.state() {
        State::Waiting { until } => Some(until.saturating_duration_since(now).as_secs_f64()),
        _ => None,
    };
    let hash = ruby.hash_new();
    hash.aset(ruby.to_symbol("id"), node.who().id)?;
    hash.aset(ruby.to_symbol("pid"), life.map(|life| life.pid))?;
    hash.aset(ruby.to_symbol("state"), ruby.to_symbol(node.state().name()))?;
    hash.aset(ruby.to_symbol("since"), node.since().map(ago))?;
    hash.aset(ruby.to_symbol("restarts"), node.restarts())?;
    hash.aset(ruby.to_symbol("started_at"), life.map(|life| ago(life.started_at)))?;
    hash.aset(ruby.to_symbol("last_report_at"), life.and_then(|life| life.reported_at).map(ago))?;
    hash.aset(ruby.to_symbol("last_report"), life.and_then(|life| life.report).map(|(code, _)| code))?;
    hash.aset(ruby.to_symbol("reports"), life.and_then(|life| life.report).map_or(0, |(_, times)| times))?;
    hash.aset(ruby.to_symbol("restart_at"), restart_in)?;
    hash.aset(ruby.to_symbol("memory"), life.and_then(|life| life.memory))?;
    let end = node.last_end();
    hash.aset(ruby.to_symbol("last_exit"), end.map(|end| (end.pid, end.exit.to_raw())))?;
    hash.aset(ruby.to_symbol("last_reason"), end.map(|end| end.reason.to_string()))?;
    Ok(hash)
}
