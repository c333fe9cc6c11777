//! Who calls, as the kernel says, and what they may read.
//!
//! The daemon may be able to read files that the caller cannot.
//! So whatever it opens by itself is looked at afterwards, by its descriptor: the mode bits must let the caller in.
//! Access control lists could take away what the bits give, so a file that has one is refused.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::Stat;
use vrift_store::{Reader, has_access_list};

use crate::platform;

/// The uid that stands for users the kernel cannot name here.
const NOBODY: u32 = 65534;

/// The other side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// For the log only: numbers are used again.
    pub(crate) pid: i32,
}

impl Caller {
    /// Asks the kernel.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Caller> {
        let caller = platform::peer(stream)?;
        if caller.uid == NOBODY {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the caller is a user that has no name here",
            ));
        }
        Ok(caller)
    }

    /// Whether the mode bits give the caller the right `bit` (4 read, 1 enter).
    fn may(&self, stat: &Stat, bit: u32) -> bool {
        let shift = if stat.st_uid == self.uid {
            6
        } else if stat.st_gid == self.gid {
            3
        } else {
            0
        };
        let mode: u32 = stat.st_mode as _;
        mode >> shift & bit == bit
    }
}

fn denied(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what.to_owned())
}

impl Reader for Caller {
    fn directory(&self, dir: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        if !self.may(stat, 5) || has_access_list(dir) {
            return Err(denied("the caller may not list and enter this directory"));
        }
        Ok(())
    }

    fn file(&self, file: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        if !self.may(stat, 4) || has_access_list(file) {
            return Err(denied("the caller may not read this file"));
        }
        Ok(())
    }
}
