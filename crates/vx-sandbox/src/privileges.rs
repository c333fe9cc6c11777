//! Namespaces and user ids: what a sandbox takes on to be built, and gives up before the command runs.

use std::path::Path;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::error::SetupFailure;
use crate::failure::Step;
use crate::probe::Tier;
use crate::spec::UserNamespace;

/// User and group id that the command sees as its own in a user namespace.
const INSIDE_ID: u32 = 1000;

/// Who runs the command where there is no user namespace: nobody.
pub(crate) const NOBODY: u32 = 65534;

/// Ids of the host process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    uid: u32,
    gid: u32,
}

impl Outside {
    pub(crate) fn of_this_process() -> Outside {
        Outside {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    pub(crate) fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// Make all namespaces for this process and its children.
pub(crate) fn enter_namespaces(
    wish: UserNamespace,
    outside: Outside,
) -> Result<Tier, SetupFailure> {
    let rest = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    if wish == UserNamespace::Preferred {
        // SAFETY: no file descriptor table is unshared and there is a single thread.
        match unsafe { rustix::thread::unshare_unsafe(rest | UnshareFlags::NEWUSER) } {
            Ok(()) => {
                map_ids(outside)?;
                return Ok(Tier::UserNamespace);
            }
            Err(errno) if !outside.is_root() => {
                return Err(errno).step("make", "a user namespace");
            }
            Err(_) => {}
        }
    }
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(rest) }.step("make", "namespaces")?;
    Ok(Tier::RootOnly)
}

/// The command's id inside is the host process's id outside; no other id exists.
fn map_ids(outside: Outside) -> Result<(), SetupFailure> {
    let write = |name: &str, text: String| {
        let path = Path::new("/proc/self").join(name);
        std::fs::write(&path, text).step("write", path.display())
    };
    // The kernel demands this before a group map may be written without privilege.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{INSIDE_ID} {} 1", outside.gid))?;
    write("uid_map", format!("{INSIDE_ID} {} 1", outside.uid))
}

/// Have the kernel end this process when the thread that forked it ends.
pub(crate) fn die_with_parent() -> Result<(), SetupFailure> {
    set_parent_process_death_signal(Some(Signal::KILL)).step("set", "the parent death signal")
}

/// Give up everything that the command must not have; for the process that becomes the command.
pub(crate) fn give_up(tier: Tier) -> Result<(), SetupFailure> {
    for number in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << number) else {
            continue;
        };
        // Numbers above the last capability of this kernel are unknown to it.
        if rustix::thread::remove_capability_from_bounding_set(one).is_err() {
            break;
        }
    }
    if tier == Tier::RootOnly {
        rustix::thread::set_thread_groups(&[]).step("drop", "supplementary groups")?;
        let (uid, gid) = (
            rustix::process::Uid::from_raw(NOBODY),
            rustix::process::Gid::from_raw(NOBODY),
        );
        rustix::thread::set_thread_res_gid(gid, gid, gid).step("become", "group nobody")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).step("become", "user nobody")?;
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).step("drop", "capabilities")?;
    rustix::thread::set_no_new_privs(true).step("set", "no_new_privs")
}
