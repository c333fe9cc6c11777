//! macOS: plain copies, syncs that reach the disk and not only its cache; nothing tells of other writers.
//!
//! This is compiled and was never run.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::OFlags;

/// `SYNC_VOLUME_FULLSYNC`: to the disk, not only into its cache.
const TO_THE_DISK: libc::c_int = 0x01;
/// `SYNC_VOLUME_WAIT`: returns when it is done.
const WAIT: libc::c_int = 0x02;

unsafe extern "C" {
    /// Syncs the file system that a descriptor is on, from macOS 10.8 on; declared in `<unistd.h>`.
    fn fsync_volume_np(fd: libc::c_int, flags: libc::c_int) -> libc::c_int;
}

/// Always refused, so the caller copies: `fclonefileat` makes a new file and cannot fill one that is there.
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

/// Writes the names in a directory to the disk.
///
/// `fsync` leaves them in the disk's cache here; it is for file systems that know nothing better, such as those of a network.
pub(crate) fn sync_directory(dir: impl AsFd) -> io::Result<()> {
    rustix::fs::fcntl_fullfsync(dir.as_fd()).or_else(|_| Ok(rustix::fs::fsync(dir)?))
}

/// Writes everything of the file system that `dir` is on to the disk, and waits for it.
pub fn sync_file_system(dir: impl AsFd) -> io::Result<()> {
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: it takes two numbers and touches no memory of ours; the descriptor is borrowed, so it is open.
    if unsafe { fsync_volume_np(fd, TO_THE_DISK | WAIT) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Whether the disk's cache is flushed is up to the file system above, and up to the disk here.
    sync_directory(dir)
}

/// There is no such flag: reading counts as a use.
pub(crate) fn no_atime() -> OFlags {
    OFlags::empty()
}

/// Cannot be known here, and executing such a file does not fail.
pub(crate) fn wait_for_writers(_reader: impl AsFd) {}
