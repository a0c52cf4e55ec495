//! `Kafka::MockCluster`, which the embedded broker's own process hosts, and that process's end.

use magnus::{Class, Error, Module, Object as _, RClass, RModule, Ruby, Value, function, method, value::ReprValue};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use swarm_kafka::mock;

use super::error;
use super::handle::Handle;

#[magnus::wrap(class = "SwarmNative::Kafka::MockCluster", free_immediately, size)]
pub struct MockCluster {
    handle: Handle<mock::MockCluster>,
}

impl MockCluster {
    fn bootstrap_servers(ruby: &Ruby, this: &Self) -> Result<String, Error> {
        Ok(this.handle.enter(ruby)?.bootstrap_servers())
    }

    fn create_topic(ruby: &Ruby, this: &Self, name: String, partitions: i32) -> Result<(), Error> {
        this.handle.enter(ruby)?.create_topic(&name, partitions).map_err(|failed| error::raise(ruby, &failed))
    }

    fn set_topic_error(ruby: &Ruby, this: &Self, name: String, code: i32) -> Result<(), Error> {
        this.handle.enter(ruby)?.set_topic_error(&name, code).map_err(|failed| error::raise(ruby, &failed))
    }

    fn set_up(ruby: &Ruby, this: &Self, broker: i32, up: bool) -> Result<(), Error> {
        this.handle.enter(ruby)?.set_up(broker, up).map_err(|failed| error::raise(ruby, &failed))
    }
}

fn start(ruby: &Ruby, class: RClass, brokers: u16) -> Result<Value, Error> {
    let handle = Handle::open(ruby, "SwarmNative::Kafka::MockCluster", String::new(), move |lease| {
        mock::MockCluster::start(brokers, lease)
    })?;
    Ok(ruby.obj_wrap_as(MockCluster { handle }, class).as_value())
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        self.handle.abandon(|_| ());
    }
}

/// Ends this process as soon as its parent has ended, whatever Ruby is doing. False: the parent is another process
/// already. Where the kernel has no pidfd, the end of the parent's pipe has to do.
fn end_with_parent(pid: i32) -> bool {
    let pidfd = Pid::from_raw(pid).and_then(|parent| pidfd_open(parent, PidfdFlags::empty()).ok());
    // Asked after the pidfd was opened: if it is still the parent now, the pidfd is the parent's.
    if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != Some(pid) {
        return false;
    }
    if let Some(pidfd) = pidfd {
        std::thread::spawn(move || {
            let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            // SAFETY: it ends the process without running anything else.
            unsafe { libc::_exit(0) }
        });
    }
    true
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("MockCluster", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<MockCluster>(ruby);
    class.define_singleton_method("native_start", method!(start, 1))?;
    class.define_method("bootstrap_servers", method!(MockCluster::bootstrap_servers, 0))?;
    class.define_method("create_topic", method!(MockCluster::create_topic, 2))?;
    class.define_method("set_topic_error", method!(MockCluster::set_topic_error, 2))?;
    class.define_method("set_up", method!(MockCluster::set_up, 2))?;
    kafka.define_module_function("native_end_with_parent", function!(end_with_parent, 1))
}
