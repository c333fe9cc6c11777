//! A daemon that outlives the client that started it.
//!
//! The client keeps a handle for the moments until the daemon answers: if it
//! dies at start, the client can say why.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::Listener;
use crate::handed::Handed;
use crate::pidfd;
use crate::process::Ended;
use crate::report::{Died, Report, reap};
use crate::spawn::{ServiceSpec, SpawnError, spawn};

/// A daemon that was just started. Dropping this does nothing to it, but that it is
/// reaped when it ends while this process still runs.
#[derive(Debug)]
pub struct DetachedChild {
    pid: Pid,
    /// Shared with the thread that reaps, if there is one.
    pidfd: Arc<OwnedFd>,
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
    spawn_handing(spec, Some(&listener), Handed::default())
}

/// As [`spawn_detached`], with more than the listener.
pub(crate) fn spawn_handing(
    spec: &ServiceSpec,
    listener: Option<&Listener>,
    handed: Handed<'_>,
) -> Result<DetachedChild, SpawnError> {
    let child = spawn(spec, listener, handed)?;
    Ok(DetachedChild {
        pid: child.pid,
        pidfd: Arc::new(child.pidfd),
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
            && pidfd::wait(&*self.pidfd, Some(patience))?
            && let Some(status) = reap(self.pid)?
        {
            self.died = Some(self.report.died(self.pid, status));
        }
        Ok(self.died.as_ref())
    }

    /// Asks it to end, and ends it when `grace` is over; returns how it ended.
    ///
    /// # Errors
    /// The system's answer.
    pub(crate) fn stop(&mut self, grace: Duration) -> io::Result<(Ended, Option<Died>)> {
        let mut ended = Ended::Killed;
        for (signal, patience, how) in [
            (Signal::TERM, Some(grace), Ended::Asked),
            (Signal::KILL, None, Ended::Killed),
        ] {
            match pidfd_send_signal(&*self.pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
            if pidfd::wait(&*self.pidfd, patience)? {
                ended = how;
                break;
            }
        }
        Ok((ended, self.exited()?.cloned()))
    }
}

impl Drop for DetachedChild {
    /// A child that nobody reaps stays in the table of processes as long as its
    /// parent runs; so a thread waits for those that outlive this value. It costs a
    /// stack of a few pages, and ends with the process if the daemon does not end
    /// before.
    fn drop(&mut self) {
        if self.died.is_some() || self.exited().is_ok_and(|died| died.is_some()) {
            return;
        }
        let (pid, pidfd) = (self.pid, Arc::clone(&self.pidfd));
        let reaper = thread::Builder::new()
            .name("daemon-reaper".to_owned())
            .stack_size(64 << 10)
            .spawn(move || {
                if pidfd::wait(&*pidfd, None).is_ok() {
                    // Somebody who waits for all children may have been faster.
                    drop(reap(pid));
                }
            });
        // Without a thread it stays a zombie until this process ends.
        drop(reaper);
    }
}

impl AsFd for DetachedChild {
    /// The handle of the process: readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
