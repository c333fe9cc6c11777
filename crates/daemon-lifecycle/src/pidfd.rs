//! Waiting on process handles with a deadline.
//!
//! A handle becomes readable when its process has ended, zombie or not, so
//! nothing here polls by number.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether the process of `pidfd` ended within `patience` (`None`: for ever).
pub(crate) fn wait(pidfd: impl AsFd, patience: Option<Duration>) -> io::Result<bool> {
    let deadline = patience.and_then(|p| Instant::now().checked_add(p));
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        // A time too long for the system is as good as for ever.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
