//! The steps of a start and of an end, by name, for whoever looks on: a command
//! line that tells what it waits for, a log, a test that interferes exactly there.

use std::fmt;

use daemon_contract::ProcessIdentity;

/// Where a start or an end has got to. Each is told right after it was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Client: connects, without any lock.
    Connecting,
    /// Client: nobody listens; takes the lock of starts.
    LockingStart,
    /// Client: has waited for a second for that lock, and knows who holds it if
    /// the holder told.
    WaitingForStart(Option<ProcessIdentity>),
    /// Client: holds the lock of starts.
    StartLocked,
    /// Client: connected again in vain; takes the lock that a daemon holds for
    /// life.
    LockingLife,
    /// Client: waits for a daemon that does not listen any more, or not yet.
    WaitingForLife(Option<ProcessIdentity>),
    /// Client: holds that lock, so no daemon exists.
    LifeLocked,
    /// Client: removed the socket file of a daemon that is gone.
    StaleSocketRemoved,
    /// Client: listens, for the daemon; connections queue up.
    Bound,
    /// Client: started the daemon, and has given listener and lock away.
    Spawned,
    /// Client: the daemon is ready.
    Ready,
    /// Client: let go of the lock of starts.
    StartUnlocked,
    /// Daemon: runs, and has taken nothing over yet.
    Begun,
    /// Daemon: owns the listener, which listens in its name now.
    ListenerTaken,
    /// Daemon: owns the lock that it holds for life.
    LifeTaken,
    /// Daemon: wrote into the lock who it is.
    IdentityWritten,
    /// Daemon: told its starter that it is ready.
    ReadyTold,
    /// Daemon: begins to leave, and has said so in the lock.
    Leaving,
    /// Daemon: took its socket away; nobody finds it any more.
    SocketRemoved,
    /// Daemon: finished with those who had connected, and lets go of the lock now.
    LifeReleasing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connecting => "connecting",
            Step::LockingStart => "taking the lock of starts",
            Step::WaitingForStart(holder) => {
                return waiting(f, "waiting for another start", holder.as_ref());
            }
            Step::StartLocked => "holding the lock of starts",
            Step::LockingLife => "taking the lock of the daemon",
            Step::WaitingForLife(holder) => {
                return waiting(f, "waiting for a daemon that leaves", holder.as_ref());
            }
            Step::LifeLocked => "no daemon runs",
            Step::StaleSocketRemoved => "removed a stale socket",
            Step::Bound => "listening for the daemon",
            Step::Spawned => "started the daemon",
            Step::Ready => "the daemon is ready",
            Step::StartUnlocked => "let go of the lock of starts",
            Step::Begun => "begun",
            Step::ListenerTaken => "took the listener",
            Step::LifeTaken => "took the lock of the daemon",
            Step::IdentityWritten => "wrote down who it is",
            Step::ReadyTold => "told that it is ready",
            Step::Leaving => "leaving",
            Step::SocketRemoved => "removed its socket",
            Step::LifeReleasing => "letting go of the lock of the daemon",
        })
    }
}

fn waiting(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    holder: Option<&ProcessIdentity>,
) -> fmt::Result {
    match holder {
        Some(holder) => write!(f, "{what}, process {}", holder.pid),
        None => f.write_str(what),
    }
}

/// Is told each [`Step`].
pub type Observer<'a> = &'a dyn Fn(Step);

/// For those who look at nothing.
pub(crate) fn nobody(_step: Step) {}
