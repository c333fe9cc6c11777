//! Linux: `openat2`, `getdents64`, `FICLONE`, and read leases as a way to see writers.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

/// Opens `path` beneath `root` in one call, following no symbolic link; `None` where the system refuses the call itself.
pub(super) fn open_at_once(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> Option<rustix::io::Result<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Some containers refuse the call as if it did not exist.
        Err(Errno::NOSYS | Errno::PERM) => None,
        result => Some(result),
    }
}

/// Calls `visit` with everything in a directory that was just opened, and what kind of file the system says it is; it may not know.
pub(crate) fn list(
    dir: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    mut visit: impl FnMut(&CStr, FileType),
) -> rustix::io::Result<()> {
    let mut names = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(item) = names.next() {
        let item = item?;
        visit(item.file_name(), item.file_type());
    }
    Ok(())
}

/// Makes `to` share the content of `from`; fails where the file system cannot.
pub(crate) fn reflink(to: &File, from: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Whether anybody has the file open for writing, or mapped so.
///
/// The kernel grants a read lease only when there is no writer, so asking for one tells.
pub(crate) fn has_writers(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: `F_SETLEASE` takes an int and touches no memory of ours.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return false;
    }
    true
}

/// Whether an access control list says, besides the mode, who may use an open file or directory; yes, when that cannot be known.
pub fn has_access_list(file: impl AsFd) -> bool {
    let mut names = [0u8; 4096];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => names[..length]
            .split(|byte| *byte == 0)
            .any(|name| name.starts_with(b"system.")),
        Err(Errno::NOTSUP) => false,
        Err(_) => true,
    }
}

/// Whether each new file gets this attribute anew, so that it is none of a user's.
pub(super) fn is_given_anew(attribute: &[u8]) -> bool {
    // Labels of security modules.
    attribute.starts_with(b"security.selinux")
}
