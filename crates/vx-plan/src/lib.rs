//! From cargo's unit graph to actions: command lines, environments, inputs and outputs.
//!
//! cargo decides what is built; this crate knows *how* cargo 1.95 would build it, unit by unit, and
//! says the same as a value: which program runs, with which arguments and variables, which files it
//! may see, and which files it makes.
//! Everything happens under fixed virtual paths (see [`paths`]), so that neither the command line nor
//! the artefact knows where the checkout lies.
//!
//! It is pure: it reads no file, starts no process and knows nothing of digests, stores or sandboxes.
//! The daemon asks cargo and rustc, hands over their answers as a [`PlanInput`], and gets a [`Plan`];
//! it then asks for the [`ActionSpec`] of a unit as soon as that unit's [`Unit::waits`] are there.

mod action;
mod assemble;
mod build_script;
mod cfg;
mod config;
mod dep_info;
mod diagnostics;
mod error;
mod graph;
mod hash;
mod input;
mod layout;
mod libraries;
mod lto;
mod manifest;
mod metadata;
mod packages;
pub mod paths;
mod plan;
mod rustc_action;
mod rustc_args;
mod rustc_env;
mod schedule;
mod site;
mod toolchain;

pub use action::{ActionSpec, ArtifactKind, Input, OutputFile};
pub use build_script::{BuildOutput, LinkArgTarget};
pub use config::rustflags_of;
pub use dep_info::{DepInfo, parse_dep_info};
pub use diagnostics::{PathMap, undefined_env_name};
pub use error::{ActionError, OutputError, PlanError};
pub use graph::{DebugInfo, Profile};
pub use input::{PlanInput, PlatformFacts};
pub use layout::Placement;
pub use lto::Lto;
pub use plan::{
    BuildOutputs, Dependency, Mode, Needs, Package, PackageIndex, PackageLocation, Plan,
    SourceKind, Target, Unit, UnitId, UnitKind, Wait,
};
