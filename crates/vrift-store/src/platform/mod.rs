//! What the operating systems do differently: opening beneath a directory, listing one, clones, seeing writers, attributes.
//!
//! These are Linux and macOS; the rest of the crate contains no `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, RenameFlags};

pub use system::has_access_list;
pub(crate) use system::{has_writers, list, reflink};

/// Opens `path` beneath `root` without following any symbolic link on the way or at its end.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    system::open_at_once(root, path, flags).unwrap_or_else(|| open_step_by_step(root, path, flags))
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

/// Exchanges two names, which exist afterwards as before; refused where the file system cannot do it at once.
pub(crate) fn exchange(
    old_dir: impl AsFd,
    old: &Path,
    new_dir: impl AsFd,
    new: &Path,
) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(old_dir, old, new_dir, new, RenameFlags::EXCHANGE)
}

/// Whether the file has extended attributes or an access control list.
pub(crate) fn has_attributes(file: &File) -> bool {
    let mut names = [0u8; 4096];
    let attributes = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => names[..length]
            .split(|byte| *byte == 0)
            .any(|name| !name.is_empty() && !system::is_given_anew(name)),
        Err(rustix::io::Errno::NOTSUP) => false,
        Err(_) => true,
    };
    attributes || has_access_list(file)
}
