//! The kernel: every system call of the crate is made below this module.

pub mod fork;
pub mod pidfd;
pub mod wake;
