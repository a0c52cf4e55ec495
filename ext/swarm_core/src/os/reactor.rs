//! Where the supervisor sleeps: one epoll set with each node's pidfd and report pipe and an eventfd to be woken by.
//!
//! A registration belongs to the open file, which forked children share. So the parent takes a descriptor out of the
//! set before it closes it, and a child closes its copy of the set and takes nothing out (it would vanish from the
//! parent's too).

use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::birth::{Birth, Child};
use super::diagnosis::Diagnosis;
use super::pidfd::{Pidfd, Waited};
use super::private;
use super::wake::Wake;
use crate::exit_status::ExitStatus;
use crate::node::{NodeId, Who};
use crate::policy::MemoryMetric;
use crate::report::{Parser, Report, Words};

/// What a wait brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A process reported.
    Told(Who, Report),
    /// A process said something for people.
    Said(Who, Words),
    /// A process ended and was reaped, by us or by other code.
    Ended(Who, ExitStatus),
}

/// How many events one wait takes at least: more where there are more nodes, so that nobody is taken for silent whose
/// report lies in the kernel.
const BATCH: usize = 256;

/// How long the kernel may take to tell the end of a process that other code has reaped; it took 33 us when measured.
const EXIT_INFO_PATIENCE: Duration = Duration::from_millis(10);

/// How much one read takes of a node's reports. A wait reads once, so that a node that floods its pipe does not hold up
/// the others.
const REPORT_BYTES: usize = 4096;

/// The kernel counts the milliseconds of a wait in 31 bits, which are 24 days; a node may live longer than that.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// How often a node's reports are read when it has ended: a pipe holds 64 KiB.
const LAST_READS: usize = 16;

/// The epoll set and the processes in it.
#[derive(Debug)]
pub struct Reactor {
    owner: i32,
    open: ManuallyDrop<Open>,
}

#[derive(Debug)]
struct Open {
    epoll: OwnedFd,
    wake: Arc<Wake>,
    own: Pidfd,
    channels: Vec<Option<Channel>>,
}

#[derive(Debug)]
struct Channel {
    who: Who,
    pidfd: Pidfd,
    reports: OwnedFd,
    /// The other end is the pipe on which the child waited for go.
    questions: OwnedFd,
    parser: Parser,
}

impl Open {
    fn watch(&self, child: &Child) -> rustix::io::Result<()> {
        let (id, generation) = (child.who.id, short(child.who.generation));
        epoll::add(&self.epoll, &child.pidfd, Source::Exit(id, generation).data(), EventFlags::IN)?;
        epoll::add(&self.epoll, &child.reports, Source::Reports(id, generation).data(), EventFlags::IN)
    }
}

/// Who an event is about. The number that epoll keeps holds the node, what of it, and the low bits of its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Wake,
    Exit(NodeId, u32),
    Reports(NodeId, u32),
}

const GENERATION_BITS: u32 = 0x3fff_ffff;

impl Source {
    fn data(self) -> EventData {
        let number =
            |kind: u64, id: NodeId, generation: u32| (u64::from(generation) << 34) | (kind << 32) | u64::from(id);
        EventData::new_u64(match self {
            Source::Wake => 0,
            Source::Exit(id, generation) => number(1, id, generation),
            Source::Reports(id, generation) => number(2, id, generation),
        })
    }

    fn of(data: EventData) -> Self {
        let number = data.u64();
        let (id, generation) = (number as NodeId, (number >> 34) as u32);
        match (number >> 32) & 3 {
            1 => Source::Exit(id, generation),
            2 => Source::Reports(id, generation),
            _ => Source::Wake,
        }
    }
}

fn short(generation: u64) -> u32 {
    generation as u32 & GENERATION_BITS
}

impl Reactor {
    /// An empty set that `wake` ends the wait of.
    pub fn new(wake: Arc<Wake>) -> rustix::io::Result<Self> {
        let owner = rustix::process::getpid().as_raw_nonzero().get();
        let own = Pidfd::open(owner)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, Source::Wake.data(), EventFlags::IN)?;
        private::note(&epoll);
        private::note(&*wake);
        private::note(&own);
        Ok(Self { owner, open: ManuallyDrop::new(Open { epoll, wake, own, channels: Vec::new() }) })
    }

    /// The process that owns the set: the supervisor's.
    pub fn owner(&self) -> i32 {
        self.owner
    }

    /// Begins a fork: see [`Birth`].
    pub fn prepare(&self, who: Who) -> rustix::io::Result<Birth> {
        Birth::prepare(who, &self.open.own)
    }

    /// Takes in a process that was forked. One that cannot be watched (the user's limit of watches is reached) is
    /// killed and reaped.
    pub fn adopt(&mut self, child: Child) -> rustix::io::Result<()> {
        let open = &mut *self.open;
        if let Err(refused) = open.watch(&child) {
            let _ = epoll::delete(&open.epoll, &child.pidfd);
            child.kill_and_reap();
            return Err(refused);
        }
        let Child { who, pidfd, reports, questions } = child;
        private::note(&pidfd);
        private::note(&reports);
        private::note(&questions);
        let slot = who.id as usize;
        if open.channels.len() <= slot {
            open.channels.resize_with(slot + 1, || None);
        }
        open.channels[slot] = Some(Channel { who, pidfd, reports, questions, parser: Parser::default() });
        Ok(())
    }

    /// Lets go of a process that has ended. With the GVL: see [`private`].
    pub fn release(&mut self, who: Who) {
        let open = &mut *self.open;
        let Some(slot) = open.channels.get_mut(who.id as usize) else { return };
        if let Some(channel) = slot.take_if(|channel| channel.who == who) {
            // The reports may be out of the set already, when the node had closed its pipe.
            let _ = epoll::delete(&open.epoll, &channel.reports);
            let _ = epoll::delete(&open.epoll, &channel.pidfd);
            channel.forget();
        }
    }

    /// Sends a process a signal. `Ok(false)`: it has ended, or it is not the node's process any more.
    pub fn signal(&self, who: Who, signal: Signal) -> rustix::io::Result<bool> {
        self.present(who).map_or(Ok(false), |channel| channel.pidfd.signal(signal as i32))
    }

    /// The memory of a process in bytes; none where it has ended. See [`super::memory`].
    pub fn measure(&self, who: Who, metric: MemoryMetric, limit: u64) -> Option<u64> {
        self.present(who).and_then(|channel| super::memory::measure(&channel.pidfd, metric, limit))
    }

    /// What the kernel tells of a process that does not do as it should, and asks it for its backtraces, which come as
    /// [`Happened::Said`] if it can still answer. None where it has ended.
    pub fn diagnose(&self, who: Who) -> Option<Diagnosis> {
        let channel = self.present(who)?;
        // First the look: the question wakes a thread.
        let diagnosis = Diagnosis::of(&channel.pidfd);
        // A full pipe has been asked already.
        let _ = rustix::io::write(&channel.questions, b"?");
        diagnosis
    }

    fn present(&self, who: Who) -> Option<&Channel> {
        let channel = self.open.channels.get(who.id as usize).and_then(Option::as_ref);
        channel.filter(|channel| channel.who == who)
    }

    /// Sleeps until something happens, `until` at the latest, and says what it was. Needs no GVL.
    ///
    /// Returns early, with nothing, when it was woken or a signal came.
    pub fn wait(&mut self, until: Option<Instant>) -> rustix::io::Result<Vec<Happened>> {
        let mut events = Vec::with_capacity(BATCH.max(2 * self.open.channels.len() + 1));
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()).min(LONGEST_SLEEP));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.open.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(refused) => return Err(refused),
        }
        let mut happened = Vec::new();
        for event in events {
            match Source::of(event.data) {
                Source::Wake => _ = self.open.wake.clear(),
                Source::Reports(id, generation) => {
                    if let Some((channel, epoll)) = self.channel(id, generation) {
                        channel.told(epoll, &mut happened);
                    }
                }
                Source::Exit(id, generation) => {
                    if let Some((channel, epoll)) = self.channel(id, generation) {
                        // Its last words come before its end.
                        if channel.pidfd.exited() {
                            (0..LAST_READS).take_while(|_| channel.told(epoll, &mut happened)).for_each(drop);
                        }
                        happened.extend(channel.ended()?);
                    }
                }
            }
        }
        Ok(happened)
    }

    fn channel(&mut self, id: NodeId, generation: u32) -> Option<(&mut Channel, &OwnedFd)> {
        let open = &mut *self.open;
        let channel = open.channels.get_mut(id as usize)?.as_mut()?;
        (short(channel.who.generation) == generation).then_some((channel, &open.epoll))
    }
}

impl Channel {
    /// The descriptors are about to be closed.
    fn forget(&self) {
        private::forget(&self.pidfd);
        private::forget(&self.reports);
        private::forget(&self.questions);
    }

    /// Reads what the node has reported. False: there was nothing.
    fn told(&mut self, epoll: &OwnedFd, happened: &mut Vec<Happened>) -> bool {
        let mut buffer = [0u8; REPORT_BYTES];
        let length = match rustix::io::read(&self.reports, &mut buffer) {
            Ok(0) => {
                // A node that closed its pipe and lives on would make the set readable for ever.
                let _ = epoll::delete(epoll, &self.reports);
                return false;
            }
            Ok(length) => length,
            Err(_) => return false,
        };
        let (mut report, mut words) = (Report::default(), Vec::new());
        self.parser.feed(&buffer[..length], &mut report, &mut words);
        if report.malformed > 0 {
            tracing::warn!(node = self.who.id, lines = report.malformed, "reports that are neither a code nor a word");
        }
        if !report.is_empty() {
            happened.push(Happened::Told(self.who, report));
        }
        happened.extend(words.into_iter().map(|words| Happened::Said(self.who, words)));
        true
    }

    /// Reaps the process if it has ended: readable is only a hint.
    fn ended(&self) -> rustix::io::Result<Option<Happened>> {
        let exit = match self.pidfd.wait(true)? {
            Waited::Running => return Ok(None),
            Waited::Ended(exit) => exit,
            Waited::Elsewhere => self.exit_info(),
        };
        Ok(Some(Happened::Ended(self.who, exit)))
    }

    /// Other code has reaped it, or is about to. The kernel tells a moment later how it ended, if it tells at all.
    fn exit_info(&self) -> ExitStatus {
        let patience = if Pidfd::keeps_exit_info() { EXIT_INFO_PATIENCE } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        loop {
            match self.pidfd.exit_info() {
                Some(exit) => return exit,
                None if Instant::now() >= deadline => return ExitStatus::Unknown,
                None => sleep(Duration::from_micros(50)),
            }
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // In a forked child the numbers are closed already, and may mean something else by now.
        if self.owner != rustix::process::getpid().as_raw_nonzero().get() {
            return;
        }
        private::forget(&self.open.epoll);
        private::forget(&*self.open.wake);
        private::forget(&self.open.own);
        for channel in self.open.channels.iter().flatten() {
            channel.forget();
        }
        // SAFETY: the value is dropped once, here, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.open) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child as Process, Command, Stdio};

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const WHO: Who = Who { id: 2, generation: 1 };

    struct Bench {
        reactor: Reactor,
        wake: Arc<Wake>,
    }

    impl Bench {
        fn new() -> Self {
            let wake = Arc::new(Wake::new().unwrap());
            Self { reactor: Reactor::new(Arc::clone(&wake)).unwrap(), wake }
        }

        fn adopt(&mut self, who: Who, process: &Process) -> std::fs::File {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            let pidfd = Pidfd::open(process.id() as i32).unwrap();
            let (_, questions) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            self.reactor.adopt(Child { who, pidfd, reports: read, questions }).unwrap();
            write.into()
        }

        fn next(&mut self) -> Vec<Happened> {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let happened = self.reactor.wait(Some(deadline)).unwrap();
                if !happened.is_empty() || Instant::now() >= deadline {
                    return happened;
                }
            }
        }
    }

    fn sleeper() -> Process {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn an_end_is_seen_and_reaped_once_with_its_last_report_before_it() {
        let mut bench = Bench::new();
        let mut process = sleeper();
        let mut reports = bench.adopt(WHO, &process);
        assert_eq!(bench.reactor.signal(WHO, Signal::SIGKILL), Ok(true));
        // Both are there before the supervisor looks: the end is a readable pidfd, not a reaped zombie.
        while !bench.reactor.channel(WHO.id, 1).unwrap().0.pidfd.exited() {}
        reports.write_all(b"4\n").unwrap();
        let told = Report { worst: Some(4), ..Report::default() };
        let ended = ExitStatus::Signaled { signal: 9, core_dumped: false };
        let mut happened = bench.next();
        happened.retain(|event| *event != Happened::Told(WHO, Report::default()));
        assert_eq!(happened, [Happened::Told(WHO, told), Happened::Ended(WHO, ended)]);
        bench.reactor.release(WHO);
        assert_eq!(bench.reactor.signal(WHO, Signal::SIGTERM), Ok(false));
        assert_eq!(bench.reactor.wait(Some(Instant::now())), Ok(Vec::new()));
        assert!(process.wait().is_err(), "it was not reaped");
    }

    #[test]
    fn an_end_that_other_code_reaped_is_the_kernel_s_record_or_unknown() {
        let mut bench = Bench::new();
        let mut process = sleeper();
        let _reports = bench.adopt(WHO, &process);
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(9));
        let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
        let expected = if Pidfd::keeps_exit_info() { killed } else { ExitStatus::Unknown };
        assert_eq!(bench.next(), [Happened::Ended(WHO, expected)]);
    }

    #[test]
    fn a_node_that_closes_its_pipe_does_not_keep_the_supervisor_awake() {
        let mut bench = Bench::new();
        let mut process = sleeper();
        drop(bench.adopt(WHO, &process));
        let begun = Instant::now();
        let until = begun + Duration::from_millis(50);
        let mut rounds = 0;
        while Instant::now() < until {
            assert_eq!(bench.reactor.wait(Some(until)), Ok(Vec::new()));
            rounds += 1;
        }
        assert!(rounds <= 3, "{rounds} rounds");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn news_of_an_earlier_process_of_the_slot_is_nobody_s() {
        let mut bench = Bench::new();
        let mut process = sleeper();
        let _reports = bench.adopt(WHO, &process);
        assert!(bench.reactor.channel(WHO.id, 2).is_none());
        let other = Who { generation: 2, ..WHO };
        assert_eq!(bench.reactor.signal(other, Signal::SIGKILL), Ok(false));
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn a_deadline_in_a_year_can_be_waited_for() {
        let mut bench = Bench::new();
        bench.wake.wake();
        let in_a_year = Instant::now() + Duration::from_secs(365 * 86_400);
        assert_eq!(bench.reactor.wait(Some(in_a_year)), Ok(Vec::new()));
    }

    #[test]
    fn a_wake_up_ends_the_wait() {
        let mut bench = Bench::new();
        let wake = Arc::clone(&bench.wake);
        let waker = std::thread::spawn(move || wake.wake());
        assert_eq!(bench.reactor.wait(None), Ok(Vec::new()));
        waker.join().unwrap();
    }
}
