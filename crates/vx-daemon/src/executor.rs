//! Runs actions on the executor, with everything they need in the store.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio_stream::StreamExt;
use tonic::Code;
use vx_proto::Digest;
use vx_proto::cas::{Blob, CasClient, CasError};
use vx_proto::exec::{ExecClient, ExecError, ExecEvent, find_messages};
use vx_proto::reapi::{ActionResult, OutputFile};
use vx_proto::rpc;

use crate::draft::Prepared;

/// Why an action has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// An input could not be put into the store.
    #[error("cannot put an input into the store")]
    Upload(#[source] CasError),
    /// The executor could not run it.
    #[error("the executor could not run the action")]
    Execute(#[source] ExecError),
    /// The executor answered that it cannot run the action.
    #[error("the executor cannot run the action: {message}")]
    Refused {
        /// The kind of error.
        code: Code,
        /// Its words.
        message: String,
        /// Whether it misses inputs in the store.
        missing: bool,
    },
    /// The executor ended the conversation without a result.
    #[error("the executor gave no result")]
    NoResult,
    /// The executor lost inputs twice in a row.
    #[error("the executor does not find inputs that were just stored")]
    InputsLost,
}

/// An action that has run, well or not.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// What it left.
    pub(crate) result: ActionResult,
    /// Whether the executor had the result already.
    pub(crate) cached: bool,
    /// What the executor has to say about it.
    pub(crate) message: String,
}

/// The executor and the store beside it.
pub(crate) struct Executor {
    pub(crate) cas: CasClient,
    pub(crate) exec: ExecClient,
    /// Trees that the executor has without the store, such as toolchains of its own machine.
    pub(crate) provided: HashSet<Digest>,
    /// Trees that were put into this store, so that they need not be asked for one file at a time again.
    stored: Mutex<HashSet<Digest>>,
}

impl Executor {
    /// An executor that has the trees `provided` by itself.
    pub(crate) fn new(cas: CasClient, exec: ExecClient, provided: HashSet<Digest>) -> Executor {
        Executor {
            cas,
            exec,
            provided,
            stored: Mutex::default(),
        }
    }

    /// Puts the inputs of an action into the store.
    pub(crate) async fn upload(&self, action: &Prepared) -> Result<(), ExecuteError> {
        let mut blobs = action.messages.clone();
        let mut trees = Vec::new();
        for tree in &action.sources {
            let known = self.provided.contains(&tree.digest) || self.lock().contains(&tree.digest);
            if !known {
                blobs.extend(Prepared::source_blobs(tree));
                trees.push(tree.digest);
            }
        }
        self.cas
            .ensure(distinct(blobs))
            .await
            .map_err(ExecuteError::Upload)?;
        self.lock().extend(trees);
        Ok(())
    }

    /// Runs an action whose inputs were uploaded; `early` is called for outputs that are there before it ends.
    ///
    /// Dropping the future ends the action.
    pub(crate) async fn run(
        &self,
        action: &Prepared,
        mut early: impl FnMut(OutputFile),
    ) -> Result<Ran, ExecuteError> {
        for _ in 0..2 {
            match self.run_once(action, &mut early).await {
                Err(ExecuteError::Refused { missing: true, .. }) => {
                    // The store was emptied since; nothing that was remembered of it holds.
                    self.lock().clear();
                    self.upload(action).await?;
                }
                other => return other,
            }
        }
        Err(ExecuteError::InputsLost)
    }

    async fn run_once(
        &self,
        action: &Prepared,
        early: &mut impl FnMut(OutputFile),
    ) -> Result<Ran, ExecuteError> {
        let mut events = self
            .exec
            .execute(action.digest, false)
            .await
            .map_err(ExecuteError::Execute)?;
        while let Some(event) = events.next().await {
            match event.map_err(ExecuteError::Execute)? {
                ExecEvent::Early(file) => early(file),
                ExecEvent::Stage(_) => {}
                ExecEvent::Done(response) => {
                    refusal(response.status.as_ref())?;
                    return Ok(Ran {
                        result: response.result.ok_or(ExecuteError::NoResult)?,
                        cached: response.cached_result,
                        message: response.message,
                    });
                }
            }
        }
        Err(ExecuteError::NoResult)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error in a response that carries no result.
fn refusal(status: Option<&rpc::Status>) -> Result<(), ExecuteError> {
    match status {
        Some(status) if status.code != 0 => {
            let missing = find_messages::<rpc::PreconditionFailure>(&status.details)
                .flatten()
                .flat_map(|failure| failure.violations)
                .any(|violation| violation.r#type == "MISSING");
            Err(ExecuteError::Refused {
                code: Code::from(status.code),
                message: status.message.clone(),
                missing,
            })
        }
        _ => Ok(()),
    }
}

fn distinct(blobs: Vec<Blob>) -> Vec<Blob> {
    let mut seen = HashSet::with_capacity(blobs.len());
    blobs
        .into_iter()
        .filter(|blob| seen.insert(blob.digest))
        .collect()
}
