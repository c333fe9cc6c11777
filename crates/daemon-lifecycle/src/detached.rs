//! A daemon that outlives the client that started it.
//!
//! The client keeps a handle for the moments until the daemon answers: if it
//! dies at start, the client can say why.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;

use crate::Listener;
use crate::pidfd;
use crate::report::{Died, Report, reap};
use crate::spawn::{ServiceSpec, SpawnError, spawn};

/// A daemon that was just started. Dropping this does nothing to it.
#[derive(Debug)]
pub struct DetachedChild {
    pid: Pid,
    pidfd: OwnedFd,
    report: Report,
    died: Option<Died>,
}

/// Starts a daemon that outlives this process, in a session of its own, and hands
/// it the listener. It gets no lifeline, whatever the `spec` says.
///
/// The listener is closed here: if the daemon dies, connections that wait for it
/// are reset, and later ones are refused.
///
/// # Errors
/// If the program cannot be executed or its log not be opened.
pub fn spawn_detached(spec: &ServiceSpec, listener: Listener) -> Result<DetachedChild, SpawnError> {
    let child = spawn(spec, &listener, None)?;
    Ok(DetachedChild {
        pid: child.pid,
        pidfd: child.pidfd,
        report: child.report,
        died: None,
    })
}

impl DetachedChild {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// How it ended and what it said last, if it ended; it is reaped then.
    ///
    /// # Errors
    /// The system's answer.
    pub fn exited(&mut self) -> io::Result<Option<&Died>> {
        self.exited_within(Duration::ZERO)
    }

    /// As [`DetachedChild::exited`], waiting up to `patience` for it to end.
    ///
    /// A reset connection is seen a moment before the end of the process that
    /// reset it; a short patience bridges that.
    ///
    /// # Errors
    /// The system's answer.
    pub fn exited_within(&mut self, patience: Duration) -> io::Result<Option<&Died>> {
        if self.died.is_none()
            && pidfd::wait(&self.pidfd, Some(patience))?
            && let Some(status) = reap(self.pid)?
        {
            self.died = Some(self.report.died(self.pid, status));
        }
        Ok(self.died.as_ref())
    }
}

impl AsFd for DetachedChild {
    /// The handle of the process: readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
