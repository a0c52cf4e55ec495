//! `SwarmNative::Supervisor::Core`: the event loop, driven from Ruby.
//!
//! Rust calls no block of the user's. `wait` sleeps without the GVL and returns the next thing that only Ruby can do: a
//! fork, or telling listeners of an event. Everything else (signals, reaping, deadlines) it has done itself by then.
//! So a raising listener, Thread#raise and Timeout unwind Ruby frames alone.

mod told;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use magnus::value::ReprValue;
use magnus::{Error, Module, Object, RArray, RHash, RString, Ruby, Value, function, method};
use nix::sys::signal::Signal;
use rustix::io::{Errno, retry_on_intr};
use swarm_core::exit_status::ExitStatus;
use swarm_core::fleet::{Event, Fleet};
use swarm_core::node::{Action, NodeId, Who};
use swarm_core::notice::{Notice, What};
use swarm_core::os::birth::{Birth, Newborn};
use swarm_core::os::cgroup::OomKills;
use swarm_core::os::fork;
use swarm_core::os::reactor::{Happened, Reactor};
use swarm_core::os::wake::Wake;
use swarm_core::policy::Told;
use swarm_core::report::Words;

use self::told::Said;
use crate::{error, gvl, settings};

#[magnus::wrap(class = "SwarmNative::Supervisor::Core", free_immediately, size)]
struct Core {
    wake: Arc<Wake>,
    /// What other threads and trap handlers ask for. Locked with the GVL alone, hence never held at a fork.
    asked: Mutex<VecDeque<Event>>,
    fleet: RefCell<Fleet>,
    /// Borrowed by the thread that waits, also while it has no GVL.
    reactor: RefCell<Option<Reactor>>,
    forks: RefCell<VecDeque<Who>>,
    notices: RefCell<VecDeque<Notice>>,
    birth: RefCell<Option<Birth>>,
    newborn: RefCell<Option<Newborn>>,
    /// In a node: where it reports.
    reports: RefCell<Option<OwnedFd>>,
    orphaned: Arc<AtomicBool>,
    /// What is known of processes that is for people alone, until their end has been told.
    said: RefCell<HashMap<NodeId, Said>>,
    oom_kills: RefCell<OomKills>,
    /// Somebody wants `wait_within` to return.
    nudged: AtomicBool,
    owner: i32,
}

impl Core {
    fn new(ruby: &Ruby, settings: RHash) -> Result<Self, Error> {
        let policy = settings::read(ruby, settings)?;
        let wake = Wake::new().map_err(|errno| error::errno(ruby, errno, "making the supervisor's eventfd"))?;
        Ok(Self {
            wake: Arc::new(wake),
            asked: Mutex::default(),
            fleet: RefCell::new(Fleet::new(policy, fastrand::u64(..))),
            reactor: RefCell::default(),
            forks: RefCell::default(),
            notices: RefCell::default(),
            birth: RefCell::default(),
            newborn: RefCell::default(),
            reports: RefCell::default(),
            orphaned: Arc::default(),
            said: RefCell::default(),
            oom_kills: RefCell::new(OomKills::watch()),
            nudged: AtomicBool::new(false),
            owner: std::process::id() as i32,
        })
    }

    /// Opens what a running supervisor needs, and asks for the first nodes.
    fn start(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        let reactor = Reactor::new(Arc::clone(&this.wake))
            .map_err(|errno| error::errno(ruby, errno, "opening the supervisor's epoll set and pidfd"))?;
        this.reactor.replace(Some(reactor));
        this.step(ruby, Event::Start)
    }

    /// Lets go of every descriptor. For when nothing is supervised any more.
    fn close(&self) {
        if self.is_own() {
            self.reactor.replace(None);
        }
    }

    /// The next thing for Ruby to do, as soon as there is one; nil when the swarm is over.
    fn wait(ruby: &Ruby, this: &Self) -> Result<Value, Error> {
        loop {
            gvl::check_interrupts(ruby)?;
            if let Some(todo) = this.todo(ruby)? {
                return Ok(todo);
            }
            if this.fleet.borrow().is_over() {
                return Ok(ruby.qnil().as_value());
            }
            this.sleep(ruby, None)?;
        }
    }

    /// The same for a caller who has something else to do in so many seconds, or when it is nudged: nil then. The end of
    /// the swarm does not end this wait.
    fn wait_within(ruby: &Ruby, this: &Self, seconds: f64) -> Result<Value, Error> {
        let patience = Duration::try_from_secs_f64(seconds)
            .map_err(|_| error::argument(ruby, format!("{seconds} is not a number of seconds")))?;
        let until = Instant::now() + patience;
        loop {
            gvl::check_interrupts(ruby)?;
            if let Some(todo) = this.todo(ruby)? {
                return Ok(todo);
            }
            if this.nudged.swap(false, Ordering::AcqRel) || Instant::now() >= until {
                return Ok(ruby.qnil().as_value());
            }
            this.sleep(ruby, Some(until))?;
        }
    }

    /// Ends a `wait_within`, the next one if none is under way. From any thread and from a trap handler.
    fn nudge(&self) {
        if self.is_own() {
            self.nudged.store(true, Ordering::Release);
            self.wake.wake();
        }
    }

    fn todo(&self, ruby: &Ruby) -> Result<Option<Value>, Error> {
        self.take_requests(ruby)?;
        if let Some(who) = self.forks.borrow_mut().pop_front() {
            let work = ruby.ary_new_from_values(&[
                ruby.to_symbol("fork").as_value(),
                ruby.integer_from_u64(u64::from(who.id)).as_value(),
                ruby.integer_from_u64(who.generation).as_value(),
            ]);
            return Ok(Some(work.as_value()));
        }
        let notice = self.notices.borrow_mut().pop_front();
        notice.map(|notice| Ok(self.event(ruby, &notice)?.as_value())).transpose()
    }

    /// Sleeps until something happens, and takes it in.
    fn sleep(&self, ruby: &Ruby, until: Option<Instant>) -> Result<(), Error> {
        for happened in self.happened(ruby, until)? {
            match happened {
                Happened::Told(who, report) => self.step(ruby, Event::Told(who, report))?,
                Happened::Said(who, words) => self.hear(who, words),
                Happened::Ended(who, exit) => {
                    if exit == KILLED && self.oom_kills.borrow_mut().take() {
                        self.step(ruby, Event::OutOfMemory(who))?;
                    }
                    self.reactor(ruby, |reactor| reactor.release(who))?;
                    self.step(ruby, Event::Ended(who, exit))?;
                }
            }
        }
        self.step(ruby, Event::Tick)
    }

    /// Waits without the GVL for what happens, until the next deadline.
    fn happened(&self, ruby: &Ruby, until: Option<Instant>) -> Result<Vec<Happened>, Error> {
        let until = [self.fleet.borrow().deadline(), until].into_iter().flatten().min();
        let waited = self.reactor(ruby, |reactor| gvl::without_gvl(&self.wake, || reactor.wait(until)))?;
        match waited {
            None => Ok(Vec::new()),
            Some(waited) => waited.map_err(|errno| error::errno(ruby, errno, "waiting for the nodes")),
        }
    }

    fn reactor<R>(&self, ruby: &Ruby, what: impl FnOnce(&mut Reactor) -> R) -> Result<R, Error> {
        let busy = || error::raise(ruby, "Error", "the supervisor runs in another thread, or does not run");
        let mut reactor = self.reactor.try_borrow_mut().map_err(|_| busy())?;
        reactor.as_mut().map(what).ok_or_else(busy)
    }

    fn take_requests(&self, ruby: &Ruby) -> Result<(), Error> {
        loop {
            // The lock is free again before the step, which may run for a while.
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match asked {
                Some(event) => self.step(ruby, event)?,
                None => return Ok(()),
            }
        }
    }

    /// Takes a step and carries out at once what needs no Ruby.
    fn step(&self, ruby: &Ruby, event: Event) -> Result<(), Error> {
        let actions = self.fleet.borrow_mut().step(Instant::now(), event);
        for action in actions {
            match action {
                Action::Fork(who) => self.forks.borrow_mut().push_back(who),
                Action::Emit(notice) => {
                    log(&notice);
                    self.notices.borrow_mut().push_back(notice);
                }
                Action::Measure(who) => {
                    let (metric, limit) = {
                        let fleet = self.fleet.borrow();
                        (fleet.policy().memory_metric(), fleet.policy().memory_limit().unwrap_or(u64::MAX))
                    };
                    if let Some(bytes) = self.reactor(ruby, |reactor| reactor.measure(who, metric, limit))? {
                        tracing::debug!(node = who.id, bytes, "memory");
                        self.step(ruby, Event::Measured(who, bytes))?;
                    }
                }
                Action::Diagnose(who) => {
                    let diagnosis = self.reactor(ruby, |reactor| reactor.diagnose(who))?;
                    self.said.borrow_mut().entry(who.id).or_default().diagnosis = diagnosis;
                }
                Action::Signal(who, signal) => {
                    let sent = self.reactor(ruby, |reactor| reactor.signal(who, signal))?;
                    match sent {
                        Ok(delivered) => tracing::debug!(node = who.id, %signal, delivered, "signal"),
                        Err(errno) => tracing::error!(node = who.id, %signal, %errno, "signal refused"),
                    }
                }
            }
        }
        Ok(())
    }

    fn hear(&self, who: Who, words: Words) {
        self.said.borrow_mut().entry(who.id).or_default().hear(words);
    }

    fn event(&self, ruby: &Ruby, notice: &Notice) -> Result<RHash, Error> {
        let mut said = self.said.borrow_mut();
        let event = told::event(ruby, notice, notice.node.and_then(|node| said.get(&node)))?;
        if let (What::NodeExited, Some(node)) = (notice.what, notice.node) {
            said.remove(&node);
        }
        Ok(event)
    }

    /// Begins a fork. False: it is not wanted any more.
    fn prepare(ruby: &Ruby, this: &Self, id: NodeId, generation: u64) -> Result<bool, Error> {
        this.take_requests(ruby)?;
        let who = Who { id, generation };
        if !this.fleet.borrow().wants_fork(who) {
            return Ok(false);
        }
        let birth = this
            .reactor(ruby, |reactor| reactor.prepare(who))?
            .map_err(|errno| error::errno(ruby, errno, &format!("making the pipes of node {id}")))?;
        this.birth.replace(Some(birth));
        fork::ask_for_child();
        Ok(true)
    }

    /// In the parent: the fork gave this process.
    fn forked(ruby: &Ruby, this: &Self, pid: i32) -> Result<(), Error> {
        fork::forget_child();
        let Some(birth) = this.birth.take() else { return Ok(()) };
        let who = birth.who;
        let failed = |errno| error::errno(ruby, errno, &format!("taking in node {} (pid {pid})", who.id));
        let child = birth.forked(pid).map_err(failed)?;
        this.reactor(ruby, |reactor| reactor.adopt(child))?.map_err(failed)?;
        this.step(ruby, Event::Forked(who, pid))
    }

    /// In the parent: the fork, or what goes with it, failed.
    fn not_forked(ruby: &Ruby, this: &Self, id: NodeId, generation: u64) -> Result<(), Error> {
        fork::forget_child();
        if let Some(birth) = this.birth.take() {
            birth.failed();
        }
        this.step(ruby, Event::ForkFailed(Who { id, generation }))
    }

    /// The child that this thread's last fork gave, whether or not Ruby code has heard of it.
    fn last_child(&self) -> Option<i32> {
        fork::noted_child()
    }

    /// In the child, before anything else: closes what is the supervisor's, starts the orphan watch and takes its place
    /// among the other processes.
    fn born(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        let Some(birth) = this.birth.take() else { return Err(error::raise(ruby, "Error", "no fork is under way")) };
        let newborn = birth.born(this.owner);
        let fleet = this.fleet.borrow();
        let policy = fleet.policy();
        let grace = policy.orphan();
        newborn
            .watch(grace, policy.orphan_exit_code(), Arc::clone(&this.orphaned))
            .map_err(|failed| error::raise(ruby, "Error", format!("starting the orphan watch: {failed}")))?;
        let adjusted = newborn.adjust(policy.worker_niceness(), policy.oom_score_adj());
        this.newborn.replace(Some(newborn));
        adjusted.map_err(|errno| {
            error::errno(ruby, errno, "setting worker_niceness or oom_score_adj, which needs rights to lower them")
        })
    }

    /// In the child, once the node's signal handlers stand.
    fn release_signals(&self) {
        if let Some(newborn) = &*self.newborn.borrow() {
            newborn.release_signals();
        }
    }

    /// In the child: the descriptor on which it is asked, once the parent says go; nil when it never will.
    fn wait_for_go(&self) -> Option<i32> {
        let (reports, questions) = self.newborn.take()?.wait_for_go(self.fleet.borrow().policy().orphan_exit_code())?;
        self.reports.replace(Some(reports));
        Some(questions.into_raw_fd())
    }

    /// In a node: one line for the supervisor. False: there is no room for it now. Where the supervisor is gone, nobody
    /// is left to be told, and the orphan watch is about to say so.
    fn tell(ruby: &Ruby, this: &Self, line: RString) -> Result<bool, Error> {
        let reports = this.reports.borrow();
        let Some(reports) = reports.as_ref() else {
            return Err(error::raise(ruby, "Error", "this process is no node"));
        };
        // SAFETY: no Ruby code runs while the bytes are borrowed, so they are neither changed nor moved.
        let line = unsafe { line.as_slice() };
        // Not longer than PIPE_BUF, so that the pipe takes all of it or nothing.
        match retry_on_intr(|| rustix::io::write(reports, line)) {
            Ok(_) | Err(Errno::PIPE) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(error::errno(ruby, errno, "reporting to the supervisor")),
        }
    }

    fn orphaned(&self) -> bool {
        self.orphaned.load(Ordering::Acquire)
    }

    fn ask(&self, event: Event) {
        // An inherited copy has nobody to tell, and its eventfd is the parent's.
        if self.is_own() {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
            self.wake.wake();
        }
    }

    fn stop(&self) {
        self.ask(Event::Stop);
    }

    fn kill(&self) {
        self.ask(Event::Kill);
    }

    fn quiet(&self) {
        self.ask(Event::Quiet);
    }

    fn restart(&self) {
        self.ask(Event::Restart);
    }

    fn scale(&self, nodes: u32) {
        self.ask(Event::Scale(nodes));
    }

    fn signal(ruby: &Ruby, this: &Self, number: i32) -> Result<(), Error> {
        let signal = Signal::try_from(number)
            .map_err(|_| error::argument(ruby, format!("{number} is not the number of a signal")))?;
        this.ask(Event::Signal(signal));
        Ok(())
    }

    fn is_own(&self) -> bool {
        self.owner == std::process::id() as i32
    }

    fn is_started(&self) -> bool {
        self.reactor.try_borrow().map_or(true, |reactor| reactor.is_some())
    }

    fn is_stopping(&self) -> bool {
        self.fleet.borrow().is_stopping()
    }

    fn nodes(ruby: &Ruby, this: &Self) -> Result<RArray, Error> {
        let array = ruby.ary_new();
        let now = Instant::now();
        for node in this.fleet.borrow().nodes() {
            array.push(told::snapshot(ruby, node, now)?)?;
        }
        Ok(array)
    }

    /// The ids of the nodes that were killed to stop, of those that did not end even so, and of the slot whose crash
    /// loop ended the swarm.
    fn outcome(&self) -> (Vec<NodeId>, Vec<NodeId>, Option<NodeId>) {
        let fleet = self.fleet.borrow();
        let outcome = fleet.outcome();
        (outcome.killed.clone(), outcome.lost.clone(), outcome.crash_loop)
    }

    /// What Ruby has to know of the policy.
    fn settings(ruby: &Ruby, this: &Self) -> Result<RHash, Error> {
        let fleet = this.fleet.borrow();
        let policy = fleet.policy();
        let hash = ruby.hash_new();
        hash.aset(ruby.to_symbol("report_interval"), policy.report_interval().as_secs_f64())?;
        hash.aset(ruby.to_symbol("reports"), policy.report() == Told::Auto)?;
        hash.aset(ruby.to_symbol("at_exit"), policy.at_exit())?;
        hash.aset(ruby.to_symbol("warmup"), policy.warmup())?;
        Ok(hash)
    }
}

const KILLED: ExitStatus = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };

fn log(notice: &Notice) {
    let exit = notice.exit.map(|exit| exit.to_string());
    let reason = notice.reason.map(|reason| reason.to_string());
    tracing::info!(node = notice.node, pid = notice.pid, reason, exit, message = notice.what.name());
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let supervisor = error::swarm_native(ruby)?.define_class("Supervisor", ruby.class_object())?;
    let core = supervisor.define_class("Core", ruby.class_object())?;
    crate::wrapped::look_up::<Core>(ruby);
    core.define_singleton_method("new", function!(Core::new, 1))?;
    core.define_singleton_method("settings", function!(settings::describe, 0))?;
    core.define_method("start", method!(Core::start, 0))?;
    core.define_method("close", method!(Core::close, 0))?;
    core.define_method("wait", method!(Core::wait, 0))?;
    core.define_method("wait_within", method!(Core::wait_within, 1))?;
    core.define_method("nudge", method!(Core::nudge, 0))?;
    core.define_method("prepare", method!(Core::prepare, 2))?;
    core.define_method("forked", method!(Core::forked, 1))?;
    core.define_method("not_forked", method!(Core::not_forked, 2))?;
    core.define_method("last_child", method!(Core::last_child, 0))?;
    core.define_method("born", method!(Core::born, 0))?;
    core.define_method("release_signals", method!(Core::release_signals, 0))?;
    core.define_method("wait_for_go", method!(Core::wait_for_go, 0))?;
    core.define_method("tell", method!(Core::tell, 1))?;
    core.define_method("orphaned?", method!(Core::orphaned, 0))?;
    core.define_method("stop", method!(Core::stop, 0))?;
    core.define_method("kill", method!(Core::kill, 0))?;
    core.define_method("quiet", method!(Core::quiet, 0))?;
    core.define_method("restart", method!(Core::restart, 0))?;
    core.define_method("scale", method!(Core::scale, 1))?;
    core.define_method("signal", method!(Core::signal, 1))?;
    core.define_method("stopping?", method!(Core::is_stopping, 0))?;
    core.define_method("started?", method!(Core::is_started, 0))?;
    core.define_method("nodes", method!(Core::nodes, 0))?;
    core.define_method("outcome", method!(Core::outcome, 0))?;
    core.define_method("settings", method!(Core::settings, 0))
}
