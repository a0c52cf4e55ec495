//! A flag that another thread or a signal handler can raise, and a descriptor that turns readable with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Ends a wait in `poll` or `epoll` from elsewhere.
///
/// [`Wake::wake`] is one `write(2)` on an eventfd, so it may be called from any thread and from a signal handler.
#[derive(Debug)]
pub struct Wake {
    eventfd: OwnedFd,
}

impl Wake {
    /// Makes a quiet one. Fails with the kernel's errno when no descriptor is to be had.
    pub fn new() -> rustix::io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { eventfd })
    }

    /// Makes the descriptor readable until [`Wake::clear`]. Waking twice is waking once.
    pub fn wake(&self) {
        // The only failure of this write is a counter at its limit, and then the descriptor is readable already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Takes the wake-ups so far; true if there was one.
    pub fn clear(&self) -> bool {
        rustix::io::read(&self.eventfd, &mut [0u8; 8]).is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::Wake;

    #[test]
    fn many_wake_ups_are_one() {
        let wake = Wake::new().unwrap();
        assert!(!wake.clear());
        wake.wake();
        wake.wake();
        assert!(wake.clear());
        assert!(!wake.clear());
    }
}
