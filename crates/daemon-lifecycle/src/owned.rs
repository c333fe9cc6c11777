//! A daemon that this process started: the right to end it.
//!
//! It holds the kernel's handle of the process and can neither be copied nor
//! written down; what can is the [`DaemonHandle`] that it makes, and that gives no
//! right at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use daemon_contract::{DaemonHandle, ProcessIdentity, ShutdownConfig};

use crate::detached::{DetachedChild, spawn_handing};
use crate::handed::Handed;
use crate::process::{Ended, IdentifiedProcess};
use crate::report::Died;
use crate::spawn::{ServiceSpec, SpawnError};

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
    /// Starts a daemon that makes its own listener, in a session of its own, so that
    /// it outlives this process. It gets no lifeline, whatever `spec` says.
    ///
    /// # Errors
    /// If the program cannot be executed or its log not be opened.
    pub fn start(name: &str, spec: &ServiceSpec) -> Result<OwnedDaemon, SpawnError> {
        let child = spawn_handing(spec, None, Handed::default())?;
        OwnedDaemon::of_child(name, child).map_err(|source| SpawnError::Prepare {
            program: spec.program.clone(),
            source,
        })
    }

    /// Owns a child that was started with [`spawn_detached`](crate::spawn_detached).
    ///
    /// # Errors
    /// If the system does not tell its start time, or it was reaped already.
    pub fn of_child(name: &str, child: DetachedChild) -> io::Result<OwnedDaemon> {
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
    pub fn stop(self, grace: Duration) -> io::Result<Option<Died>> {
        Ok(self.end(grace)?.1)
    }

    /// As [`OwnedDaemon::stop`], and says how it came to its end.
    pub(crate) fn end(mut self, grace: Duration) -> io::Result<(Ended, Option<Died>)> {
        self.child.stop(grace)
    }

    /// Whether `config` means this daemon.
    pub(crate) fn check(&self, config: &ShutdownConfig) -> Result<(), ShutdownError> {
        if config.daemon_name == self.name && config.pid == self.identity.pid {
            return Ok(());
        }
        Err(ShutdownError::NotThis {
            asked: config.daemon_name.clone(),
            asked_pid: config.pid,
            held: self.name.clone(),
            held_pid: self.identity.pid,
        })
    }

    /// As [`OwnedDaemon::stop`], if `config` means this daemon: name and process id
    /// must be the ones that are held here.
    ///
    /// # Errors
    /// [`ShutdownError::NotThis`] if it means another one, which is left alone.
    pub fn shutdown(self, config: &ShutdownConfig) -> Result<Option<Died>, ShutdownError> {
        self.check(config)?;
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
