//! What is known after a command ended.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::Tier;

/// How a run went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// How the command ended.
    pub ending: Ending,
    /// What the command and its children used.
    pub usage: Usage,
    /// One entry per [`crate::MountKind::ObservedCopy`], in the order of the spec.
    pub observed: Vec<Observed>,
    /// How strong the walls were.
    pub tier: Tier,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// Resources used by the command and those of its children that it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Largest resident set of a single process, in bytes.
    pub max_rss: u64,
}

/// What was looked at below one observed mount; paths are relative to it, sorted, UTF-8 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Where the copy was mounted.
    pub at: PathBuf,
    /// Files (and symbolic links) whose content was read or mapped.
    pub read_files: Vec<String>,
    /// Directories whose entries were listed; the mount itself is the empty string.
    pub listed_directories: Vec<String>,
}
