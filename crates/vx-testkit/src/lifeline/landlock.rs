//! Landlock: a process gives up TCP ports other than the given ones, for itself
//! and for whatever it starts. Needs no rights and no namespaces.
//!
//! It knows ports, not addresses, and nothing of UDP. The numbers and layouts
//! are of `linux/landlock.h`, version 4 of its interface (Linux 6.7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_NET_PORT: libc::c_int = 2;
const ACCESS_NET_BIND_TCP: u64 = 1;
const ACCESS_NET_CONNECT_TCP: u64 = 2;
/// The first version that knows the network.
const VERSION_NET: libc::c_long = 4;

#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
}

#[repr(C)]
struct NetPort {
    allowed_access: u64,
    port: u64,
}

/// Fails with the reason where the network cannot be limited.
pub(crate) fn check() -> io::Result<()> {
    // SAFETY: without attributes it only tells the version.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<Ruleset>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    match version {
        VERSION_NET.. => Ok(()),
        0.. => Err(io::Error::other(format!(
            "Landlock has version {version} here, the network needs {VERSION_NET}"
        ))),
        _ => Err(io::Error::other(format!(
            "Landlock cannot be used: {}",
            io::Error::last_os_error()
        ))),
    }
}

/// Limits this process to the ports; it may also bind a port of the system's
/// choice.
pub(super) fn restrict(ports: &[u16]) -> io::Result<()> {
    let attributes = Ruleset {
        handled_access_fs: 0,
        handled_access_net: ACCESS_NET_BIND_TCP | ACCESS_NET_CONNECT_TCP,
    };
    // SAFETY: the structure has the layout and the size that are told, and the
    // new descriptor belongs to nobody else.
    let ruleset = unsafe {
        let fd = libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<Ruleset>(),
            0u32,
        );
        OwnedFd::from_raw_fd(descriptor(fd)?)
    };
    allow(&ruleset, 0, ACCESS_NET_BIND_TCP)?;
    for &port in ports {
        allow(&ruleset, port, ACCESS_NET_BIND_TCP | ACCESS_NET_CONNECT_TCP)?;
    }
    // SAFETY: neither touches memory.
    let done = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32)
    };
    descriptor(done).map(drop)
}

fn allow(ruleset: &OwnedFd, port: u16, allowed_access: u64) -> io::Result<()> {
    let rule = NetPort {
        allowed_access,
        port: port.into(),
    };
    // SAFETY: the structure has the layout of this kind of rule.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_NET_PORT,
            &raw const rule,
            0u32,
        )
    };
    descriptor(done).map(drop)
}

fn descriptor(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
