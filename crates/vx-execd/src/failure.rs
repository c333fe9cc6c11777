//! Why an action did not run to its end, and how that is said in the words of the API.
//!
//! A command that exits with an error is not among these: that is a result.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use thiserror::Error;
use tonic::{Code, Status};
use vx_proto::cas::CasError;
use vx_proto::causes;
use vx_proto::{Digest, DigestFunction, rpc};
use vx_sandbox::{RunError, SpawnError};

/// Why there is no result.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Inputs that are nowhere.
    #[error("{} inputs are not in the store", .0.len())]
    Missing(Vec<Digest>),
    /// The action itself is wrong.
    #[error("the action is malformed: {0}")]
    Invalid(String),
    /// The action is not for this machine.
    #[error("{0}")]
    WrongHost(String),
    /// The store did not do its part.
    #[error("cannot {task}")]
    Store {
        task: &'static str,
        #[source]
        source: CasError,
    },
    /// The machine did not do its part.
    #[error("cannot {task} `{}`", path.display())]
    Local {
        task: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The local cache did not do its part.
    #[error("the local cache failed")]
    Cache(#[source] Box<dyn Error + Send + Sync>),
    /// The command was not started.
    #[error("the command cannot be started")]
    Spawn(#[source] SpawnError),
    /// The command did not get as far as to end by itself.
    #[error("the command could not run in its sandbox")]
    Sandbox(#[source] RunError),
    /// It took longer than the action allows.
    #[error("the command was ended after {0:?}, the limit of the action")]
    Timeout(Duration),
    /// An output that was announced early is not what is there at the end.
    #[error("output `{0}` changed after it had been published early")]
    ChangedEarly(String),
    /// Nobody waits for it any more.
    #[error("nobody waits for the action any more")]
    Cancelled,
    /// Something in this program broke.
    #[error("a task of the executor did not finish")]
    Task(#[source] tokio::task::JoinError),
}

impl Failure {
    pub(crate) fn local(
        task: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::Local {
            task,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn cache(error: impl Error + Send + Sync + 'static) -> Failure {
        Failure::Cache(Box::new(error))
    }

    /// From a failed exchange with the store.
    pub(crate) fn store(task: &'static str) -> impl FnOnce(CasError) -> Failure {
        move |source| match source {
            CasError::Missing { digest } => Failure::Missing(vec![digest]),
            source => Failure::Store { task, source },
        }
    }

    fn code(&self) -> Code {
        match self {
            Failure::Missing(_) | Failure::WrongHost(_) => Code::FailedPrecondition,
            Failure::Invalid(_) | Failure::Spawn(_) => Code::InvalidArgument,
            Failure::Sandbox(RunError::Setup(setup)) if setup.is_of_the_program() => {
                Code::InvalidArgument
            }
            Failure::Store { source, .. } if source.is_unavailable() => Code::Unavailable,
            Failure::Timeout(_) => Code::DeadlineExceeded,
            Failure::Cancelled => Code::Cancelled,
            _ if self.is_out_of_space() => Code::ResourceExhausted,
            _ => Code::Internal,
        }
    }

    fn is_out_of_space(&self) -> bool {
        if let Failure::Sandbox(RunError::Setup(setup)) = self {
            return setup.is_out_of_space();
        }
        let mut next: Option<&dyn Error> = self.source();
        while let Some(cause) = next {
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                return matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
            }
            next = cause.source();
        }
        false
    }

    /// As a status of the API, with what is missing in its details.
    pub(crate) fn status(&self) -> Status {
        match self {
            Failure::Missing(digests) => {
                vx_proto::exec::missing_blobs_status(digests, DigestFunction::Blake3)
            }
            other => Status::new(other.code(), causes(other)),
        }
    }

    /// The same as a message inside a response.
    pub(crate) fn message(&self) -> rpc::Status {
        let status = self.status();
        rpc::Status::decode(status.details())
            .ok()
            .filter(|inner| inner.code != 0)
            .unwrap_or_else(|| rpc::Status {
                code: status.code() as i32,
                message: status.message().to_owned(),
                details: Vec::new(),
            })
    }
}

/// Run something that may block where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Failure::Task)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_inputs_are_named_as_violations() {
        let digest = Digest::of(b"x");
        let message = Failure::Missing(vec![digest]).message();
        assert_eq!(message.code, Code::FailedPrecondition as i32);
        assert_eq!(vx_proto::exec::missing_in(&message), [digest]);
    }

    #[test]
    fn a_full_disk_is_told_apart_and_named() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::local("write", "/a/b")(full);
        assert_eq!(failure.message().code, Code::ResourceExhausted as i32);
        assert!(
            failure
                .message()
                .message
                .starts_with("cannot write `/a/b`: ")
        );
    }
}
