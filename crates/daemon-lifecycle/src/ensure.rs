//! Connect to a daemon, and start it first if it does not run: exactly one, however
//! many clients do so at once, without polling.
//!
//! The order of the steps is the proof. Whoever holds `start.lock` and then gets
//! `life.lock` knows that no daemon exists, may take a stale socket away, listens,
//! and hands listener and lock to the daemon; there is no moment at which two could
//! do that, or at which a killed client leaves anything behind that the next one
//! would not clean up.

mod error;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use daemon_contract::ProcessIdentity;

use crate::connection::{Connection, try_connect};
use crate::detached::{DetachedChild, spawn_handing};
use crate::handed::Handed;
use crate::life::LifeLock;
use crate::lifeline::peer_uid;
use crate::lock::{LockError, StartLock};
use crate::owned::OwnedDaemon;
use crate::probe::{Stranger, stranger_at};
use crate::ready::{self, Heard, Hearer};
use crate::report::Died;
use crate::spawn::{ServiceSpec, SpawnError};
use crate::step::{Observer, Step, nobody};
use crate::tracker::{ChildInfo, SpawnTracker};
use crate::{BindError, Instance, Listener};

pub use error::EnsureError;

/// How long all of it may take, if nothing else is said.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a daemon that broke off may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// Connects to an instance, and starts it when it does not run.
///
/// The daemon must take over with [`Daemon::begin`](crate::Daemon::begin); one that
/// does not is never heard to be ready.
#[derive(Clone, Copy)]
pub struct Ensure<'a> {
    instance: &'a Instance,
    spec: &'a ServiceSpec,
    deadline: Option<Instant>,
    observer: Observer<'a>,
    tracker: Option<&'a SpawnTracker>,
}

/// A connection to a daemon, and where it comes from.
#[derive(Debug)]
pub struct Ensured {
    /// The connection. Over TCP, whoever listens at the port has it: the protocol
    /// must tell who that is.
    pub connection: Connection,
    /// Whether the daemon was started for it.
    pub origin: Origin,
}

/// Where a daemon comes from.
#[derive(Debug)]
pub enum Origin {
    /// It ran already.
    Found,
    /// It was started here, and goes on when this process ends.
    Started(Box<OwnedDaemon>),
    /// It was started here, and belongs to the tracker.
    Tracked(ChildInfo),
}

impl<'a> Ensure<'a> {
    /// Starts the daemon as `spec` says, if it does not run.
    pub fn new(instance: &'a Instance, spec: &'a ServiceSpec) -> Ensure<'a> {
        Ensure {
            instance,
            spec,
            deadline: None,
            observer: &nobody,
            tracker: None,
        }
    }

    /// When to give up; without this, 20 seconds after [`Ensure::run`].
    #[must_use]
    pub fn deadline(self, deadline: Instant) -> Self {
        Ensure {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Tells each step, e.g. to show whom one waits for.
    #[must_use]
    pub fn observe(self, observer: Observer<'a>) -> Self {
        Ensure { observer, ..self }
    }

    /// Has the daemon belong to `tracker`: it ends when the tracker is dropped and,
    /// if `spec` gives it a lifeline, when this process is killed.
    #[must_use]
    pub fn owned_by(self, tracker: &'a SpawnTracker) -> Self {
        Ensure {
            tracker: Some(tracker),
            ..self
        }
    }

    /// Connects; starts the daemon first if nobody listens.
    ///
    /// # Errors
    /// Each obstacle has its own variant.
    pub fn run(self) -> Result<Ensured, EnsureError> {
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        if !self.instance.endpoint().is_local() {
            return Err(EnsureError::NotLocal {
                endpoint: self.instance.endpoint().clone(),
            });
        }
        self.instance
            .check_places()
            .map_err(|source| EnsureError::Place {
                name: self.name(),
                source,
            })?;
        loop {
            (self.observer)(Step::Connecting);
            if let Some(connection) = self.connect(deadline)? {
                return Ok(found(connection));
            }
            (self.observer)(Step::LockingStart);
            let slow = |holder| (self.observer)(Step::WaitingForStart(holder));
            let baton = StartLock::acquire_observed(&self.instance.start_lock(), deadline, &slow)
                .map_err(|source| {
                self.lock_error(source, |name, source| EnsureError::Start { name, source })
            })?;
            (self.observer)(Step::StartLocked);
            let ensured = self.start(deadline);
            drop(baton);
            (self.observer)(Step::StartUnlocked);
            // A daemon that was asked to leave as soon as it was ready is followed by
            // another one; that ends with the deadline.
            if let Some(ensured) = ensured? {
                return Ok(ensured);
            }
        }
    }

    fn name(&self) -> String {
        self.instance.name().to_owned()
    }

    /// A lock that stands in a wrong place is a fault of the place, and one that cannot
    /// be used tells nothing about other processes.
    fn lock_error(
        &self,
        error: LockError,
        otherwise: impl FnOnce(String, Box<LockError>) -> EnsureError,
    ) -> EnsureError {
        match error {
            LockError::Folder { source, .. } => EnsureError::Place {
                name: self.name(),
                source,
            },
            held @ LockError::Held { .. } => otherwise(self.name(), Box::new(held)),
            source => EnsureError::Start {
                name: self.name(),
                source: Box::new(source),
            },
        }
    }

    fn connect(&self, deadline: Instant) -> Result<Option<Connection>, EnsureError> {
        let endpoint = self.instance.endpoint();
        let failed = |source| EnsureError::Connect {
            name: self.name(),
            endpoint: endpoint.clone(),
            source,
        };
        let connection = try_connect(endpoint, deadline).map_err(failed)?;
        if let Some(Connection::Unix(stream)) = &connection {
            let uid = peer_uid(stream).map_err(failed)?;
            if uid != rustix::process::geteuid().as_raw() {
                return Err(EnsureError::Foreign {
                    name: self.name(),
                    endpoint: endpoint.clone(),
                    stranger: Stranger {
                        uid: Some(uid),
                        ..Stranger::default()
                    },
                });
            }
        }
        Ok(connection)
    }

    /// What is done under the lock of starts; `None` if the daemon left already.
    fn start(&self, deadline: Instant) -> Result<Option<Ensured>, EnsureError> {
        if let Some(connection) = self.connect(deadline)? {
            return Ok(Some(found(connection)));
        }
        (self.observer)(Step::LockingLife);
        let slow = |holder: Option<ProcessIdentity>| {
            (self.observer)(Step::WaitingForLife(holder));
        };
        let life =
            LifeLock::acquire(&self.instance.life_lock(), deadline, &slow).map_err(|source| {
                self.lock_error(source, |name, source| EnsureError::Unresponsive {
                    name,
                    endpoint: self.instance.endpoint().clone(),
                    source,
                })
            })?;
        (self.observer)(Step::LifeLocked);
        let listener = self.bind(deadline)?;
        (self.observer)(Step::Bound);
        let (child, hearer) = self.spawn(&listener, &life)?;
        // From now on they are the daemon's; when it ends, they are free.
        drop((listener, life));
        (self.observer)(Step::Spawned);
        let origin = self.await_ready(child, hearer, deadline)?;
        (self.observer)(Step::Ready);
        let connection = self.connect(deadline)?;
        Ok(connection.map(|connection| Ensured { connection, origin }))
    }

    fn bind(&self, deadline: Instant) -> Result<Listener, EnsureError> {
        let endpoint = self.instance.endpoint();
        let removed = || (self.observer)(Step::StaleSocketRemoved);
        match Listener::bind_observed(endpoint, &removed) {
            Ok(listener) => Ok(listener),
            Err(BindError::Path { source, .. }) => Err(EnsureError::Place {
                name: self.name(),
                source,
            }),
            Err(error) if error.is_in_use() => Err(EnsureError::Foreign {
                name: self.name(),
                endpoint: endpoint.clone(),
                stranger: stranger_at(endpoint, deadline).unwrap_or_default(),
            }),
            Err(source) => Err(EnsureError::Bind {
                name: self.name(),
                source,
            }),
        }
    }

    fn spawn(
        &self,
        listener: &Listener,
        life: &LifeLock,
    ) -> Result<(Spawned<'a>, Hearer), EnsureError> {
        let failed = |source| EnsureError::Spawn {
            name: self.name(),
            source,
        };
        let (hearer, teller) = ready::pipe().map_err(|source| {
            failed(SpawnError::Prepare {
                program: self.spec.program.clone(),
                source,
            })
        })?;
        let handed = Handed {
            lifeline: None,
            life_lock: Some(life.as_fd()),
            ready: Some(teller.as_fd()),
            instance: Some(self.instance),
        };
        let child = match self.tracker {
            Some(tracker) => {
                let info = tracker
                    .spawn_handing(self.spec, listener, handed)
                    .map_err(failed)?;
                Spawned::Tracked(tracker, info)
            }
            None => {
                Spawned::Detached(spawn_handing(self.spec, Some(listener), handed).map_err(failed)?)
            }
        };
        Ok((child, hearer))
    }

    fn await_ready(
        &self,
        child: Spawned<'_>,
        hearer: Hearer,
        deadline: Instant,
    ) -> Result<Origin, EnsureError> {
        let message = match hearer.hear(deadline) {
            Ok(Heard::Ready) => {
                return child.into_origin(self.instance.name()).map_err(|source| {
                    EnsureError::Connect {
                        name: self.name(),
                        endpoint: self.instance.endpoint().clone(),
                        source,
                    }
                });
            }
            Ok(Heard::Failed(message)) => Some(message),
            Ok(Heard::Nothing) => None,
            // A pipe that cannot be read tells as little as a daemon that is silent.
            Ok(Heard::Silence) | Err(_) => {
                return Err(EnsureError::Silent {
                    name: self.name(),
                    pid: child.pid(),
                    log: self.spec.log.clone(),
                });
            }
        };
        Err(EnsureError::Failed {
            name: self.name(),
            message,
            died: child.end().map(Box::new),
        })
    }
}

fn found(connection: Connection) -> Ensured {
    Ensured {
        connection,
        origin: Origin::Found,
    }
}

/// A daemon that was started and is not ready yet.
enum Spawned<'a> {
    Detached(DetachedChild),
    Tracked(&'a SpawnTracker, ChildInfo),
}

impl Spawned<'_> {
    fn pid(&self) -> u32 {
        match self {
            Spawned::Detached(child) => child.pid(),
            Spawned::Tracked(_, info) => info.pid,
        }
    }

    fn into_origin(self, name: &str) -> io::Result<Origin> {
        match self {
            Spawned::Detached(child) => {
                OwnedDaemon::of_child(name, child).map(|owned| Origin::Started(Box::new(owned)))
            }
            Spawned::Tracked(_, info) => Ok(Origin::Tracked(info)),
        }
    }

    /// It failed: it gets a moment to end by itself, so that its own status is seen.
    fn end(self) -> Option<Died> {
        match self {
            Spawned::Detached(mut child) => {
                if let Ok(Some(died)) = child.exited_within(LAST_BREATH) {
                    return Some(died.clone());
                }
                child.stop(Duration::ZERO).ok()?.1
            }
            Spawned::Tracked(tracker, info) => {
                tracker.has_ended(info, LAST_BREATH);
                tracker.kill(info)
            }
        }
    }
}
