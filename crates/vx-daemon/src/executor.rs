//! Runs actions on the executor, with everything they need in the store.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::Code;
use vx_proto::Digest;
use vx_proto::cas::{Blob, CasClient, CasError};
use vx_proto::exec::{ExecClient, ExecError, ExecEvent, missing_in};
use vx_proto::reapi::{ActionResult, OutputFile};
use vx_proto::rpc;

use crate::draft::Prepared;

/// How long an executor may take to hash a directory of a gigabyte or two.
const OFFER_TIMEOUT: Duration = Duration::from_secs(60);

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
        /// The inputs that it misses in the store.
        missing: Vec<Digest>,
    },
    /// The executor ended the conversation without a result.
    #[error("the executor gave no result")]
    NoResult,
    /// The executor missed inputs twice in a row.
    #[error("the executor does not find inputs that were just stored: {}", .0.iter().map(Digest::to_string).collect::<Vec<_>>().join(", "))]
    InputsLost(Vec<Digest>),
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
    held: Mutex<Held>,
}

/// What is remembered of the trees that actions had.
#[derive(Default)]
struct Held {
    /// Trees that the executor has without the store, such as toolchains of its own machine.
    provided: HashSet<Digest>,
    /// Put into this store, so that they need not be asked for one file at a time again.
    stored: HashSet<Digest>,
    /// Provided once, and not any more: the directory has changed under the executor.
    withdrawn: HashSet<Digest>,
}

impl Held {
    /// The executor asked for `missing`: the store was emptied, or a provided directory has changed.
    fn forget(&mut self, missing: &[Digest]) {
        self.stored.clear();
        self.withdrawn.extend(missing);
    }
}

impl Executor {
    /// An executor that has the trees `provided` by itself.
    pub(crate) fn new(cas: CasClient, exec: ExecClient, provided: HashSet<Digest>) -> Executor {
        Executor {
            cas,
            exec,
            held: Mutex::new(Held {
                provided,
                ..Held::default()
            }),
        }
    }

    /// Puts the inputs of an action into the store.
    pub(crate) async fn upload(&self, action: &Prepared) -> Result<(), ExecuteError> {
        let mut blobs = action.messages.clone();
        let mut trees = Vec::new();
        for tree in &action.sources {
            if !self.has(&tree.digest) {
                blobs.extend(Prepared::source_blobs(tree));
                trees.push(tree.digest);
            }
        }
        self.cas
            .ensure(distinct(blobs))
            .await
            .map_err(ExecuteError::Upload)?;
        self.lock().stored.extend(trees);
        Ok(())
    }

    /// Whether these are the trees that the executor is known to have.
    pub(crate) fn provides(&self, trees: &HashSet<Digest>) -> bool {
        self.lock().provided == *trees
    }

    /// Offers a directory of this machine to an executor that is on it as well, unless it has the tree already.
    pub(crate) async fn offer(&self, path: &Path, tree: Digest) {
        if self.has(&tree) {
            return;
        }
        // An executor that is busy for so long gets the tree from the store.
        let answer = tokio::time::timeout(OFFER_TIMEOUT, self.exec.provide(path, tree)).await;
        if answer == Ok(true) {
            let mut held = self.lock();
            held.provided.insert(tree);
            held.withdrawn.remove(&tree);
        }
    }

    /// Whether an action can use the tree as far as is known here.
    fn has(&self, tree: &Digest) -> bool {
        let held = self.lock();
        held.stored.contains(tree) || held.provided.contains(tree) && !held.withdrawn.contains(tree)
    }

    /// Runs an action whose inputs were uploaded; `early` is called for outputs that are there before it ends.
    ///
    /// Dropping the future ends the action.
    pub(crate) async fn run(
        &self,
        action: &Prepared,
        mut early: impl FnMut(OutputFile),
    ) -> Result<Ran, ExecuteError> {
        let mut lost = Vec::new();
        for _ in 0..2 {
            match self.run_once(action, &mut early).await {
                Err(ExecuteError::Refused { missing, .. }) if !missing.is_empty() => {
                    self.lock().forget(&missing);
                    self.upload(action).await?;
                    lost = missing;
                }
                other => return other,
            }
        }
        Err(ExecuteError::InputsLost(lost))
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error in a response that carries no result.
fn refusal(status: Option<&rpc::Status>) -> Result<(), ExecuteError> {
    match status {
        Some(status) if status.code != 0 => Err(ExecuteError::Refused {
            code: Code::from(status.code),
            message: status.message.clone(),
            missing: missing_in(status),
        }),
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
