//! Descriptors that a starter hands to a daemon besides the listener: the number
//! of each stands in a variable of its own.

use std::env;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::Instance;
use crate::process::remove_variables;

/// Names the descriptor on which the daemon holds its lock.
pub(crate) const LIFE_LOCK_VARIABLE: &str = "DAEMON_LIFE_LOCK_FD";
/// Names the descriptor on which the daemon says that it is ready, or why not.
pub(crate) const READY_VARIABLE: &str = "DAEMON_READY_FD";

/// The descriptor that `variable` names, once and only if it is of `kind`; it is
/// closed in programs that this process starts.
///
/// `taken` belongs to the variable: a second call must not make a second owner.
pub(crate) fn take(variable: &str, taken: &AtomicBool, kind: FileType) -> Option<OwnedFd> {
    let number: RawFd = env::var(variable).ok()?.parse().ok()?;
    // The first three are standard streams, whoever says otherwise.
    if number < 3 || taken.swap(true, Ordering::SeqCst) {
        return None;
    }
    remove_variables(&[variable]);
    // SAFETY: borrowed only to ask what it is; a closed descriptor makes the
    // call fail and nothing else.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let status = fstat(borrowed).ok()?;
    if FileType::from_raw_mode(status.st_mode) != kind {
        return None;
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open and of the kind that the variable promises, which says
    // that it was opened for this process to own; `taken` lets this happen once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What a child gets besides its listener, in the order of the numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Handed<'a> {
    /// The read end of its lifeline.
    pub(crate) lifeline: Option<BorrowedFd<'a>>,
    /// Its lock, held already.
    pub(crate) life_lock: Option<BorrowedFd<'a>>,
    /// The write end of the pipe on which it says that it is ready.
    pub(crate) ready: Option<BorrowedFd<'a>>,
    /// For which instance it is started.
    pub(crate) instance: Option<&'a Instance>,
}

impl<'a> Handed<'a> {
    /// Each descriptor with its variable and the number that the child sees.
    pub(crate) fn numbered(self) -> Vec<(&'static str, BorrowedFd<'a>, RawFd)> {
        [
            (crate::LIFELINE_VARIABLE, self.lifeline),
            (LIFE_LOCK_VARIABLE, self.life_lock),
            (READY_VARIABLE, self.ready),
        ]
        .into_iter()
        .filter_map(|(variable, fd)| Some((variable, fd?)))
        .zip(crate::inherited::LISTENER_FD + 1..)
        .map(|((variable, fd), number)| (variable, fd, number))
        .collect()
    }
}
