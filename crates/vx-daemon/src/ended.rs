//! How a unit ended: with outputs, with an error of the code that was built, or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use vx_plan::UnitId;
use vx_proto::Digest;
use vx_proto::cas::CasError;
use vx_proto::command::How;

use crate::diagnostics::Diagnostics;
use crate::executor::ExecuteError;
use crate::unit::{UnitError, UnitOutputs};

/// Why a unit has no outputs, where that is not the fault of the code that was built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The plan gives no action.
    #[error(transparent)]
    Plan(#[from] vx_plan::ActionError),
    /// Inputs are missing or contradict each other.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The inputs do not form a tree.
    #[error("the inputs do not form a tree")]
    Tree(#[from] vx_proto::tree::TreeError),
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] CasError),
    /// The executor does not answer.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// It took longer than the user allows.
    #[error("it did not end within {0:?}, the limit for one action")]
    TimedOut(Duration),
    /// Every run asked for variables that the one before did not know of.
    #[error("it asks for other environment variables each time it runs")]
    Restless,
}

impl RunError {
    /// Whether a service did not do its part.
    pub(crate) fn is_of_service(&self) -> bool {
        matches!(self, RunError::Store(_) | RunError::Execute(_)) && !self.is_changed_source()
    }

    /// Whether a source is not what it was when it was hashed.
    pub(crate) fn is_changed_source(&self) -> bool {
        matches!(
            self,
            RunError::Execute(ExecuteError::Upload(CasError::SourceChanged { .. }))
        )
    }
}

/// A unit whose action ended with an error.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What the compiler said.
    pub(crate) diagnostics: Diagnostics,
    /// What else is to be said, as cargo words it.
    pub(crate) message: Option<String>,
    /// What a build script warned of before it failed.
    pub(crate) warnings: Vec<String>,
    /// The command that was run.
    pub(crate) command: Vec<String>,
}

/// A unit that is there.
#[derive(Clone, Debug)]
pub(crate) struct Success {
    /// What dependents need.
    pub(crate) outputs: UnitOutputs,
    /// What the compiler said, now or when the result was made.
    pub(crate) diagnostics: Diagnostics,
    /// Where the result came from.
    pub(crate) how: How,
    /// The inputs that the result depends on, for `vx explain`.
    pub(crate) inputs: BTreeMap<String, String>,
    /// Variables of the user's environment that it depends on.
    pub(crate) variables: Vec<String>,
}

/// How a unit ended.
pub(crate) type Ended = Result<Result<Success, Failure>, RunError>;

/// Outputs that are there while their unit still runs.
pub(crate) type Early = (UnitId, BTreeMap<String, (Digest, bool)>);
