//! What vx-daemon tells while it carries out a command, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::toolchain::{Crates, Download, ToolchainInfo};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BuildEvent {
    /// A status line, e.g. verb `Locking`.
    Note {
        /// Shown right-aligned before the text.
        verb: String,
        /// The rest of the line.
        text: String,
    },
    /// Something the user should know.
    Warning(String),
    /// Something the user may want to do.
    Hint(String),
    /// Why the command did not work, when it was not the code that was built.
    Error {
        /// What went wrong, causes included.
        message: String,
        /// What to do about it.
        hints: Vec<String>,
    },
    /// The graph is known.
    Planned {
        /// Number of units.
        units: u32,
        /// Name of the profile.
        profile: String,
    },
    /// A unit is being built.
    Started {
        /// Its number in the plan.
        unit: u32,
        /// What it is.
        name: UnitName,
    },
    /// A unit is there.
    Finished {
        /// Its number in the plan.
        unit: u32,
        /// Where it came from.
        how: How,
        /// How long that took.
        millis: u64,
    },
    /// A unit could not be built.
    Failed {
        /// Its number in the plan.
        unit: u32,
        /// What it is.
        name: UnitName,
        /// Errors of the compiler.
        errors: u32,
        /// What else went wrong.
        message: Option<String>,
        /// What to do about it.
        hints: Vec<String>,
        /// The command, when it was asked for.
        command: Option<String>,
    },
    /// One message of the compiler.
    Diagnostic {
        /// The unit it is about.
        name: UnitName,
        /// `error`, `warning`, `note`, `help` …
        level: String,
        /// For people, with colours.
        rendered: String,
        /// The compiler's own object.
        json: String,
        /// Whether it comes from an earlier build.
        replayed: bool,
    },
    /// How many warnings a unit had.
    UnitWarnings {
        /// The unit.
        name: UnitName,
        /// All of them.
        count: u32,
        /// How many of them another unit of the package has shown already.
        duplicates: u32,
    },
    /// What a build script said.
    BuildScript {
        /// The unit that ran it.
        name: UnitName,
        /// Libraries to link.
        linked_libs: Vec<String>,
        /// Where to look for them.
        linked_paths: Vec<String>,
        /// `cfg`s to set.
        cfgs: Vec<String>,
        /// Variables to set.
        env: Vec<(String, String)>,
        /// Its output directory.
        out_dir: PathBuf,
    },
    /// Files that a unit left in the target directory.
    Artifact {
        /// The unit.
        name: UnitName,
        /// The profile it was built with.
        profile: ArtifactProfile,
        /// Its features.
        features: Vec<String>,
        /// The files.
        filenames: Vec<PathBuf>,
        /// The file that can be run.
        executable: Option<PathBuf>,
        /// Whether nothing had to be done for it.
        fresh: bool,
    },
    /// The command of a unit, when it was asked for.
    Command {
        /// The unit.
        name: UnitName,
        /// The command, quoted for a shell.
        line: String,
    },
    /// The end of a build.
    Summary {
        /// Whether all units are there.
        success: bool,
        /// Number of units.
        units: u32,
        /// How many came from the store.
        hits: u32,
        /// How many were built.
        ran: u32,
        /// Whether nothing had to be done at all.
        up_to_date: bool,
        /// How long the build took.
        millis: u64,
        /// Name of the profile.
        profile: String,
        /// What the profile means, e.g. `unoptimized + debuginfo`.
        opt_desc: String,
    },
    /// The answer to [`Command::Status`](super::Command::Status).
    Status(StatusReport),
    /// An answer to [`Command::Explain`](super::Command::Explain), one for each unit.
    Explained(Explanation),
    /// An answer to [`Command::Toolchain`](super::Command::Toolchain), one for each toolchain that it is about.
    Toolchain(Box<ToolchainInfo>),
    /// A file is being downloaded.
    Download(Download),
    /// Crates are being downloaded; each one is told by [`Download`](Self::Download) when it is there.
    Crates(Crates),
}

/// Where a finished unit came from.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// From the store.
    Hit,
    /// It was built.
    Ran,
    /// It was there already.
    UpToDate,
}

/// A unit, as users and programs know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitName {
    /// Name of the package.
    pub package: String,
    /// Version of the package.
    pub version: String,
    /// cargo's id of the package.
    pub package_id: String,
    /// The package's manifest.
    pub manifest_path: PathBuf,
    /// Name of the target.
    pub target: String,
    /// Kinds of the target, e.g. `lib`, `bin`, `custom-build`.
    pub target_kind: Vec<String>,
    /// Crate types of the target.
    pub crate_types: Vec<String>,
    /// The target's root file.
    pub src_path: PathBuf,
    /// The target's edition.
    pub edition: String,
    /// `build`, `check`, `check-test`, `test` or `run-custom-build`.
    pub mode: String,
    /// Whether the package is a member of the workspace.
    pub member: bool,
    /// Shown after the name, for packages that live in a directory of the user.
    pub path: Option<PathBuf>,
}

/// The profile that an artifact was built with, as cargo's messages have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArtifactProfile {
    /// `0` to `3`, `s` or `z`.
    pub opt_level: String,
    /// The level of debug information: a number, or a name such as
    /// `line-tables-only`; absent when it is off by default.
    pub debuginfo: Option<String>,
    /// Whether `debug_assert!` does something.
    pub debug_assertions: bool,
    /// Whether overflows are found.
    pub overflow_checks: bool,
    /// Whether it is a test.
    pub test: bool,
}

/// How the daemon and its services are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The daemon first, then the services.
    pub services: Vec<ServiceStatus>,
    /// Where everything is kept.
    pub home: PathBuf,
    /// How long the daemon has been running, in seconds.
    pub uptime_secs: u64,
    /// Commands that are being worked on, this one not counted.
    pub active_commands: u32,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: String,
    /// Where it listens.
    pub endpoint: String,
    /// What it answered, when it answered.
    pub version: Option<daemon_contract::ServiceVersion>,
    /// Why it did not.
    pub problem: Option<String>,
    /// Whether the daemon started it.
    pub started_by_daemon: bool,
}

/// Why a unit was rebuilt, or was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The unit.
    pub name: UnitName,
    /// Where it came from in the last build.
    pub how: How,
    /// Whether there is an earlier build to compare with.
    pub has_earlier: bool,
    /// What differed between the two builds, in the order of importance.
    pub changes: Vec<Change>,
}

/// One input that differed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The input, e.g. a path or the name of a variable.
    pub input: String,
    /// Its value before; absent when it was not there.
    pub before: Option<String>,
    /// Its value in the last build; absent when it was not there.
    pub after: Option<String>,
}
