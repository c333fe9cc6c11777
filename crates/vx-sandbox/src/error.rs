//! Why a command could not be started, or why nothing is known of its end.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The command was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The spec has no program.
    #[error("the command is empty")]
    EmptyCommand,
    /// A path in the spec must be absolute and free of `..`.
    #[error("path `{0}` is not an absolute path without `..`")]
    BadPath(PathBuf),
    /// Paths travel as UTF-8.
    #[error("path `{0}` is not UTF-8")]
    NotUtf8(PathBuf),
    /// Two mounts stand at the same place.
    #[error("two mounts at `{0}`")]
    Duplicate(PathBuf),
    /// Nothing can be mounted below something that cannot be changed.
    #[error("mount `{inner}` lies inside the read-only mount `{outer}`")]
    InsideReadOnly {
        /// The mount that has no place.
        inner: PathBuf,
        /// The mount it lies in.
        outer: PathBuf,
    },
    /// The spec could not be encoded.
    #[error("the sandbox specification cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The process that builds the sandbox could not be started.
    #[error("the sandbox process cannot be started")]
    Start(#[source] io::Error),
    /// The thread that starts processes is gone.
    #[error("the launcher has shut down")]
    LauncherGone,
}

/// The command was started, or nearly so, and how it ended is not known.
#[derive(Debug, Error)]
pub enum RunError {
    /// It was ended through a [`crate::Killer`].
    #[error("the command was killed")]
    Killed,
    /// A step of building the sandbox failed.
    #[error("{0}")]
    Setup(SetupFailure),
    /// The sandbox processes ended without a word, for example by the hand of the out-of-memory killer.
    #[error("the sandbox ended without a report")]
    Vanished,
    /// The report could not be read.
    #[error("the report of the sandbox cannot be read")]
    Read(#[source] io::Error),
    /// The report is not one.
    #[error("the report of the sandbox is malformed")]
    Malformed(#[source] serde_json::Error),
}

/// Which step of building the sandbox failed on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("cannot {step} `{subject}`: {}", io::Error::from_raw_os_error(*errno))]
pub struct SetupFailure {
    /// What was tried, as a verb.
    pub step: String,
    /// On what: a path, a namespace, a program.
    pub subject: String,
    /// The system's answer.
    pub errno: i32,
}

impl SetupFailure {
    pub(crate) const EXECUTE: &str = "execute";

    /// Whether the sandbox stood and only the program itself could not be executed (missing, no permission, wrong format).
    pub fn is_of_the_program(&self) -> bool {
        self.step == Self::EXECUTE
    }

    /// Whether the system had no space left.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.errno, libc::ENOSPC | libc::EDQUOT)
    }
}
