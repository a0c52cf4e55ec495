//! One descriptor in the place of two.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// A descriptor that is readable while one of the two is: an epoll set can itself be polled.
///
/// It is for whoever can wait on one descriptor only, such as Ruby's `IO#wait_readable`. It holds neither of the two
/// open.
pub fn either(one: impl AsFd, other: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, one, EventData::new_u64(0), EventFlags::IN)?;
    epoll::add(&set, other, EventData::new_u64(1), EventFlags::IN)?;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::os::wake::Wake;

    #[test]
    fn it_is_readable_while_one_of_the_two_is() {
        let (one, other) = (Wake::new().unwrap(), Wake::new().unwrap());
        let set = either(&one, &other).unwrap();
        let readable = || {
            let mut fds = [PollFd::new(&set, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        assert!(!readable());
        for wake in [&one, &other] {
            wake.wake();
            assert!(readable());
            wake.clear();
            assert!(!readable());
        }
    }
}
