//! What the operating systems do differently: opening beneath a directory, listing one, clones, exchanging two names, seeing writers.
//!
//! The rest of the crate contains no `cfg(target_os)`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// Opens `path` beneath `root` without following any symbolic link on the way or at its end.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // Some containers refuse the call as if it did not exist.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
            result => return result,
        }
    }
    open_step_by_step(root, path, flags)
}

fn open_step_by_step(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current: Option<OwnedFd> = None;
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        let std::path::Component::Normal(name) = name else {
            return Err(rustix::io::Errno::XDEV);
        };
        let parent = current.as_ref().map_or(root, AsFd::as_fd);
        let flags = if names.peek().is_some() { step } else { flags };
        current = Some(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    }
    current.ok_or(rustix::io::Errno::NOENT)
}

/// Calls `visit` with everything in a directory that was just opened, and what kind of file the system says it is; it may not know.
pub(crate) fn list(
    dir: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    mut visit: impl FnMut(&CStr, FileType),
) -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let mut names = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(item) = names.next() {
            let item = item?;
            visit(item.file_name(), item.file_type());
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _unused = buffer;
        for item in rustix::fs::Dir::read_from(dir)? {
            let item = item?;
            visit(item.file_name(), item.file_type());
        }
    }
    Ok(())
}

/// Makes `to` share the content of `from`; fails where the file system cannot.
pub(crate) fn reflink(to: &File, from: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::ioctl_ficlone(to, from)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _unused = (to, from);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Exchanges two names, which exist afterwards as before; refused where the system cannot do it at once.
pub(crate) fn exchange(
    old_dir: impl AsFd,
    old: &Path,
    new_dir: impl AsFd,
    new: &Path,
) -> rustix::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    return rustix::fs::renameat_with(
        old_dir,
        old,
        new_dir,
        new,
        rustix::fs::RenameFlags::EXCHANGE,
    );
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _unused = (old_dir, old, new_dir, new);
        Err(rustix::io::Errno::NOSYS)
    }
}

/// Writes everything of the file system that `dir` is on.
pub(crate) fn sync_file_system(dir: impl AsFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(rustix::fs::syncfs(dir)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _unused = dir;
        rustix::fs::sync();
        Ok(())
    }
}

/// Whether anybody has the file open for writing, or mapped so; a system that cannot tell says yes.
///
/// The kernel grants a read lease only when there is no writer, so asking for one tells.
pub(crate) fn has_writers(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    {
        let fd = file.as_raw_fd();
        // SAFETY: `F_SETLEASE` takes an int and touches no memory of ours.
        if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
            // SAFETY: as above.
            unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
            return false;
        }
        true
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _unused = file.as_raw_fd();
        true
    }
}

/// Whether the file has extended attributes or an access control list.
pub(crate) fn has_attributes(file: &File) -> bool {
    let mut names = [0u8; 4096];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        // Labels of security modules are given anew to each file.
        Ok(length) => names[..length]
            .split(|byte| *byte == 0)
            .any(|name| !name.is_empty() && !name.starts_with(b"security.selinux")),
        Err(rustix::io::Errno::NOTSUP) => false,
        Err(_) => true,
    }
}
