//! Linux: `FICLONE`, `openat2`, `syncfs`, `O_NOATIME`, and read leases as a way to see other writers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How long a forked child may keep a copy of our descriptor before it executes; far beyond what was ever seen.
const WRITERS_LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Makes `to` share the content of `from`; fails where the file system cannot.
pub(crate) fn reflink(to: impl AsFd, from: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Opens `path` (relative, no `..`) below `dir` in one call, following no symbolic link; `None` where the system refuses the call itself.
pub(crate) fn open_below(
    dir: impl AsFd,
    path: &str,
    flags: OFlags,
) -> Option<rustix::io::Result<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
        // Some containers refuse the call as if it did not exist.
        Err(Errno::NOSYS | Errno::PERM) => None,
        result => Some(result),
    }
}

/// Writes the names in a directory to the disk.
pub(crate) fn sync_directory(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Writes everything of the file system that `dir` is on to the disk, and waits for it; reports write-back errors.
pub fn sync_file_system(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(dir)?)
}

/// The open flag with which reading is not a use.
pub(crate) fn no_atime() -> OFlags {
    OFlags::NOATIME
}

/// Waits until no descriptor open for writing refers to the file that `reader` reads.
///
/// Executing a file somebody has open for writing fails with `ETXTBSY`.
/// We close our own descriptor, but another thread may have forked in between, and its child holds a copy until it executes.
/// The kernel grants a read lease only when there is no writer left, so asking for one tells.
pub(crate) fn wait_for_writers(reader: impl AsFd) {
    let deadline = Instant::now() + WRITERS_LEAVE_WITHIN;
    while has_writers(reader.as_fd()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn has_writers(reader: BorrowedFd<'_>) -> bool {
    let fd = reader.as_raw_fd();
    // SAFETY: `F_SETLEASE` takes an int and touches no memory of ours.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return false;
    }
    // Any other error means that the file system has no leases: then nothing can be known.
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_seen_until_they_close() {
        let writer = tempfile::NamedTempFile::new().unwrap();
        let reader = std::fs::File::open(writer.path()).unwrap();
        let in_a_child = writer.as_file().try_clone().unwrap();
        assert!(has_writers(reader.as_fd()));
        let path = writer.into_temp_path();
        assert!(
            has_writers(reader.as_fd()),
            "a copy of the descriptor counts"
        );
        drop(in_a_child);
        assert!(!has_writers(reader.as_fd()));
        wait_for_writers(&reader);
        drop(path);
    }
}
