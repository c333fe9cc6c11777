//! Everything a plan is made from: texts printed by cargo and rustc, and the client's environment.
//!
//! This file does not know how they were obtained; the daemon runs the programs and reads the files.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The answers of the toolchain about one project and one selection of targets.
#[derive(Debug, Clone)]
pub struct PlanInput<'a> {
    /// Output of `cargo build --unit-graph` (or `check`), version 1.
    pub unit_graph: &'a str,
    /// Output of `cargo metadata --format-version 1`.
    pub metadata: &'a str,
    /// Text of `Cargo.toml` by its path, for *all* packages of the graph and for the workspace root.
    /// Workspace and path packages are required; others may be missing, and then have no lints.
    pub manifests: &'a BTreeMap<PathBuf, String>,
    /// Text of `Cargo.lock`, for the checksums of registry packages.
    pub lock: Option<&'a str>,
    /// Output of `cargo -Zunstable-options config get --format json`.
    pub config: &'a str,
    /// The client's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Output of `rustc -vV`.
    pub rustc_version: &'a str,
    /// Facts by target triple: the host, and each `--target`.
    pub platforms: &'a BTreeMap<String, PlatformFacts>,
    /// Where final artefacts are laid out: `<target directory>/vx`. Only test binaries learn it.
    pub output_root: PathBuf,
    /// Whether the selection asks for test targets, which `cargo check --unit-graph` does not tell.
    pub check_tests: bool,
}

/// What rustc says of one platform.
#[derive(Debug, Clone, Default)]
pub struct PlatformFacts {
    /// Output of `rustc --print cfg [--target T] [rustflags]`, see [`crate::rustflags_of`].
    pub cfg: String,
}
