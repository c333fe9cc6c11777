//! The parts of `cargo metadata` that a plan needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::PlanError;

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<RawPackage>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) workspace_root: PathBuf,
}

/// One package as cargo prints it.
#[derive(Debug, Deserialize)]
pub(crate) struct RawPackage {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) id: String,
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    #[serde(flatten)]
    pub(crate) facts: PackageFacts,
}

/// What command lines and environments take from the manifest.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct PackageFacts {
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) license: Option<String>,
    #[serde(default)]
    pub(crate) license_file: Option<String>,
    #[serde(default)]
    pub(crate) authors: Vec<String>,
    #[serde(default)]
    pub(crate) readme: Option<String>,
    #[serde(default)]
    pub(crate) repository: Option<String>,
    #[serde(default)]
    pub(crate) homepage: Option<String>,
    #[serde(default)]
    pub(crate) rust_version: Option<String>,
    #[serde(default)]
    pub(crate) links: Option<String>,
    /// Declared features, the implicit ones of optional dependencies included.
    #[serde(default)]
    pub(crate) features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) dependencies: Vec<RawDeclared>,
    #[serde(default)]
    pub(crate) targets: Vec<RawPackageTarget>,
    /// Flags of the `[lints]` table, in cargo's order. Not from the metadata: see `manifest`.
    #[serde(skip)]
    pub(crate) lint_flags: Vec<String>,
    /// `(kind, name)` of the targets with `harness = false`. Not from the metadata either.
    #[serde(skip)]
    pub(crate) without_harness: Vec<(String, String)>,
}

/// A declared dependency.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RawDeclared {
    /// Present for artifact dependencies only, which are unstable.
    #[serde(default)]
    pub(crate) artifact: Option<serde_json::Value>,
}

/// A target of the package, whether it is built or not.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RawPackageTarget {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

pub(crate) fn parse(text: &str) -> Result<Metadata, PlanError> {
    serde_json::from_str(text).map_err(|source| PlanError::Json {
        what: "package metadata",
        source,
    })
}
