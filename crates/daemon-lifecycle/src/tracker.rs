//! The children of this process: it alone started them, it alone stops them.
//!
//! Each is held by a process handle, so nothing here can hit a stranger that got
//! a reused number. Each leads a session of its own, and is not reaped before its
//! process group was signalled: until then the group's number is not free either.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal};

use crate::Listener;
use crate::descendants;
use crate::handed::Handed;
use crate::pidfd;
use crate::report::{Died, Report, reap};
use crate::spawn::{ServiceSpec, SpawnError, spawn};

/// A child, to be named in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildInfo {
    /// Its process id. Enough to name it, not to signal it.
    pub pid: u32,
}

#[derive(Debug)]
struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    report: Report,
    /// The write end; closing it tells the child to end.
    lifeline: Option<OwnedFd>,
}

impl Child {
    fn info(&self) -> ChildInfo {
        ChildInfo {
            pid: self.pid.as_raw_nonzero().get().cast_unsigned(),
        }
    }

    fn has_ended(&self, patience: Duration) -> bool {
        pidfd::wait(&self.pidfd, Some(patience)).unwrap_or(false)
    }
}

/// Children that this process started.
///
/// Dropping it ends those that are left, at once; whoever wants to give them time
/// calls [`SpawnTracker::kill_all`] before. If this process is killed, the kernel
/// closes their lifelines.
#[derive(Debug, Default)]
pub struct SpawnTracker {
    children: Mutex<Vec<Child>>,
}

impl SpawnTracker {
    /// No children yet.
    pub fn new() -> SpawnTracker {
        SpawnTracker::default()
    }

    /// Starts a service, hands it the listener, and keeps hold of it.
    ///
    /// # Errors
    /// If the program cannot be executed, its log not be opened, or no pipe made.
    pub fn spawn(&self, spec: &ServiceSpec, listener: Listener) -> Result<ChildInfo, SpawnError> {
        self.spawn_handing(spec, &listener, Handed::default())
    }

    /// As [`SpawnTracker::spawn`], with more than listener and lifeline.
    pub(crate) fn spawn_handing(
        &self,
        spec: &ServiceSpec,
        listener: &Listener,
        handed: Handed<'_>,
    ) -> Result<ChildInfo, SpawnError> {
        let (read, write) = if spec.lifeline {
            let (read, write) =
                pipe_with(PipeFlags::CLOEXEC).map_err(|source| SpawnError::Prepare {
                    program: spec.program.clone(),
                    source: source.into(),
                })?;
            (Some(read), Some(write))
        } else {
            (None, None)
        };
        let child = spawn(
            spec,
            Some(listener),
            Handed {
                lifeline: read.as_ref().map(AsFd::as_fd),
                ..handed
            },
        )?;
        let child = Child {
            pid: child.pid,
            pidfd: child.pidfd,
            report: child.report,
            lifeline: write,
        };
        let info = child.info();
        self.children().push(child);
        Ok(info)
    }

    /// The children that have not ended.
    pub fn alive(&self) -> Vec<ChildInfo> {
        self.children()
            .iter()
            .filter(|child| !child.has_ended(Duration::ZERO))
            .map(Child::info)
            .collect()
    }

    /// Reaps those that have ended, and says how; what is left in their sessions is
    /// ended before, since it could not be found any more.
    ///
    /// # Errors
    /// The system's answer. Who was reaped until then is lost.
    pub fn try_wait(&self) -> io::Result<Vec<Died>> {
        let mut children = self.children();
        let mut ended = Vec::new();
        let mut kept = Vec::with_capacity(children.len());
        for child in children.drain(..) {
            let status = if child.has_ended(Duration::ZERO) {
                descendants::kill(child.info().pid, Vec::new());
                reap(child.pid)?
            } else {
                None
            };
            match status {
                Some(status) => ended.push(child.report.died(child.pid, status)),
                None => kept.push(child),
            }
        }
        *children = kept;
        Ok(ended)
    }

    /// Ends one child at once, and says what it said last; `None` if it is not one
    /// of these.
    pub(crate) fn kill(&self, info: ChildInfo) -> Option<Died> {
        let child = {
            let mut children = self.children();
            let at = children.iter().position(|child| child.info() == info)?;
            children.swap_remove(at)
        };
        let (pid, report) = (child.pid, child.report.clone());
        end(vec![child], Duration::ZERO)
            .pop()
            .map(|status| report.died(pid, status))
    }

    /// Whether a child ended within `patience`; also if it is not one of these.
    pub(crate) fn has_ended(&self, info: ChildInfo, patience: Duration) -> bool {
        self.children()
            .iter()
            .find(|child| child.info() == info)
            .is_none_or(|child| child.has_ended(patience))
    }

    /// Asks all to end, and ends those that have not when `grace` is over,
    /// together with their descendants. Returns when all are gone and reaped.
    ///
    /// Descendants that made a session of their own are found by their parents;
    /// those that did so and whose parent had ended before this call are not.
    pub fn kill_all(&self, grace: Duration) {
        // Taken out, so that nobody waits for the lock meanwhile.
        let children = std::mem::take(&mut *self.children());
        let _statuses = end(children, grace);
    }

    fn children(&self) -> MutexGuard<'_, Vec<Child>> {
        // A panic elsewhere leaves a complete list; children must still be ended.
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpawnTracker {
    fn drop(&mut self) {
        self.kill_all(Duration::ZERO);
    }
}

/// Returns how each ended, in order; one that is not reaped is left out.
fn end(mut children: Vec<Child>, grace: Duration) -> Vec<ExitStatus> {
    let mut below = Vec::new();
    for child in &mut children {
        // Looked up while the parents live: afterwards those that left the session
        // are nobody's.
        below.push(descendants::of(child.info().pid).unwrap_or_default());
        // A child that ended already refuses; that is fine.
        let _ended = pidfd_send_signal(&child.pidfd, Signal::TERM);
        drop(child.lifeline.take());
    }
    let deadline = Instant::now().checked_add(grace);
    let mut statuses = Vec::new();
    for (child, mut known) in children.into_iter().zip(below) {
        let left = deadline.map_or(Duration::MAX, |d| {
            d.saturating_duration_since(Instant::now())
        });
        if !child.has_ended(left) {
            known.extend(descendants::of(child.info().pid).unwrap_or_default());
            let _ended = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ended = pidfd::wait(&child.pidfd, None);
        }
        // The leader is unreaped, so the number still means its group and session.
        let _ended = kill_process_group(child.pid, Signal::KILL);
        descendants::kill(child.info().pid, known);
        statuses.extend(reap(child.pid).ok().flatten());
    }
    statuses
}
