//! What `vx` asks about toolchains, and what it is told; travels as [`command`](crate::command) does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A request about toolchains, with all that decides which one is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolchainRequest {
    /// The client's working directory.
    pub cwd: PathBuf,
    /// The client's whole environment.
    pub env: Vec<(String, String)>,
    /// The toolchain that was asked for as `+toolchain`.
    pub toolchain: Option<String>,
    /// What to do.
    pub action: ToolchainAction,
}

/// What to do about toolchains; each one that it is about is told by an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToolchainAction {
    /// Say which one a build here would use, and why.
    Show,
    /// Say which ones there are.
    List,
    /// Install releases from the distribution server.
    Install {
        /// Their names; the one that a build here would use when empty.
        names: Vec<String>,
        /// `minimal`, `default` or `complete`.
        profile: Option<String>,
        /// Components besides.
        components: Vec<String>,
        /// Targets besides the host.
        targets: Vec<String>,
        /// Whether the network must not be used.
        offline: bool,
    },
    /// Ask the distribution server what channels mean now.
    Update {
        /// The channels; all that were installed from there when empty.
        names: Vec<String>,
    },
    /// Remove installed releases.
    Remove {
        /// Their names.
        names: Vec<String>,
    },
}

/// One toolchain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolchainInfo {
    /// What users call it.
    pub name: String,
    /// Whether a build here would use it.
    pub active: bool,
    /// Why it would, in words.
    pub reason: Option<String>,
    /// Who has it: `rustup`, `system` or `dist`.
    pub source: String,
    /// Where it is; absent while it is not installed.
    pub sysroot: Option<PathBuf>,
    /// Whether rustup's setting forbids a build to fetch it.
    pub is_forbidden: bool,
    /// What `rustc` says of itself, e.g. `rustc 1.90.0 (1159e78c4 2025-09-14)`.
    pub rustc: Option<String>,
    /// What `cargo` says of itself.
    pub cargo: Option<String>,
    /// The distribution server it comes from.
    pub server: Option<String>,
    /// The day of the release.
    pub date: Option<String>,
    /// The fingerprint of the key that signed the manifest of the release.
    pub signed_by: Option<String>,
    /// Why nobody signed it, in words; absent when somebody did, and for toolchains of others.
    pub unsigned: Option<String>,
    /// When the server was asked last, in seconds since 1970.
    pub resolved: Option<u64>,
    /// Components that were asked for besides the usual ones.
    pub components: Vec<String>,
    /// Targets that were asked for besides the host.
    pub targets: Vec<String>,
    /// What an installed toolchain of this name lacks, in words.
    pub lacks: Vec<String>,
}

/// One download, as it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The name of the file.
    pub file: String,
    /// Where it comes from.
    pub url: String,
    /// How far it is.
    pub state: DownloadState,
}

/// The downloads of crates by cargo, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crates {
    /// Those that have come.
    pub done: u32,
    /// Those that are still to come.
    pub pending: u32,
    /// Bytes that have come.
    pub bytes: u64,
    /// Bytes that are still to come, of those crates whose size is known.
    pub pending_bytes: Option<u64>,
    /// How long it has taken, in milliseconds.
    pub millis: u64,
    /// Whether nothing more comes.
    pub is_over: bool,
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownloadState {
    /// Another process is at it.
    Waiting,
    /// Bytes come, or are about to.
    Running {
        /// Bytes that are there.
        bytes: u64,
        /// The size of the whole, if it is known.
        total: Option<u64>,
    },
    /// An attempt failed; there will be another one.
    Retrying {
        /// The number of the attempt that failed.
        attempt: u32,
        /// Why it failed.
        reason: String,
    },
    /// It is there.
    Done {
        /// Its size.
        bytes: u64,
        /// How long that took, in milliseconds, if it is known: of a crate, cargo says only that it has come.
        millis: Option<u64>,
    },
}
