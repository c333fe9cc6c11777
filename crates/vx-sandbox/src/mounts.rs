//! The few mount operations a sandbox needs, on descriptors instead of paths.
//!
//! Sources are cloned as detached trees while the host's root is still in place; then they are attached below the new root.
//! So nothing in the new root can redirect a source, and nothing in a source can redirect where it goes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::SetupFailure;
use crate::failure::Step;

/// A private copy of the mount at `path` and all below it.
pub(crate) fn clone_tree(base: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, SetupFailure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(base, path, flags).step("bind", path.display())
}

/// The same from the host's root.
pub(crate) fn clone_host(path: &Path) -> Result<OwnedFd, SetupFailure> {
    clone_tree(CWD, path)
}

/// What a mount allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allow {
    pub(crate) writing: bool,
    pub(crate) devices: bool,
}

/// Restrict the mount `tree` and all below it; `name` is for the message.
pub(crate) fn restrict(tree: &OwnedFd, allow: Allow, name: &Path) -> Result<(), SetupFailure> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if !allow.writing {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    if !allow.devices {
        set |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    set_attributes(tree, set, libc::AT_RECURSIVE).step("restrict", name.display())
}

/// Make this one mount read-only, not what is mounted inside.
pub(crate) fn seal(mount: &OwnedFd, name: &Path) -> Result<(), SetupFailure> {
    set_attributes(mount, MountAttrFlags::MOUNT_ATTR_RDONLY, 0).step("restrict", name.display())
}

fn set_attributes(mount: &OwnedFd, set: MountAttrFlags, flags: i32) -> std::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let empty: &CStr = c"";
    // SAFETY: the path is a C string, the structure outlives the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// A new file system in memory, not attached yet, whose root has this mode (octal).
pub(crate) fn memory(mode: &str) -> Result<OwnedFd, SetupFailure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    new("tmpfs", Some(mode), attributes).step("mount", "tmpfs")
}

/// A view of the processes of this namespace, not attached yet.
pub(crate) fn processes() -> Result<OwnedFd, SetupFailure> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new("proc", None, attributes).step("mount", "/proc")
}

fn new(kind: &str, mode: Option<&str>, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if let Some(mode) = mode {
        fsconfig_set_string(&context, "mode", mode)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Put a detached `tree` where `target` (a descriptor of a directory or file) is.
pub(crate) fn attach(tree: &OwnedFd, target: impl AsFd, name: &Path) -> Result<(), SetupFailure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags).step("mount", name.display())
}
