//! What can go wrong with blobs.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};

use crate::Digest;

/// Why a blob or an action result could not be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// A call did not work.
    #[error("the store did not answer `{call}`")]
    Call {
        /// The call.
        call: &'static str,
        /// What it answered, or what happened to the connection.
        source: Box<Status>,
    },
    /// The store answered something that makes no sense.
    #[error("the store answered `{call}` with nonsense: {what}")]
    Protocol {
        /// The call.
        call: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The store does not have the blob.
    #[error("blob `{digest}` is not in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The bytes that came are not those that the digest names.
    #[error("blob `{digest}` arrived damaged, as `{arrived}`")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// The digest of what came.
        arrived: Digest,
    },
    /// The blob is larger than the caller wants to have in memory.
    #[error("blob `{digest}` is larger than {limit} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The caller's limit.
        limit: u64,
    },
    /// The tree has more directories than the caller wants.
    #[error("the tree `{root}` has more than {limit} directories")]
    TreeTooLarge {
        /// The root.
        root: Digest,
        /// The caller's limit.
        limit: usize,
    },
    /// The store does not take a blob.
    #[error("the store refused blob `{digest}`: {message}")]
    Refused {
        /// The blob.
        digest: Digest,
        /// The kind of the refusal.
        code: Code,
        /// The store's words.
        message: String,
    },
    /// A file to send cannot be read.
    #[error("cannot read `{}`", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file to send is not what it was when it was hashed.
    #[error("`{}` changed while it was sent, it should be `{digest}`", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        digest: Digest,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Sink {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A blob that should be a message is none.
    #[error("blob `{digest}` is not the message it should be")]
    NotAMessage {
        /// The blob.
        digest: Digest,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// A task of this process was cancelled or panicked.
    #[error("a background task did not finish")]
    Task(#[source] tokio::task::JoinError),
    /// The system has no randomness for the name of an upload.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl CasError {
    pub(super) fn call(call: &'static str, status: Status) -> CasError {
        CasError::Call {
            call,
            source: Box::new(status),
        }
    }

    /// That the store, or a message in it, does not keep to the API: `call` names the call or the message.
    pub fn protocol(call: &'static str, what: &dyn std::error::Error) -> CasError {
        CasError::Protocol {
            call,
            what: what.to_string(),
        }
    }

    /// Whether the store is gone, as opposed to having answered something.
    pub fn is_unavailable(&self) -> bool {
        match self {
            CasError::Call { source, .. } => source.code() == Code::Unavailable,
            _ => false,
        }
    }
}
