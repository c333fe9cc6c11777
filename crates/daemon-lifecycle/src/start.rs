//! Start once: of all clients that find no daemon, one starts it.
//!
//! It does not know what the daemon speaks. "It runs" means here that somebody
//! listens; who that is, the handshake of the protocol must tell.

use std::path::Path;
use std::time::Instant;

use daemon_contract::Endpoint;

use crate::detached::{DetachedChild, spawn_detached};
use crate::lock::{LockError, StartLock};
use crate::spawn::{ServiceSpec, SpawnError};
use crate::{BindError, Listener};

/// What [`start_once`] found or did.
#[derive(Debug)]
pub enum Started {
    /// Somebody listens there already: connect again.
    Running,
    /// It was started here. Connections queue up from now on; hand this to
    /// whoever waits for the first answer, to tell why none comes.
    Here(DetachedChild),
}

/// Why no daemon was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The baton could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The endpoint could not be bound.
    #[error(transparent)]
    Bind(BindError),
    /// The program could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// Starts a daemon at `endpoint` unless somebody listens there.
///
/// Call it after a connect was refused. Whoever waits for the lock meanwhile
/// finds the daemon running.
///
/// # Errors
/// If the lock, the endpoint or the program stands in the way.
pub fn start_once(
    endpoint: &Endpoint,
    lock: impl AsRef<Path>,
    deadline: Instant,
    spec: &ServiceSpec,
) -> Result<Started, StartError> {
    let _baton = StartLock::acquire(lock, deadline)?;
    // The bind is the second look: it fails if somebody was faster.
    match Listener::bind(endpoint) {
        Ok(listener) => Ok(Started::Here(spawn_detached(spec, listener)?)),
        Err(error) if error.is_in_use() => Ok(Started::Running),
        Err(error) => Err(StartError::Bind(error)),
    }
}
