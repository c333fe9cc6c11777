//! Is it ours? Who runs as an instance, and who answers at its endpoint, as the
//! kernel knows it.
//!
//! Nothing is started, nothing is signalled, and nothing that a file says is
//! believed: the daemon is the process that holds `life.lock`, and a stranger is
//! whoever else listens.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use daemon_contract::{Endpoint, ProcessIdentity};

use crate::connection::{tcp_owner, try_connect};
use crate::holders;
use crate::lifeline::peer_uid;
use crate::process::IdentifiedProcess;
use crate::socket_path::SocketPathError;
use crate::{Instance, LifeRecord};

/// What was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Probe {
    /// No daemon runs, and nobody listens at its endpoint.
    Absent,
    /// A client is starting it at this moment, or a daemon that was started by hand
    /// begins.
    Starting,
    /// It runs.
    Running(Box<RunningDaemon>),
    /// No daemon runs, but somebody else listens at its endpoint.
    Foreign(Stranger),
    /// Something holds the daemon's lock that cannot be seen from here: a process of
    /// another pid namespace, or several processes that share the lock.
    Hidden,
}

/// A daemon that runs, held by the kernel's handle.
#[derive(Debug)]
pub struct RunningDaemon {
    pub(crate) process: IdentifiedProcess,
    pub(crate) record: Option<LifeRecord>,
    pub(crate) listens: bool,
}

impl RunningDaemon {
    /// Which process it is.
    pub fn identity(&self) -> &ProcessIdentity {
        self.process.identity()
    }

    /// What it wrote about itself; `None` if it has not yet.
    pub fn record(&self) -> Option<&LifeRecord> {
        self.record.as_ref()
    }

    /// Whether connections reach it. It does not while it leaves.
    pub fn listens(&self) -> bool {
        self.listens
    }
}

/// Somebody who listens where a daemon should, as far as it can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    /// The user.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
    /// Its program.
    pub program: Option<PathBuf>,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "process {pid} (`{}`)", program.display())?,
            (Some(pid), None) => write!(f, "process {pid}")?,
            (None, _) => f.write_str("a process")?,
        }
        match self.uid {
            Some(uid) => write!(f, " of user {uid}"),
            None => Ok(()),
        }
    }
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Folder or socket are not this user's.
    #[error("could not look for `{name}`")]
    Place {
        /// The daemon.
        name: String,
        /// What is wrong.
        #[source]
        source: SocketPathError,
    },
    /// The system refused.
    #[error("could not look for `{name}` at `{endpoint}`")]
    Io {
        /// The daemon.
        name: String,
        /// Its endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Looks who runs as `instance` and who listens at its endpoint.
///
/// On a Unix socket this connects and closes the connection again. It does not wait
/// for an answer; a socket that accepts nobody is given up at `deadline`.
///
/// # Errors
/// If the places are not this user's, or the system does not tell.
pub fn probe(instance: &Instance, deadline: Instant) -> Result<Probe, ProbeError> {
    instance
        .check_places()
        .map_err(|source| ProbeError::Place {
            name: instance.name().to_owned(),
            source,
        })?;
    look(instance, deadline).map_err(|source| ProbeError::Io {
        name: instance.name().to_owned(),
        endpoint: instance.endpoint().clone(),
        source,
    })
}

fn look(instance: &Instance, deadline: Instant) -> io::Result<Probe> {
    let owner = owner_of(instance)?;
    let answers = listener_at(instance.endpoint(), deadline)?;
    match owner {
        Owner::Process(process) => {
            let listens = match answers {
                None => false,
                // On a Unix socket in our own folder nobody else can listen while
                // the lock is held; a port may be anybody's.
                Some(At::Unix { uid, .. }) => uid == rustix::process::geteuid().as_raw(),
                Some(At::Tcp { inode, .. }) => holders::of_socket(inode)?
                    .iter()
                    .any(|holder| holder == process.identity()),
            };
            let record = LifeRecord::read(&instance.life_lock())
                .filter(|record| record.process == *process.identity());
            Ok(Probe::Running(Box::new(RunningDaemon {
                process,
                record,
                listens,
            })))
        }
        Owner::Starting => Ok(Probe::Starting),
        Owner::Hidden => Ok(Probe::Hidden),
        Owner::Nobody => Ok(match answers {
            None => Probe::Absent,
            Some(at) => Probe::Foreign(at.stranger()?),
        }),
    }
}

/// Who listens.
enum At {
    Unix { uid: u32, pid: Option<u32> },
    Tcp { uid: u32, inode: u64 },
}

impl At {
    fn stranger(self) -> io::Result<Stranger> {
        let (uid, pid) = match self {
            At::Unix { uid, pid } => (uid, pid),
            At::Tcp { uid, inode } => {
                let pid = holders::of_socket(inode)?.first().map(|holder| holder.pid);
                (uid, pid)
            }
        };
        Ok(Stranger {
            uid: Some(uid),
            pid,
            program: pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok()),
        })
    }
}

fn listener_at(endpoint: &Endpoint, deadline: Instant) -> io::Result<Option<At>> {
    match endpoint {
        Endpoint::Tcp { host, port } => Ok(tcp_owner(host, *port)?.map(|owner| At::Tcp {
            uid: owner.uid,
            inode: owner.inode,
        })),
        Endpoint::Unix(_) => {
            let connection = match try_connect(endpoint, deadline) {
                Ok(None) => return Ok(None),
                Ok(Some(connection)) => connection,
                // Somebody listens, and has more to accept than the system queues.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Some(At::Unix {
                        uid: rustix::process::geteuid().as_raw(),
                        pid: None,
                    }));
                }
                Err(error) => return Err(error),
            };
            let pid = rustix::net::sockopt::socket_peercred(&connection)?.pid;
            Ok(Some(At::Unix {
                uid: peer_uid(&connection)?,
                pid: u32::try_from(pid.as_raw_nonzero().get()).ok(),
            }))
        }
    }
}

/// Whoever listens at `endpoint`, to be named in a message.
pub(crate) fn stranger_at(endpoint: &Endpoint, deadline: Instant) -> Option<Stranger> {
    listener_at(endpoint, deadline).ok()??.stranger().ok()
}

/// Who holds the lock of the daemon.
enum Owner {
    Nobody,
    Process(IdentifiedProcess),
    /// Only processes that also hold the lock of starts.
    Starting,
    Hidden,
}

/// The process that holds `life.lock` and not `start.lock`. A client that starts a
/// daemon holds both, and lets go of the first before the second.
fn owner_of(instance: &Instance) -> io::Result<Owner> {
    let (life, start) = (instance.life_lock(), instance.start_lock());
    let holders = holders::of_lock(&life)?;
    if holders.is_empty() {
        return Ok(if is_locked(&life)? {
            Owner::Hidden
        } else {
            Owner::Nobody
        });
    }
    let mut daemons = Vec::new();
    for holder in holders {
        // The handle first: what is seen from now on is about this process.
        let Some(process) = IdentifiedProcess::find(&holder)? else {
            continue;
        };
        // In this order: a client that let go of the lock of starts meanwhile has
        // let go of the other one before.
        if !holders::is_holder(holder.pid, &start) && holders::is_holder(holder.pid, &life) {
            daemons.push(process);
        }
    }
    // A program that the daemon starts has a copy of the lock until it is executed.
    if daemons.len() > 1
        && let Some(record) = LifeRecord::read(&life)
    {
        daemons.retain(|daemon| *daemon.identity() == record.process);
    }
    Ok(match (daemons.pop(), daemons.is_empty()) {
        (Some(daemon), true) => Owner::Process(daemon),
        (Some(_), false) => Owner::Hidden,
        (None, _) if is_locked(&life)? => Owner::Starting,
        (None, _) => Owner::Nobody,
    })
}

/// Whether the lock is held. It is taken and let go for that, so whoever takes it in
/// earnest must not give up at the first try.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
