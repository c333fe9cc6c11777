//! One action: a program, its arguments and environment, what it may see and what it makes.
//!
//! An action knows no digest and no real path of the machine, except where a test binary must
//! find its own workspace again (see [`crate::Plan::action`]).

use std::collections::BTreeMap;

use crate::plan::{PackageIndex, UnitId};

/// How to run one unit. All paths are virtual (see [`crate::paths`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionSpec {
    /// Absolute path of the program; it is `argv[0]` as well.
    pub program: String,
    /// Arguments without `argv[0]`.
    pub args: Vec<String>,
    /// The complete environment, except what the executor adds (see `wants_jobserver`).
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
    /// What is visible besides the toolchain's and the host's own files, sorted, without duplicates.
    pub inputs: Vec<Input>,
    /// Files made in [`crate::paths::OUT`]; empty for build script runs.
    pub outputs: Vec<OutputFile>,
    /// `OUT_DIR` of a build script run: a directory, captured whole. Writable.
    pub out_dir: Option<String>,
    /// Names of those outputs whose early publication lets dependents start.
    pub early_outputs: Vec<String>,
    /// Directories that are writable, and empty at the start.
    pub writable: Vec<String>,
    /// `CARGO_MAKEFLAGS` must carry the jobserver.
    pub wants_jobserver: bool,
    /// `NUM_JOBS` must carry the number of slots (build script runs).
    pub wants_num_jobs: bool,
    /// The standard output is parsed with [`crate::Plan::parse_build_output`] (build script runs).
    pub stdout_is_directives: bool,
}

/// Something an action may see, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The sysroot at [`crate::paths::TOOLCHAIN`].
    Toolchain,
    /// The workspace root with all its members.
    WorkspaceTree {
        /// Usually [`crate::paths::WORKSPACE`]; the real path for test binaries of members.
        at: String,
    },
    /// The tree of one package: [`crate::Package::source_root`].
    PackageTree {
        /// Which package.
        package: PackageIndex,
        /// Absolute path of the tree's root.
        at: String,
    },
    /// One file made by another unit.
    Artifact {
        /// The unit that makes it.
        unit: UnitId,
        /// Its name among that unit's outputs.
        file_name: String,
        /// Absolute path of the file.
        at: String,
    },
    /// The `OUT_DIR` of a build script run, read-only.
    OutDir {
        /// The run.
        unit: UnitId,
        /// Absolute path of the directory.
        at: String,
    },
}

/// A file in the output directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputFile {
    /// Name below [`crate::paths::OUT`].
    pub file_name: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// Whether the action may succeed without it.
    pub optional: bool,
}

/// What an output file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactKind {
    /// Metadata of a library: all a dependent library needs.
    Rmeta,
    /// A Rust library with object code.
    Rlib,
    /// An executable: binary, example, test, benchmark or build script.
    Bin,
    /// A Rust dynamic library.
    Dylib,
    /// A C dynamic library.
    Cdylib,
    /// A C static library.
    Staticlib,
    /// A procedural macro, loaded by rustc.
    ProcMacro,
    /// `.d`: which files and variables were read.
    DepInfo,
    /// Split debug information.
    DebugInfo,
}

impl ArtifactKind {
    /// Whether the file has the executable bit.
    pub fn is_executable(self) -> bool {
        matches!(
            self,
            Self::Bin | Self::Dylib | Self::Cdylib | Self::ProcMacro
        )
    }

    /// Whether a dependent names the file with `--extern`.
    pub(crate) fn is_linkable(self) -> bool {
        matches!(self, Self::Rlib | Self::Dylib | Self::ProcMacro)
    }
}
