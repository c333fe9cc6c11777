//! What to run and what it may see.
//!
//! A spec travels as JSON to the process that builds the sandbox, so paths in it must be UTF-8; a path that is not is refused before anything is started.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Modification time, in seconds since the epoch, of everything the sandbox itself puts into view.
///
/// The same as that of files in packages made by cargo.
/// Trees that the caller makes should carry the same one, so that no clock of the machine shows in a result.
pub const NORMAL_MTIME: u64 = 1_153_704_088;

/// One command and its view of the world.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments.
    /// A program without a slash is looked up in the `PATH` of [`Spec::env`]; a relative one starts at [`Spec::cwd`].
    pub argv: Vec<String>,
    /// The whole environment of the command; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Absolute working directory inside the sandbox; made when no mount provides it.
    pub cwd: PathBuf,
    /// What is visible beside the system directories, in any order.
    pub mounts: Vec<Mount>,
    /// Whether to make a user namespace.
    pub user_namespace: UserNamespace,
}

/// One declared input or output place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the sandbox.
    pub at: PathBuf,
    /// What stands there.
    pub kind: MountKind,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountKind {
    /// The host directory and all below it, read-only.
    ReadOnlyTree {
        /// Directory on the host.
        host_dir: PathBuf,
    },
    /// The host directory itself; what the command writes is found there afterwards.
    WritableDir {
        /// Directory on the host.
        host_dir: PathBuf,
    },
    /// A private copy in memory whose reads are reported in [`crate::Report::observed`].
    ObservedCopy {
        /// Directory on the host.
        host_dir: PathBuf,
    },
    /// One host file, read-only.
    ReadOnlyFile {
        /// File on the host.
        host_file: PathBuf,
    },
    /// An empty directory that the command cannot write to.
    EmptyDir,
    /// A symbolic link.
    Symlink {
        /// Text of the link, taken as it is.
        target: String,
    },
}

/// Whether the command runs in a user namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UserNamespace {
    /// Yes; only where the kernel forbids it and the host process is root, without.
    #[default]
    Preferred,
    /// No; needs root.
    Never,
}
