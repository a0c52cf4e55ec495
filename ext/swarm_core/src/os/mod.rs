//! The kernel: every system call of the crate is made below this module.

pub mod bell;
pub mod birth;
pub mod cgroup;
pub mod diagnosis;
pub mod either;
pub mod fork;
pub mod librdkafka;
mod loaded;
pub mod memory;
pub mod orphan;
pub mod pidfd;
pub mod private;
pub mod reactor;
pub mod signals;
pub mod wake;
