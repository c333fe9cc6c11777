//! Finds and kills what is left of a test.
//!
//! A process belongs to the test if it descends from the helper, if it carries
//! the test's mark in its environment, or if it descends from one that does.
//! Process ids are never trusted: a pidfd is opened first, then membership is
//! looked up again, and only the pidfd is signalled.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::leaks::LeakedProcess;
use crate::proc;

/// Name of the variable that marks everything an environment started.
pub(crate) const TAG: &str = "VX_TESTKIT_ENV_ID";

/// Which processes to look for.
pub(crate) struct Scope {
    /// The helper, whose descendants are searched; never killed.
    pub(crate) helper: u32,
    /// Never killed: the test itself.
    pub(crate) spared: Option<u32>,
    /// Never killed with the others: what collects the orphans of a namespace.
    pub(crate) init: Option<u32>,
    /// Value of [`TAG`].
    pub(crate) tag: String,
}

impl Scope {
    /// Processes that still run, zombies not counted.
    pub(crate) fn alive(&self) -> BTreeSet<u32> {
        let table = proc::processes();
        let mut ours: HashSet<u32> = proc::descendants(&table, self.helper);
        // What is older than the helper cannot be the test's; most of the
        // machine is, and need not be looked at.
        let oldest = table
            .iter()
            .find(|process| process.pid == self.helper)
            .map_or(0, |helper| helper.start);
        for process in &table {
            if !process.zombie
                && process.start >= oldest
                && !ours.contains(&process.pid)
                && self.may_be_marked(process.pid)
                && proc::carries(process.pid, TAG, &self.tag)
            {
                ours.insert(process.pid);
                ours.extend(proc::descendants(&table, process.pid));
            }
        }
        table
            .iter()
            .filter(|process| !process.zombie && self.may_be_marked(process.pid))
            .map(|process| process.pid)
            .filter(|pid| ours.contains(pid))
            .collect()
    }

    fn may_be_marked(&self, pid: u32) -> bool {
        pid != self.helper && Some(pid) != self.spared && Some(pid) != self.init
    }

    /// Kills until nothing is left; `collect` is called between rounds to
    /// collect children.
    pub(crate) fn kill_all(&self, collect: impl FnMut()) {
        kill_until_gone(|| self.alive(), collect);
    }
}

/// Kills what `find` finds until it finds nothing. Bounded, in case something
/// cannot be killed.
pub(crate) fn kill_until_gone(find: impl Fn() -> BTreeSet<u32>, mut collect: impl FnMut()) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let handles = handles(find());
        if handles.is_empty() {
            return;
        }
        let still_ours = find();
        for (pid, handle) in &handles {
            if still_ours.contains(pid) {
                // Gone already, or not ours to signal: the next round tells.
                let _ = pidfd_send_signal(handle, Signal::KILL);
            }
        }
        wait_until_gone(&handles, deadline);
        collect();
        if Instant::now() >= deadline {
            return;
        }
    }
}

/// Opens a handle for each process that still exists.
pub(crate) fn handles(pids: impl IntoIterator<Item = u32>) -> HashMap<u32, OwnedFd> {
    pids.into_iter()
        .filter_map(|pid| {
            let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
            Some((pid, pidfd_open(raw, PidfdFlags::empty()).ok()?))
        })
        .collect()
}

/// Waits until all have ended or the time is up; says whether all have.
pub(crate) fn wait_until_gone(handles: &HashMap<u32, OwnedFd>, deadline: Instant) -> bool {
    let mut open: Vec<&OwnedFd> = handles.values().collect();
    while !open.is_empty() {
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .collect();
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return false,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
        let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        open.retain(|_| !ended.next().unwrap_or(false));
    }
    true
}

/// Waits on one descriptor until something is to be read or the time is up.
pub(crate) fn readable(fd: impl AsFd, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left =
            deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time in the form `poll` takes.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// What people want to know of processes that should not be there.
pub(crate) fn describe(pids: &BTreeSet<u32>) -> Vec<LeakedProcess> {
    let mut listeners = proc::listeners(pids.iter().copied());
    let parents: HashMap<u32, u32> = proc::processes()
        .into_iter()
        .map(|process| (process.pid, process.parent))
        .collect();
    pids.iter()
        .filter_map(|&pid| {
            Some(LeakedProcess {
                pid,
                parent: *parents.get(&pid)?,
                command: proc::command_line(pid),
                listeners: listeners.remove(&pid).unwrap_or_default(),
            })
        })
        .collect()
}
