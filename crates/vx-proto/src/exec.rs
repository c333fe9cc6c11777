//! Client of an executor: one call runs one action, and its stream tells how it
//! goes. Dropping the stream tells the executor that nobody waits any more.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use prost::Message;
use prost_types::Any;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::ext::directories_client::DirectoriesClient;
use crate::ext::{EarlyOutput, ProvideRequest};
use crate::longrunning::{Operation, operation};
use crate::reapi::execution_client::ExecutionClient;
use crate::reapi::execution_stage::Value as Stage;
use crate::reapi::{ExecuteOperationMetadata, ExecuteRequest, ExecuteResponse, OutputFile};
use crate::token::{Bearer, Token};
use crate::{Digest, DigestFunction, MAX_MESSAGE_BYTES, rpc};

/// A client of an executor. Clones share the connection.
#[derive(Clone)]
pub struct ExecClient {
    client: ExecutionClient<InterceptedService<Channel, Bearer>>,
    directories: DirectoriesClient<InterceptedService<Channel, Bearer>>,
    function: DigestFunction,
}

/// Something that happened to an action.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecEvent {
    /// It is in another stage now.
    Stage(Stage),
    /// This output is complete and stored, while the action still runs.
    Early(OutputFile),
    /// It is over. The last event.
    Done(Box<ExecuteResponse>),
}

/// Why an action could not be followed to its end. What became of the action
/// itself is in the response.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The executor does not run the action, or is gone.
    #[error("the executor did not run action `{action}`")]
    Call {
        /// The action.
        action: Digest,
        /// What it answered, or what happened to the connection.
        source: Box<Status>,
    },
    /// The stream ended without a response.
    #[error("the executor stopped to report on action `{action}` before it was over")]
    Interrupted {
        /// The action.
        action: Digest,
    },
    /// The executor sent something that makes no sense.
    #[error("the executor reported nonsense about action `{action}`")]
    Protocol {
        /// The action.
        action: Digest,
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// The executor ended the operation with an error instead of a response.
    #[error("the executor gave action `{action}` up: {message}")]
    Failed {
        /// The action.
        action: Digest,
        /// The kind of error.
        code: Code,
        /// Its words.
        message: String,
    },
}

impl ExecClient {
    /// A client on a channel. `token` is for our own executor; others get none.
    pub fn new(channel: Channel, token: Option<&Token>, function: DigestFunction) -> ExecClient {
        let service = InterceptedService::new(channel, Bearer::new(token));
        ExecClient {
            directories: DirectoriesClient::new(service.clone()),
            client: ExecutionClient::new(service)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            function,
        }
    }

    /// Whether an executor of this machine can use `path` wherever an action has the tree `tree`, so that the store need not have it.
    ///
    /// Executors of others, and those that cannot be asked, do not.
    pub async fn provide(&self, path: &Path, tree: Digest) -> bool {
        let Some(path) = path.to_str() else {
            return false;
        };
        let request = ProvideRequest {
            path: path.to_owned(),
            tree: Some(tree.into()),
        };
        let answer = self.directories.clone().provide(request).await;
        answer.is_ok_and(|answer| answer.into_inner().provided)
    }

    /// Runs an action whose messages and inputs are in the store.
    /// `skip_cache` runs it also when its result is known.
    pub async fn execute(&self, action: Digest, skip_cache: bool) -> Result<Execution, ExecError> {
        let operations = self
            .client
            .clone()
            .execute(ExecuteRequest {
                action_digest: Some(action.into()),
                skip_cache_lookup: skip_cache,
                digest_function: crate::digest::function_number(self.function),
                ..Default::default()
            })
            .await
            .map_err(|source| ExecError::Call {
                action,
                source: Box::new(source),
            })?
            .into_inner();
        Ok(Execution {
            action,
            operations,
            queue: VecDeque::new(),
            early: HashSet::new(),
            stage: Stage::Unknown,
            over: false,
        })
    }
}

/// The stream of events of one action. It ends after [`ExecEvent::Done`] or after
/// an error, never silently before.
#[derive(Debug)]
pub struct Execution {
    action: Digest,
    operations: Streaming<Operation>,
    queue: VecDeque<ExecEvent>,
    /// Paths that were announced; servers may repeat what they said before.
    early: HashSet<String>,
    stage: Stage,
    over: bool,
}

impl Execution {
    fn take(&mut self, operation: Operation) -> Result<(), ExecError> {
        let action = self.action;
        let nonsense = |source| ExecError::Protocol { action, source };
        if let Some(metadata) = &operation.metadata {
            let metadata: ExecuteOperationMetadata = metadata.to_msg().map_err(nonsense)?;
            let stage = metadata.stage();
            if stage != self.stage {
                self.stage = stage;
                self.queue.push_back(ExecEvent::Stage(stage));
            }
            let details = metadata.partial_execution_metadata.unwrap_or_default();
            for early in find_messages::<EarlyOutput>(&details.auxiliary_metadata) {
                let file = early.map_err(nonsense)?.file.unwrap_or_default();
                if self.early.insert(file.path.clone()) {
                    self.queue.push_back(ExecEvent::Early(file));
                }
            }
        }
        match operation.result {
            Some(operation::Result::Response(response)) => {
                let response: ExecuteResponse = response.to_msg().map_err(nonsense)?;
                self.over = true;
                self.queue.push_back(ExecEvent::Done(Box::new(response)));
                Ok(())
            }
            Some(operation::Result::Error(status)) => Err(ExecError::Failed {
                action,
                code: Code::from(status.code),
                message: status.message,
            }),
            None => Ok(()),
        }
    }
}

impl Stream for Execution {
    type Item = Result<ExecEvent, ExecError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let action = self.action;
            let error = match Pin::new(&mut self.operations).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(operation))) => match self.take(operation) {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Poll::Ready(Some(Err(status))) => ExecError::Call {
                    action,
                    source: Box::new(status),
                },
                Poll::Ready(None) => ExecError::Interrupted { action },
            };
            self.over = true;
            self.queue.clear();
            return Poll::Ready(Some(Err(error)));
        }
    }
}

/// The messages of one type among those of any type.
pub fn find_messages<M: Message + prost::Name + Default>(
    messages: &[Any],
) -> impl Iterator<Item = Result<M, prost::DecodeError>> {
    let name = M::full_name();
    messages
        .iter()
        .filter(move |any| any.type_url.rsplit('/').next() == Some(name.as_str()))
        .map(|any| M::decode(any.value.as_slice()))
}

/// The answer of an executor that cannot find inputs, naming each of them as the
/// API wants it.
pub fn missing_blobs_status(missing: &[Digest], function: DigestFunction) -> Status {
    let failure = rpc::PreconditionFailure {
        violations: missing
            .iter()
            .map(|digest| rpc::precondition_failure::Violation {
                r#type: MISSING.to_owned(),
                subject: format!("blobs/{}{digest}", crate::digest::resource_prefix(function)),
                description: String::new(),
            })
            .collect(),
    };
    let message = match missing {
        [one] => format!("blob `{one}` is not in the store"),
        many => format!("{} blobs are not in the store", many.len()),
    };
    let status = rpc::Status {
        code: rpc::Code::FailedPrecondition as i32,
        message: message.clone(),
        // Encoding a message into memory cannot fail.
        details: Any::from_msg(&failure).into_iter().collect(),
    };
    Status::with_details(
        Code::FailedPrecondition,
        message,
        status.encode_to_vec().into(),
    )
}

/// The inputs that an executor could not find; empty for any other status.
pub fn missing_blobs(status: &Status) -> Vec<Digest> {
    let Ok(status) = rpc::Status::decode(status.details()) else {
        return Vec::new();
    };
    missing_in(&status)
}

/// As [`missing_blobs`], for the status in a response.
pub fn missing_in(status: &rpc::Status) -> Vec<Digest> {
    find_messages::<rpc::PreconditionFailure>(&status.details)
        .filter_map(Result::ok)
        .flat_map(|failure| failure.violations)
        .filter(|violation| violation.r#type == MISSING)
        .filter_map(|violation| {
            let mut parts = violation.subject.rsplit('/');
            let (size, hash) = (parts.next()?, parts.next()?);
            format!("{hash}/{size}").parse().ok()
        })
        .collect()
}

const MISSING: &str = "MISSING";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_blobs_survive_the_way_through_a_status() {
        let digests = [Digest::of(b"a"), Digest::of(b"b")];
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            let status = missing_blobs_status(&digests, function);
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert_eq!(missing_blobs(&status), digests);
        }
        assert!(missing_blobs(&Status::internal("other")).is_empty());
    }

    #[test]
    fn messages_are_found_by_their_type() {
        let any = |path: &str| {
            Any::from_msg(&EarlyOutput {
                file: Some(OutputFile {
                    path: path.into(),
                    ..Default::default()
                }),
            })
            .unwrap()
        };
        let other = Any::from_msg(&rpc::PreconditionFailure::default()).unwrap();
        assert_eq!(
            other.type_url,
            "type.googleapis.com/google.rpc.PreconditionFailure"
        );
        let paths: Vec<_> = find_messages::<EarlyOutput>(&[any("x"), other, any("y")])
            .map(|early| early.unwrap().file.unwrap().path)
            .collect();
        assert_eq!(paths, ["x", "y"]);
    }
}
