//! The options of building commands, named as cargo names them.
//!
//! Nothing is checked here that cargo itself checks: the options travel to the
//! toolchain's own cargo, whose messages users know.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use vx_proto::command::Selection;

/// How much is said, and with which colours.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OutputOptions {
    /// Show what came from the store too, and each command that runs
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show only errors and the compiler's messages
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<When>,
}

/// When to use colours: on a terminal, always, never.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// Which packages.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Package Selection")]
pub(crate) struct PackageOptions {
    /// Package to build (see `cargo help pkgid`)
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) package: Vec<String>,
    /// Build all packages in the workspace
    #[arg(long, alias = "all")]
    pub(crate) workspace: bool,
    /// Exclude packages from the build
    #[arg(long, value_name = "SPEC", requires = "workspace")]
    pub(crate) exclude: Vec<String>,
}

/// Which targets of them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Target Selection")]
pub(crate) struct TargetOptions {
    /// Build only this package's library
    #[arg(long)]
    pub(crate) lib: bool,
    /// Build all binaries
    #[arg(long)]
    pub(crate) bins: bool,
    /// Build only the specified binary
    #[arg(long, value_name = "NAME")]
    pub(crate) bin: Vec<String>,
    /// Build all examples
    #[arg(long)]
    pub(crate) examples: bool,
    /// Build only the specified example
    #[arg(long, value_name = "NAME")]
    pub(crate) example: Vec<String>,
    /// Build all targets that have `test = true` set
    #[arg(long)]
    pub(crate) tests: bool,
    /// Build only the specified test target
    #[arg(long, value_name = "NAME")]
    pub(crate) test: Vec<String>,
    /// Build all targets that have `bench = true` set
    #[arg(long)]
    pub(crate) benches: bool,
    /// Build only the specified bench target
    #[arg(long, value_name = "NAME")]
    pub(crate) bench: Vec<String>,
    /// Build all targets
    #[arg(long)]
    pub(crate) all_targets: bool,
}

/// What to run.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Target Selection")]
pub(crate) struct RunTargetOptions {
    /// Package with the target to run
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) package: Option<String>,
    /// Name of the binary to run
    #[arg(long, value_name = "NAME", conflicts_with = "example")]
    pub(crate) bin: Option<String>,
    /// Name of the example to run
    #[arg(long, value_name = "NAME")]
    pub(crate) example: Option<String>,
}

/// Features, profile, target: whatever decides how something is compiled.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Feature Selection")]
pub(crate) struct CompileOptions {
    /// Space or comma separated list of features to activate
    #[arg(short = 'F', long, value_name = "FEATURES")]
    pub(crate) features: Vec<String>,
    /// Activate all available features
    #[arg(long)]
    pub(crate) all_features: bool,
    /// Do not activate the `default` feature
    #[arg(long)]
    pub(crate) no_default_features: bool,

    /// Build artifacts in release mode, with optimizations
    #[arg(
        short,
        long,
        conflicts_with = "profile",
        help_heading = "Compilation Options"
    )]
    pub(crate) release: bool,
    /// Build artifacts with the specified profile
    #[arg(
        long,
        value_name = "PROFILE-NAME",
        help_heading = "Compilation Options"
    )]
    pub(crate) profile: Option<String>,
    /// Number of parallel jobs, defaults to what the executor allows
    #[arg(
        short,
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "Compilation Options"
    )]
    pub(crate) jobs: Option<u32>,
    /// Do not abort the build as soon as there is an error
    #[arg(long, help_heading = "Compilation Options")]
    pub(crate) keep_going: bool,
    /// Build for the target triple
    #[arg(long, value_name = "TRIPLE", help_heading = "Compilation Options")]
    pub(crate) target: Vec<String>,
    /// Directory for all generated artifacts
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath, help_heading = "Compilation Options")]
    pub(crate) target_dir: Option<PathBuf>,
    /// End a compiler or build script that runs for longer than this
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Compilation Options"
    )]
    pub(crate) action_timeout: Option<u64>,

    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = "Manifest Options")]
    pub(crate) manifest_path: Option<PathBuf>,
    /// Assert that `Cargo.lock` will remain unchanged
    #[arg(long, help_heading = "Manifest Options")]
    pub(crate) locked: bool,
    /// Run without accessing the network
    #[arg(long, help_heading = "Manifest Options")]
    pub(crate) offline: bool,
    /// Equivalent to specifying both --locked and --offline
    #[arg(long, help_heading = "Manifest Options")]
    pub(crate) frozen: bool,

    /// In which form messages are printed
    #[arg(
        long,
        value_name = "FMT",
        value_delimiter = ',',
        help_heading = "Output Options"
    )]
    pub(crate) message_format: Vec<MessageFormat>,
}

/// Values of `--message-format`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MessageFormat {
    /// For people
    Human,
    /// For people, one line each
    Short,
    /// For programs, one JSON object a line
    Json,
    /// JSON whose rendered messages have colours
    JsonDiagnosticRenderedAnsi,
    /// JSON whose rendered messages are short
    JsonDiagnosticShort,
    /// JSON for artifacts, the compiler's messages for people
    JsonRenderDiagnostics,
}

/// Where `vx` finds the project that it is asked about.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ProjectOptions {
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) manifest_path: Option<PathBuf>,
    /// Directory for all generated artifacts
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) target_dir: Option<PathBuf>,
    /// The profile that was built
    #[arg(long, value_name = "PROFILE-NAME", conflicts_with = "release")]
    pub(crate) profile: Option<String>,
    /// The release profile
    #[arg(short, long)]
    pub(crate) release: bool,
}

impl ProjectOptions {
    /// The profile that was asked for.
    pub(crate) fn profile(&self) -> Option<String> {
        match self.release {
            true => Some("release".to_owned()),
            false => self.profile.clone(),
        }
    }
}

/// The selection that the daemon is asked to build.
pub(crate) fn selection(
    packages: &PackageOptions,
    targets: &TargetOptions,
    compile: &CompileOptions,
) -> Selection {
    Selection {
        manifest_path: compile.manifest_path.clone(),
        packages: packages.package.clone(),
        workspace: packages.workspace,
        exclude: packages.exclude.clone(),
        lib: targets.lib,
        bins: targets.bins,
        bin: targets.bin.clone(),
        examples: targets.examples,
        example: targets.example.clone(),
        tests: targets.tests,
        test: targets.test.clone(),
        benches: targets.benches,
        bench: targets.bench.clone(),
        all_targets: targets.all_targets,
        features: compile.features.clone(),
        all_features: compile.all_features,
        no_default_features: compile.no_default_features,
        target: compile.target.clone(),
        release: compile.release,
        profile: compile.profile.clone(),
        locked: compile.locked,
        offline: compile.offline,
        frozen: compile.frozen,
        target_dir: compile.target_dir.clone(),
    }
}
