//! A daemon that this process started: the right to end it.
//!
//! It holds the kernel's handle of the process and can neither be copied nor
//! written down; what can is the [`DaemonHandle`] that it makes, and that gives no
//! right at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use daemon_contract::{DaemonHandle, ProcessIdentity, ShutdownConfig};

use crate::detached::DetachedChild;
use crate::process::IdentifiedProcess;
use crate::report::Died;

/// A daemon that this process started. Dropping it leaves the daemon running.
#[derive(Debug)]
pub struct OwnedDaemon {
    name: String,
    identity: ProcessIdentity,
    child: DetachedChild,
}

/// Why a daemon was not ended.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// The request names another daemon or another process than the one held.
    #[error(
        "asked to end `{asked}` (process {asked_pid}), but this is `{held}` (process {held_pid}); nothing was signalled"
    )]
    NotThis {
        /// The name in the request.
        asked: String,
        /// The process in the request.
        asked_pid: u32,
        /// The name of the daemon held.
        held: String,
        /// Its process.
        held_pid: u32,
    },
    /// The system refused.
    #[error("could not end `{name}` (process {pid})")]
    Io {
        /// The daemon.
        name: String,
        /// Its process.
        pid: u32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl OwnedDaemon {
    /// Takes a child that was just started; it is not reaped yet, so its number is
    /// its own.
    pub(crate) fn of_child(name: &str, child: DetachedChild) -> io::Result<OwnedDaemon> {
        Ok(OwnedDaemon {
            name: name.to_owned(),
            identity: IdentifiedProcess::identity_of(child.pid())?,
            child,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which process it is.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// What others may know of it; `url` is where it answers.
    pub fn handle(&self, url: impl Into<String>) -> DaemonHandle {
        DaemonHandle::started_by_us(&self.name, url, self.identity.clone())
    }

    /// How it ended and what it said last, if it ended within `patience`.
    ///
    /// # Errors
    /// The system's answer.
    pub fn exited_within(&mut self, patience: Duration) -> io::Result<Option<&Died>> {
        self.child.exited_within(patience)
    }

    /// Asks it to end (SIGTERM), ends it (SIGKILL) when `grace` is over, and returns
    /// how it ended once it is gone and reaped.
    ///
    /// # Errors
    /// The system's answer.
    pub fn stop(mut self, grace: Duration) -> io::Result<Option<Died>> {
        self.child.stop(grace)
    }

    /// As [`OwnedDaemon::stop`], if `config` means this daemon: name and process id
    /// must be the ones that are held here.
    ///
    /// # Errors
    /// [`ShutdownError::NotThis`] if it means another one, which is left alone.
    pub fn shutdown(self, config: &ShutdownConfig) -> Result<Option<Died>, ShutdownError> {
        if config.daemon_name != self.name || config.pid != self.identity.pid {
            return Err(ShutdownError::NotThis {
                asked: config.daemon_name.clone(),
                asked_pid: config.pid,
                held_pid: self.identity.pid,
                held: self.name,
            });
        }
        let (name, pid) = (self.name.clone(), self.identity.pid);
        self.stop(config.graceful_timeout())
            .map_err(|source| ShutdownError::Io { name, pid, source })
    }
}

impl AsFd for OwnedDaemon {
    /// The kernel's handle: readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}
