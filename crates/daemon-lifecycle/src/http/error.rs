//! Why an HTTP daemon cannot be used, started or ended.

use std::io;
use std::net::SocketAddr;

use daemon_contract::HealthStatus;

use crate::lock::LockError;
use crate::owned::ShutdownError;
use crate::probe::Stranger;
use crate::report::Died;
use crate::spawn::SpawnError;

/// Why a daemon cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpDaemonError {
    /// The URL is not one that is used here.
    #[error("`{url}` cannot be used for `{name}`: {reason}")]
    Url {
        /// The daemon.
        name: String,
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody else listens at the port.
    #[error("`{address}` is not served by `{name}` but by {stranger}")]
    Foreign {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// Who is there.
        stranger: Stranger,
    },
    /// It runs and is not well.
    #[error("`{name}` at `{address}` is {health}")]
    NotHealthy {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// How it is.
        health: HealthStatus,
    },
    /// The lock of starts was not to be had.
    #[error("could not start `{name}`")]
    Lock {
        /// The daemon.
        name: String,
        /// Who holds the lock, or what is wrong with it.
        #[source]
        source: LockError,
    },
    /// The program could not be started.
    #[error("could not start `{name}`")]
    Spawn {
        /// The daemon.
        name: String,
        /// Why not.
        #[source]
        source: SpawnError,
    },
    /// It was started and ended before it was healthy.
    #[error("`{name}` failed to start")]
    Failed {
        /// The daemon.
        name: String,
        /// How it ended, and the end of its log.
        #[source]
        died: Box<Died>,
    },
    /// It was started and was not healthy until the deadline; it was ended.
    #[error("`{name}` was started and was not healthy in time, and was ended")]
    NotInTime {
        /// The daemon.
        name: String,
        /// How it ended, and the end of its log.
        #[source]
        died: Option<Box<Died>>,
    },
    /// It could not be ended.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// The system refused.
    #[error("could not look for `{name}` at `{address}`")]
    Io {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}
