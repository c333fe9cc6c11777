//! The plan: packages and units with everything that is known before anything has run.
//!
//! A plan knows the graph; it does not know what ran, and holds no state of a build.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build_script::BuildOutput;
use crate::graph::Profile;
use crate::libraries::NativeScripts;
use crate::lto::Lto;
use crate::toolchain::Settings;

/// Index of a unit in [`Plan::units`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

/// Index of a package in [`Plan::packages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageIndex(pub u32);

/// Parsed outputs of the build scripts that have run, by their run unit.
pub type BuildOutputs = BTreeMap<UnitId, Arc<BuildOutput>>;

/// All units of one build, and how they hang together.
#[derive(Debug)]
pub struct Plan {
    /// Packages in the order of their ids.
    pub packages: Vec<Package>,
    /// Units in the order of cargo's graph.
    pub units: Vec<Unit>,
    /// The units the user asked for.
    pub roots: Vec<UnitId>,
    /// Real path of the workspace root.
    pub workspace_root: PathBuf,
    /// Name of the profile the user asked for (`dev`, `release`, ..).
    pub profile: String,
    /// The host's target triple.
    pub host: String,
    /// Settings and facts that hold for all units.
    pub(crate) settings: Settings,
    /// By unit: whose build scripts' settings apply.
    pub(crate) native: Vec<NativeScripts>,
}

/// A package of the graph.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// cargo's package id, as printed in messages.
    pub id: String,
    /// Real path of its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// Whether it is a member of the workspace.
    pub is_member: bool,
    /// Where it comes from.
    pub source: SourceKind,
    /// Checksum of a registry package (SHA-256 of the `.crate`, hexadecimal) from `Cargo.lock`.
    pub checksum: Option<String>,
    /// Where it is seen by actions.
    pub location: PackageLocation,
    /// Real directory of the tree that is shown to actions: the package, or for git the checkout.
    /// Members are part of the workspace tree and have its root here.
    pub source_root: PathBuf,
    /// Virtual path of [`Package::source_root`].
    pub virtual_root: String,
    /// Virtual path of the package's own directory.
    pub virtual_dir: String,
    /// Whether it is a registry or git package that is kept below the workspace root.
    pub(crate) is_vendored: bool,
    /// Manifest data needed for command lines and environments.
    pub(crate) facts: crate::metadata::PackageFacts,
}

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A registry: immutable, has a checksum.
    Registry,
    /// A git repository at a fixed revision: immutable.
    Git,
    /// A directory: may change at any time.
    Path,
}

/// Which tree a package's sources are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageLocation {
    /// Below the workspace root: [`crate::Input::WorkspaceTree`].
    Workspace,
    /// A tree of its own: [`crate::Input::PackageTree`].
    Own,
}

impl Package {
    /// Whether the sources can change between two builds (path packages, also vendored ones).
    pub fn is_mutable(&self) -> bool {
        self.source == SourceKind::Path || self.is_vendored
    }
}

/// One node of the graph: a compilation, or the run of a build script.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its own index.
    pub id: UnitId,
    /// The package it belongs to.
    pub package: PackageIndex,
    /// The target that is built, or the build script that is run.
    pub target: Target,
    /// What is done with the target.
    pub mode: Mode,
    /// Compilation or run.
    pub kind: UnitKind,
    /// Target triple if `--target` was given and the unit is not for the host.
    pub platform: Option<String>,
    /// The resolved profile.
    pub profile: Profile,
    /// Enabled features, sorted.
    pub features: Vec<String>,
    /// Direct dependencies, in cargo's order.
    pub dependencies: Vec<Dependency>,
    /// Everything that must be there before the unit can run, sorted by unit.
    /// It is transitive: waiting for exactly these is enough.
    pub waits: Vec<Wait>,
    /// Stable, location independent identity: 16 hexadecimal digits, used in file names.
    pub hash: String,
    /// How link-time optimisation applies.
    pub lto: Lto,
    /// Longest path of work that remains from this unit to a root, itself included. Higher is first.
    pub priority: u64,
    /// Whether the user asked for it.
    pub is_root: bool,
    /// Whether the user selected its package.
    pub is_primary: bool,
}

/// A cargo target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name as in the manifest.
    pub name: String,
    /// cargo's `kind` (`lib`, `bin`, `custom-build`, ..).
    pub kinds: Vec<String>,
    /// cargo's `crate_types`.
    pub crate_types: Vec<String>,
    /// Real path of the root source file.
    pub src_path: PathBuf,
    /// Edition.
    pub edition: String,
    /// Whether it is tested by default.
    pub test: bool,
    /// Whether it is documented by default.
    pub doc: bool,
    /// Whether it has doc tests.
    pub doctest: bool,
    /// Features that must be on for it to be built.
    pub required_features: Vec<String>,
    /// Whether it uses libtest's harness.
    pub harness: bool,
}

/// What is done with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Compile it.
    Build,
    /// Only check it: metadata, no code.
    Check,
    /// Only check it, as a test.
    CheckTest,
    /// Compile it as a test (also integration tests and benchmarks).
    Test,
    /// Run the build script.
    RunBuildScript,
}

/// The two kinds of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitKind {
    /// A run of rustc.
    Rustc,
    /// A run of a compiled build script.
    BuildScriptRun,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The unit depended upon.
    pub unit: UnitId,
    /// The crate's name as the dependent sees it.
    pub extern_name: String,
    /// What is needed of it.
    pub needs: Needs,
    /// Whether it is left out of the extern prelude.
    pub noprelude: bool,
}

/// What a unit needs of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// Its `.rmeta`, which may be published early.
    Metadata,
    /// Its end: all outputs, and for a build script run the parsed output.
    Full,
}

/// A unit to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wait {
    /// Which unit.
    pub unit: UnitId,
    /// What of it.
    pub needs: Needs,
}

impl Plan {
    /// The unit with this id.
    pub fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.units.get(id.0 as usize)
    }

    /// The package of a unit.
    pub fn package_of(&self, unit: &Unit) -> &Package {
        &self.packages[unit.package.0 as usize]
    }

    /// How cargo names the kind of build: `optimized`, `unoptimized + debuginfo`, ..
    pub fn profile_description(&self) -> String {
        let Some(profile) = self
            .roots
            .first()
            .and_then(|id| self.unit(*id))
            .map(|unit| &unit.profile)
        else {
            return "unoptimized".to_owned();
        };
        let mut text = if profile.opt_level == "0" {
            "unoptimized"
        } else {
            "optimized"
        }
        .to_owned();
        if profile.debuginfo.is_on() {
            text.push_str(" + debuginfo");
        }
        text
    }
}

impl Mode {
    /// Whether only metadata is made.
    pub fn is_check(self) -> bool {
        matches!(self, Self::Check | Self::CheckTest)
    }

    /// Whether the target is compiled as a test.
    pub fn is_any_test(self) -> bool {
        matches!(self, Self::Test | Self::CheckTest)
    }

    /// What the mode is called; cargo calls a check `check` with and without tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Check => "check",
            Self::CheckTest => "check-test",
            Self::Test => "test",
            Self::RunBuildScript => "run-custom-build",
        }
    }
}

impl Target {
    /// A `[[bin]]`.
    pub fn is_bin(&self) -> bool {
        self.has_kind("bin")
    }

    /// A `build.rs`.
    pub fn is_build_script(&self) -> bool {
        self.has_kind("custom-build")
    }

    /// A procedural macro.
    pub fn is_proc_macro(&self) -> bool {
        self.has_kind("proc-macro")
    }

    /// A `[[test]]`.
    pub fn is_test(&self) -> bool {
        self.has_kind("test")
    }

    /// A `[[bench]]`.
    pub fn is_bench(&self) -> bool {
        self.has_kind("bench")
    }

    /// An `[[example]]`.
    pub fn is_example(&self) -> bool {
        self.has_kind("example")
    }

    /// The `[lib]`, of whatever crate types.
    pub fn is_lib(&self) -> bool {
        !(self.is_bin()
            || self.is_build_script()
            || self.is_test()
            || self.is_bench()
            || self.is_example())
    }

    /// Whether it always runs on the host.
    pub fn is_for_host(&self) -> bool {
        self.is_build_script() || self.is_proc_macro()
    }

    /// Whether Rust code can link to it.
    pub fn is_linkable(&self) -> bool {
        self.is_lib()
            && self
                .crate_types
                .iter()
                .any(|kind| matches!(kind.as_str(), "lib" | "rlib" | "dylib" | "proc-macro"))
    }

    /// The crate's name: dashes become underscores.
    pub fn crate_name(&self) -> String {
        self.name.replace('-', "_")
    }

    fn has_kind(&self, kind: &str) -> bool {
        self.kinds.iter().any(|own| own == kind)
    }
}
