//! Why there is no connection to a daemon: each obstacle names what it is about.

use std::io;
use std::path::PathBuf;

use daemon_contract::Endpoint;

use crate::BindError;
use crate::lock::LockError;
use crate::probe::Stranger;
use crate::report::Died;
use crate::socket_path::SocketPathError;
use crate::spawn::SpawnError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsureError {
    /// It can only be started on this machine.
    #[error("nothing is started at `{endpoint}`, which is not an address of this machine alone")]
    NotLocal {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Its folder or its socket is not this user's.
    #[error("refused to use the places of `{name}`")]
    Place {
        /// The daemon.
        name: String,
        /// What is wrong.
        #[source]
        source: SocketPathError,
    },
    /// Somebody else listens at its endpoint.
    #[error("`{endpoint}` is not served by `{name}` but by {stranger}")]
    Foreign {
        /// The daemon.
        name: String,
        /// Its endpoint.
        endpoint: Endpoint,
        /// Who is there.
        stranger: Stranger,
    },
    /// Connecting failed for another reason than that nobody listens.
    #[error("could not connect to `{name}` at `{endpoint}`")]
    Connect {
        /// The daemon.
        name: String,
        /// Its endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The lock of starts was not to be had, or none of the locks can be used.
    #[error("could not start `{name}`{}", why(source))]
    Start {
        /// The daemon.
        name: String,
        /// Who holds the lock, or what is wrong with it.
        #[source]
        source: Box<LockError>,
    },
    /// A daemon runs and does not listen, and did not leave either.
    #[error("`{name}` runs but does not listen at `{endpoint}`; end it to have it started anew")]
    Unresponsive {
        /// The daemon.
        name: String,
        /// Its endpoint.
        endpoint: Endpoint,
        /// Which process it is.
        #[source]
        source: Box<LockError>,
    },
    /// The endpoint could not be bound.
    #[error("could not start `{name}`")]
    Bind {
        /// The daemon.
        name: String,
        /// Why not.
        #[source]
        source: BindError,
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
    /// It was started and said why it cannot go on, or just ended.
    #[error("`{name}` failed to start{}", message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Failed {
        /// The daemon.
        name: String,
        /// What it said about it.
        message: Option<String>,
        /// How it ended, and the end of its log.
        #[source]
        died: Option<Box<Died>>,
    },
    /// It was started and is not ready yet. It was left running.
    #[error("`{name}` (process {pid}) was started and is not ready yet, log: `{log}`")]
    Silent {
        /// The daemon.
        name: String,
        /// Its process.
        pid: u32,
        /// Its log.
        log: PathBuf,
    },
}

fn why(error: &LockError) -> &'static str {
    match error {
        LockError::Held { .. } => ", since another start of it does not end",
        _ => "",
    }
}
