//! Other Unix systems: plain copies, and `sync` of everything where one file system cannot be named.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

/// Always refused: the caller copies.
pub(crate) fn reflink(_to: impl AsFd, _from: impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not in one call: the caller goes step by step.
pub(crate) fn open_below(
    _dir: impl AsFd,
    _path: &str,
    _flags: OFlags,
) -> Option<rustix::io::Result<OwnedFd>> {
    None
}

/// Writes everything the system has not written yet.
pub(crate) fn sync_file_system(_dir: impl AsFd) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// There is no such flag: reading counts as a use.
pub(crate) fn no_atime() -> OFlags {
    OFlags::empty()
}

/// Cannot be known here.
pub(crate) fn wait_for_writers(_reader: impl AsFd) {}
