//! How an action is getting on, as everybody who waits for it sees it.

use prost_types::Any;
use tokio::sync::watch;
use vx_proto::Digest;
use vx_proto::DigestFunction;
use vx_proto::ext::EarlyOutput;
use vx_proto::longrunning::{Operation, operation};
use vx_proto::reapi::execution_stage::Value as Stage;
use vx_proto::reapi::{
    ExecuteOperationMetadata, ExecuteResponse, ExecutedActionMetadata, OutputFile,
};

/// The state of one operation.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    /// Outputs that were published so far.
    pub(crate) early: Vec<OutputFile>,
    /// The end, when it has come.
    pub(crate) done: Option<Box<ExecuteResponse>>,
}

/// Where an action tells how it is getting on. Clones tell the same.
#[derive(Debug, Clone)]
pub(crate) struct Progress(watch::Sender<State>);

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress(watch::Sender::new(State {
            stage: Stage::Unknown,
            early: Vec::new(),
            done: None,
        }))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    pub(crate) fn stage(&self, stage: Stage) {
        self.0.send_modify(|state| state.stage = stage);
    }

    pub(crate) fn early(&self, file: OutputFile) {
        self.0.send_modify(|state| state.early.push(file));
    }

    /// What was announced.
    pub(crate) fn announced(&self) -> Vec<OutputFile> {
        self.0.borrow().early.clone()
    }

    pub(crate) fn done(&self, response: ExecuteResponse) {
        self.0.send_modify(|state| {
            state.stage = Stage::Completed;
            state.done = Some(Box::new(response));
        });
    }
}

impl State {
    /// As a message of the API.
    pub(crate) fn operation(&self, name: &str, action: Digest) -> Operation {
        let early = |file: &OutputFile| {
            // Encoding a message into memory cannot fail.
            Any::from_msg(&EarlyOutput {
                file: Some(file.clone()),
            })
            .ok()
        };
        let auxiliary_metadata: Vec<Any> = self.early.iter().filter_map(early).collect();
        let metadata = ExecuteOperationMetadata {
            stage: self.stage.into(),
            action_digest: Some(action.into()),
            partial_execution_metadata: (!auxiliary_metadata.is_empty()).then(|| {
                ExecutedActionMetadata {
                    auxiliary_metadata,
                    ..Default::default()
                }
            }),
            digest_function: vx_proto::digest::function_number(DigestFunction::Blake3),
            ..Default::default()
        };
        let response = self
            .done
            .as_ref()
            .and_then(|response| Any::from_msg(&**response).ok());
        Operation {
            name: name.to_owned(),
            metadata: Any::from_msg(&metadata).ok(),
            done: response.is_some(),
            result: response.map(operation::Result::Response),
        }
    }
}
