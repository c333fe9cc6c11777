//! What `vx` asks of vx-daemon, and the events that come back while it works.
//!
//! The types travel as postcard inside the frames of daemon-rpc, so both sides
//! are of one build: there is no room here for fields that only one side knows.
//! A build that worked ends with exit code 0, one that failed with 101, as
//! cargo's does; whatever else goes wrong is told by [`BuildEvent::Error`] and
//! ends with 1.

mod event;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::toolchain::ToolchainRequest;

pub use event::{
    ArtifactProfile, BuildEvent, Change, Explanation, How, ServiceStatus, StatusReport, UnitName,
};

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Build or check something.
    Build(Box<BuildRequest>),
    /// Say why units were rebuilt.
    Explain(ExplainRequest),
    /// Say how the services are; answered by [`BuildEvent::Status`].
    Status,
    /// End the daemon and what it started.
    Shutdown,
    /// Remove what was built.
    Clean(CleanRequest),
    /// Something about toolchains.
    Toolchain(Box<ToolchainRequest>),
}

/// What to do with the selected targets.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildKind {
    /// Compile and link.
    Build,
    /// Find errors only.
    Check,
}

/// A build, with all that decides on its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// The client's working directory.
    pub cwd: PathBuf,
    /// Build or check.
    pub kind: BuildKind,
    /// Which targets, features and profile.
    pub selection: Selection,
    /// The client's whole environment.
    pub env: Vec<(String, String)>,
    /// Units that are compiled at a time.
    pub jobs: Option<u32>,
    /// Whether units that do not depend on a failed one are still built.
    pub keep_going: bool,
    /// The toolchain that was asked for as `+toolchain`.
    pub toolchain: Option<String>,
    /// A limit for each action, in seconds.
    pub action_timeout_secs: Option<u64>,
    /// Whether messages for programs are wanted, also for units that are fresh.
    pub fresh_json: bool,
    /// Whether the command of each unit is wanted.
    pub verbose: bool,
    /// Whether cargo is to say nothing but errors.
    pub quiet: bool,
}

/// The options that cargo has for the choice of targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// `--manifest-path`
    pub manifest_path: Option<PathBuf>,
    /// `--package`
    pub packages: Vec<String>,
    /// `--workspace`
    pub workspace: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `--lib`
    pub lib: bool,
    /// `--bins`
    pub bins: bool,
    /// `--bin`
    pub bin: Vec<String>,
    /// `--examples`
    pub examples: bool,
    /// `--example`
    pub example: Vec<String>,
    /// `--tests`
    pub tests: bool,
    /// `--test`
    pub test: Vec<String>,
    /// `--benches`
    pub benches: bool,
    /// `--bench`
    pub bench: Vec<String>,
    /// `--all-targets`
    pub all_targets: bool,
    /// `--features`
    pub features: Vec<String>,
    /// `--all-features`
    pub all_features: bool,
    /// `--no-default-features`
    pub no_default_features: bool,
    /// `--target`
    pub target: Vec<String>,
    /// `--release`
    pub release: bool,
    /// `--profile`
    pub profile: Option<String>,
    /// `--locked`
    pub locked: bool,
    /// `--offline`
    pub offline: bool,
    /// `--frozen`
    pub frozen: bool,
    /// `--target-dir`
    pub target_dir: Option<PathBuf>,
}

/// Asks why units were rebuilt in the last build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The client's working directory.
    pub cwd: PathBuf,
    /// `--manifest-path`
    pub manifest_path: Option<PathBuf>,
    /// Only units of this package or target.
    pub unit: Option<String>,
    /// The profile of the build.
    pub profile: Option<String>,
    /// `--target-dir`
    pub target_dir: Option<PathBuf>,
}

/// Removes what was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanRequest {
    /// The client's working directory.
    pub cwd: PathBuf,
    /// `--manifest-path`
    pub manifest_path: Option<PathBuf>,
    /// `--target-dir`
    pub target_dir: Option<PathBuf>,
    /// Only this profile.
    pub profile: Option<String>,
}
