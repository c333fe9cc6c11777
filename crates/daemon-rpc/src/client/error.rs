//! Why a connection came to nothing.

use std::io;

use daemon_contract::{Endpoint, ServiceVersion};

use super::daemon::DaemonError;
use super::run::{Interruption, Outcome, Refused};
use crate::message::EndStatus;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("nothing listens on `{endpoint}`")]
    NotRunning {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there who is not the service.
    #[error("{endpoint} answers, but is not {service}")]
    Foreign {
        /// The endpoint.
        endpoint: Endpoint,
        /// The service that was expected.
        service: String,
        /// How it shows.
        #[source]
        why: Foreign,
    },
    /// It is the service, and speaks another protocol.
    #[error(
        "`{endpoint}` is {} {} and speaks protocol {}, this program speaks protocol {ours}",
        theirs.service, theirs.crate_version, theirs.protocol
    )]
    VersionMismatch {
        /// The endpoint.
        endpoint: Endpoint,
        /// The protocol of this program.
        ours: u32,
        /// Who is there.
        theirs: ServiceVersion,
    },
    /// It is the service, and this crate's protocol has changed in between.
    #[error(
        "`{endpoint}` is {} {} and speaks wire version {min} to {max}, this program speaks {ours}",
        theirs.service, theirs.crate_version
    )]
    WireMismatch {
        /// The endpoint.
        endpoint: Endpoint,
        /// The wire version of this program.
        ours: u16,
        /// The oldest that the service speaks.
        min: u16,
        /// The newest that the service speaks.
        max: u16,
        /// Who is there.
        theirs: ServiceVersion,
    },
    /// The token is missing or wrong, or the service belongs to another user.
    #[error("`{endpoint}` denied access")]
    Denied {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The service is about to end. Soon nobody will listen there.
    #[error("`{endpoint}` is shutting down")]
    Draining {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The service runs as many commands as it may.
    #[error("`{endpoint}` is busy")]
    Busy {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The service takes no command of this length.
    #[error("`{endpoint}` takes commands of at most {limit} bytes")]
    CommandTooLong {
        /// The endpoint.
        endpoint: Endpoint,
        /// Its limit in bytes.
        limit: u32,
    },
    /// The system refused.
    #[error("could not talk to `{endpoint}`")]
    Io {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// How a stranger shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It answered something else.
    #[error("its answer is not of this protocol")]
    Garbage,
    /// It said nothing at all in time.
    #[error("it accepted the connection and said nothing for {millis} ms")]
    Silent {
        /// How long it was waited for.
        millis: u128,
    },
    /// It closes connections instead of answering, again and again.
    #[error("it closes the connection without an answer")]
    Closes,
    /// It is another service.
    #[error("it is {service}")]
    OtherService {
        /// What it says it is.
        service: String,
    },
    /// It belongs to another user.
    #[error("it belongs to the user with the id {uid}")]
    OtherUser {
        /// The user's id.
        uid: u32,
    },
}

/// Why a command did not succeed, for callers that pass errors on; see
/// [`Outcome::into_result`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no daemon to be had; the command did not run.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The command did not begin to run, and never will: trying again is safe.
    #[error("the command was not admitted")]
    NotAdmitted {
        /// Why.
        #[source]
        reason: Refused,
    },
    /// It began to run, and what became of it is unknown.
    #[error("the command was interrupted")]
    Interrupted {
        /// What happened.
        #[source]
        reason: Interruption,
    },
    /// The server broke the rules; what became of the command is unknown.
    #[error("the server broke the protocol: {what}")]
    Protocol {
        /// How.
        what: String,
    },
    /// The server could not carry it out.
    #[error("the command failed: {message}")]
    Failed {
        /// Why, as the server tells.
        message: String,
    },
}

impl Outcome {
    /// How the command ended by itself: with an exit code, a signal, or since it
    /// was cancelled.
    ///
    /// # Errors
    /// Every other outcome, and a command that the server could not carry out.
    pub fn into_result(self) -> Result<EndStatus, CommandError> {
        match self {
            Outcome::Finished(EndStatus::Failed { message }) => {
                Err(CommandError::Failed { message })
            }
            Outcome::Finished(status) => Ok(status),
            Outcome::NotAdmitted { reason } => Err(CommandError::NotAdmitted { reason }),
            Outcome::Interrupted { reason } => Err(CommandError::Interrupted { reason }),
            Outcome::Protocol { what } => Err(CommandError::Protocol { what }),
        }
    }
}
