//! What the host and the sandbox processes say to each other over their socket.
//!
//! Host to stage one: length (`u32`, big endian) with the descriptors attached, then an [`Envelope`] as JSON.
//! PID 1 to host: one [`Message`] as JSON, then the end of the stream.

use serde::{Deserialize, Serialize};

use crate::error::SetupFailure;
use crate::report::Report;
use crate::spec::Spec;

/// The argument that makes the embedding program a sandbox process.
pub(crate) const HIDDEN_ARGUMENT: &str = "--vx-sandbox-stage-one";

/// A spec, and where the attached descriptors go: the first two are standard output and error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) spec: Spec,
    pub(crate) inherited: Vec<i32>,
}

/// The last word of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Done(Report),
    Failed(SetupFailure),
}
