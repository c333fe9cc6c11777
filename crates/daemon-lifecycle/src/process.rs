//! Telling processes apart for certain, and the environment of this one.
//!
//! A pid is reused; a pid with its start time and the id of the boot is not. To
//! act on a process a handle is opened first and the identity compared then, so
//! that the number cannot change its meaning in between.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use daemon_contract::ProcessIdentity;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::pidfd;

/// Whether both are one process; the namespace was compared before.
fn is_same(one: &ProcessIdentity, other: &ProcessIdentity) -> bool {
    (one.pid, one.start_ticks, &one.boot_id) == (other.pid, other.start_ticks, &other.boot_id)
}

/// The identity of this process.
pub(crate) fn own_identity() -> io::Result<ProcessIdentity> {
    identify(std::process::id())
}

fn identify(pid: u32) -> io::Result<ProcessIdentity> {
    Ok(ProcessIdentity {
        pid,
        start_ticks: start_ticks(pid)?,
        boot_id: boot_id()?,
        pid_namespace: Some(pid_namespace()?),
    })
}

/// The namespace in which this process sees numbers.
fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_ticks(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected format of stat"))
}

/// Whether the process is stopped (state `T` or `t` of proc(5)).
pub(crate) fn is_stopped(identity: &ProcessIdentity) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", identity.pid)).is_ok_and(|stat| {
        parse_start_ticks(&stat) == Some(identity.start_ticks)
            && stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    })
}

/// Field 22; counted from the last parenthesis, since the second field is the
/// name of the program and may contain blanks and parentheses itself.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A running process that was found by its identity, not by its number.
#[derive(Debug)]
pub struct IdentifiedProcess {
    pidfd: OwnedFd,
    identity: ProcessIdentity,
}

impl IdentifiedProcess {
    /// The identity of the process that has this number now.
    ///
    /// # Errors
    /// If there is none, or the system does not tell.
    pub fn identity_of(pid: u32) -> io::Result<ProcessIdentity> {
        identify(pid)
    }

    /// Finds the process again; `None` if it is gone, whoever has its number now.
    ///
    /// # Errors
    /// If the system refuses to tell, or if the number belongs to another pid
    /// namespace, where this process cannot look.
    pub fn find(identity: &ProcessIdentity) -> io::Result<Option<IdentifiedProcess>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        if let Some(theirs) = identity.pid_namespace
            && identity.boot_id == boot_id()?
            && theirs != pid_namespace()?
        {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("process {pid} is one of another pid namespace"),
            ));
        }
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The handle comes first: whatever it holds keeps its identity from now on.
        match identify(identity.pid) {
            Ok(now) if is_same(&now, identity) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        // A zombie has its number and is nevertheless gone.
        if pidfd::wait(&pidfd, Some(Duration::ZERO))? {
            return Ok(None);
        }
        Ok(Some(IdentifiedProcess {
            pidfd,
            identity: identity.clone(),
        }))
    }

    /// Who it is.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// Asks it to end (SIGTERM), and ends it (SIGKILL) when `grace` is over; returns
    /// when it is gone, and how that came.
    ///
    /// # Errors
    /// If this user may not signal it.
    pub fn stop(&self, grace: Duration) -> io::Result<Ended> {
        for (signal, patience, how) in [
            (Signal::TERM, Some(grace), Ended::Asked),
            (Signal::KILL, None, Ended::Killed),
        ] {
            match pidfd_send_signal(&self.pidfd, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(how),
                Err(error) => return Err(error.into()),
            }
            if pidfd::wait(&self.pidfd, patience)? {
                return Ok(how);
            }
        }
        Ok(Ended::Killed)
    }
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It ended when its own interface for that was called.
    Itself,
    /// It ended when it was asked to with SIGTERM.
    Asked,
    /// It did not within the time that it had, and was killed.
    Killed,
}

impl AsFd for IdentifiedProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Removes variables that were meant for this process alone, if nobody can be
/// reading the environment: while there is one thread.
pub(crate) fn remove_variables(names: &[&str]) {
    let single = fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
    if single {
        for name in names {
            // SAFETY: no other thread exists that could read or write it.
            unsafe { std::env::remove_var(name) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let tail = (3..=22)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = format!("7 (evil) 1 2 (name) {tail} 23");
        assert_eq!(parse_start_ticks(&stat), Some(22));
        assert_eq!(parse_start_ticks("7 (short) S"), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let own = own_identity().unwrap();
        assert!(IdentifiedProcess::find(&own).unwrap().is_some());
        let earlier = ProcessIdentity {
            start_ticks: own.start_ticks - 1,
            ..own.clone()
        };
        assert!(IdentifiedProcess::find(&earlier).unwrap().is_none());
        let other_boot = ProcessIdentity {
            boot_id: "another".into(),
            ..own.clone()
        };
        assert!(IdentifiedProcess::find(&other_boot).unwrap().is_none());
        let elsewhere = ProcessIdentity {
            pid_namespace: Some(1),
            ..own.clone()
        };
        let error = IdentifiedProcess::find(&elsewhere).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let untold = ProcessIdentity {
            pid_namespace: None,
            ..own
        };
        assert!(IdentifiedProcess::find(&untold).unwrap().is_some());
    }
}
