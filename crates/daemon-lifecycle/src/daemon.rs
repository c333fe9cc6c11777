//! The daemon's side: taking over what the starter prepared, saying that it is
//! ready or why not, noticing that its place was taken, and leaving so that no
//! client is lost.
//!
//! States: starting → serving → leaving → gone. It may fail from the first on; it
//! holds its lock in all but the last.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, HealthStatus};

use crate::holders;
use crate::inherited::InheritError;
use crate::life::{LifeLock, LifeRecord};
use crate::lock::{LockError, StartLock};
use crate::process::own_identity;
use crate::ready::Teller;
use crate::socket_path::SocketPathError;
use crate::step::{Observer, Step, nobody};
use crate::{BindError, Build, Instance, Listener};

/// How long a daemon that was started by hand waits for whoever starts one.
const BATON: Duration = Duration::from_secs(20);
/// How long the lock may be held by somebody who only looks whether it is.
const GLANCE: Duration = Duration::from_secs(1);

/// Why a daemon cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The folder is not this user's alone.
    #[error("refused to use the places of `{name}`")]
    Place {
        /// The daemon.
        name: String,
        /// What is wrong.
        #[source]
        source: SocketPathError,
    },
    /// What was handed over cannot be used.
    #[error("could not take over the listener of `{name}`")]
    Inherit {
        /// The daemon.
        name: String,
        /// What is wrong with it.
        #[source]
        source: InheritError,
    },
    /// Another one runs.
    #[error("`{name}` runs already")]
    RunsAlready {
        /// The daemon.
        name: String,
        /// Who holds its lock.
        #[source]
        source: LockError,
    },
    /// A lock cannot be used.
    #[error("could not lock the places of `{name}`")]
    Lock {
        /// The daemon.
        name: String,
        /// What is wrong.
        #[source]
        source: LockError,
    },
    /// The endpoint cannot be bound.
    #[error("`{name}` could not listen")]
    Bind {
        /// The daemon.
        name: String,
        /// Why not.
        #[source]
        source: BindError,
    },
    /// The system does not tell who this process is.
    #[error("`{name}` could not find out its own identity")]
    Identity {
        /// The daemon.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// This process as a daemon. It holds the daemon's lock until it is dropped.
pub struct Daemon<'a> {
    instance: &'a Instance,
    observer: Observer<'a>,
    life: LifeLock,
    record: LifeRecord,
    teller: Teller,
    /// Device and inode of the socket file that is ours.
    socket: Option<(u64, u64)>,
}

impl fmt::Debug for Daemon<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl<'a> Daemon<'a> {
    /// Makes this process the daemon of `instance`, with the listener that the
    /// starter or a service manager handed over (`LISTEN_FDS`), or one that is bound
    /// here if it was started by hand. `build` is written down for others to compare.
    ///
    /// Call it early in `main`, before there are threads, since the variables that
    /// name the descriptors are removed then. An error is told to the starter.
    ///
    /// # Errors
    /// If another one runs, or a place or what was handed over cannot be used.
    pub fn begin(
        instance: &'a Instance,
        build: Option<Build>,
    ) -> Result<(Daemon<'a>, Listener), BeginError> {
        Daemon::begin_observed(instance, build, &nobody)
    }

    /// As [`Daemon::begin`], and tells each step from now on to the last.
    ///
    /// # Errors
    /// As [`Daemon::begin`].
    pub fn begin_observed(
        instance: &'a Instance,
        build: Option<Build>,
        observer: Observer<'a>,
    ) -> Result<(Daemon<'a>, Listener), BeginError> {
        observer(Step::Begun);
        let mut teller = Teller::inherited();
        match take_over(instance, observer) {
            Ok((life, listener)) => {
                let name = instance.name().to_owned();
                let process = match own_identity() {
                    Ok(process) => process,
                    Err(source) => {
                        let error = BeginError::Identity { name, source };
                        teller.failed(&chain(&error));
                        return Err(error);
                    }
                };
                let record = LifeRecord::starting(&name, listener.endpoint(), process, build);
                let daemon = Daemon {
                    socket: socket_id(instance.endpoint()),
                    instance,
                    observer,
                    life,
                    record,
                    teller,
                };
                daemon.write();
                (daemon.observer)(Step::IdentityWritten);
                Ok((daemon, listener))
            }
            Err(error) => {
                teller.failed(&chain(&error));
                Err(error)
            }
        }
    }

    /// Says that it serves. Clients that wait for the start go on now.
    pub fn ready(&mut self) {
        self.record.health_status = HealthStatus::Healthy;
        self.write();
        self.teller.ready();
        (self.observer)(Step::ReadyTold);
    }

    /// Says why it cannot serve; whoever started it tells its user. To be called
    /// instead of [`Daemon::ready`], right before the process ends.
    pub fn failed(mut self, error: &dyn std::error::Error) {
        self.teller.failed(&chain(error));
    }

    /// What stands in the lock.
    pub fn record(&self) -> &LifeRecord {
        &self.record
    }

    /// Whether clients still find this daemon: its lock file and its socket are where
    /// they were. If not, somebody removed the folder, another daemon may have
    /// started, and this one should finish and end. Cheap enough to ask every minute.
    pub fn is_in_place(&self) -> bool {
        self.life.is_in_place()
            && (self.socket.is_none() || self.socket == socket_id(self.instance.endpoint()))
    }

    /// Begins to leave: takes the socket away, so that nobody new finds it. Clients
    /// that look for a daemon from now on wait for this one to be gone, and start
    /// another.
    ///
    /// Some may have connected and were not accepted yet. The caller takes or refuses
    /// those until `accept` would block, and closes the listener then (on TCP only
    /// that makes the port free); it finishes what runs, and ends
    /// with [`Leaving::finish`] or by ending the process.
    pub fn leave(mut self) -> Leaving<'a> {
        self.record.health_status = HealthStatus::Draining;
        self.write();
        (self.observer)(Step::Leaving);
        if let Endpoint::Unix(path) = self.instance.endpoint()
            && self.socket.is_some()
            && self.socket == socket_id(self.instance.endpoint())
            && self.life.is_in_place()
        {
            // Nobody else can have bound it between the look and this: the lock is
            // held. If it cannot be removed, the next one will do it.
            drop(fs::remove_file(path));
        }
        (self.observer)(Step::SocketRemoved);
        Leaving(self)
    }

    /// Information only: a full disk must not stop a daemon.
    fn write(&self) {
        drop(self.life.write(&self.record));
    }
}

/// A daemon that leaves and still holds its lock, so that no other is started.
#[derive(Debug)]
pub struct Leaving<'a>(Daemon<'a>);

impl Leaving<'_> {
    /// Lets go of the lock: all work is done, and the next daemon may start.
    pub fn finish(self) {
        (self.0.observer)(Step::LifeReleasing);
    }
}

fn take_over(
    instance: &Instance,
    observer: Observer<'_>,
) -> Result<(LifeLock, Listener), BeginError> {
    let name = || instance.name().to_owned();
    instance
        .check_places()
        .map_err(|source| BeginError::Place {
            name: name(),
            source,
        })?;
    let inherited = Listener::inherited().map_err(|source| BeginError::Inherit {
        name: name(),
        source,
    })?;
    if inherited.is_some() {
        observer(Step::ListenerTaken);
    }
    let lock_error = |source| BeginError::Lock {
        name: name(),
        source,
    };
    let life = LifeLock::inherited(&instance.life_lock()).map_err(lock_error)?;
    // Without a starter that holds it, we are our own starter.
    let baton = match (&life, &inherited) {
        (None, None) => Some(
            StartLock::acquire(instance.start_lock(), Instant::now() + BATON)
                .map_err(lock_error)?,
        ),
        _ => None,
    };
    let life = match life {
        Some(life) => life,
        None => own_lock(instance)?,
    };
    observer(Step::LifeTaken);
    let listener = match inherited {
        Some(listener) => listener,
        None => {
            let listener =
                Listener::bind(instance.endpoint()).map_err(|source| BeginError::Bind {
                    name: name(),
                    source,
                })?;
            observer(Step::ListenerTaken);
            listener
        }
    };
    drop(baton);
    Ok((life, listener))
}

fn own_lock(instance: &Instance) -> Result<LifeLock, BeginError> {
    let path = instance.life_lock();
    // Whoever only looks lets go at once; a daemon does not.
    let holders = holders::of_lock(&path).unwrap_or_default();
    let patience = if holders.is_empty() {
        GLANCE
    } else {
        Duration::ZERO
    };
    LifeLock::acquire(&path, Instant::now() + patience, &|_| {}).map_err(|source| {
        let name = instance.name().to_owned();
        match source {
            LockError::Held { .. } => BeginError::RunsAlready { name, source },
            source => BeginError::Lock { name, source },
        }
    })
}

fn socket_id(endpoint: &Endpoint) -> Option<(u64, u64)> {
    let Endpoint::Unix(path) = endpoint else {
        return None;
    };
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
