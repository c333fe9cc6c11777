//! What can go wrong while planning: one error type per family of operations.

use thiserror::Error;

/// The answers of cargo and rustc cannot be turned into a plan.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// One of the JSON inputs is not what this version of cargo is known to print.
    #[error("unreadable {what}")]
    Json {
        /// Which input.
        what: &'static str,
        /// Where it breaks.
        #[source]
        source: serde_json::Error,
    },
    /// The unit graph has another format version.
    #[error("unit graph of version `{0}`, only version 1 is known")]
    GraphVersion(u32),
    /// A unit names a package that `cargo metadata` does not list.
    #[error("package `{0}` of the unit graph is not in the metadata")]
    UnknownPackage(String),
    /// A unit names a dependency or root that is not in the graph.
    #[error("unit graph refers to unit `{0}`, which it does not have")]
    UnknownUnit(usize),
    /// The units depend on each other in a circle.
    #[error("unit graph has a cycle through package `{0}`")]
    Cycle(String),
    /// A manifest needed for lints or target settings is not TOML.
    #[error("unreadable manifest `{path}`")]
    Manifest {
        /// The manifest's path.
        path: String,
        /// Where it breaks.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The manifest of a workspace or path package was not handed over.
    #[error("manifest `{0}` is missing from the input")]
    MissingManifest(String),
    /// A `cfg(..)` expression or the output of `rustc --print cfg` cannot be parsed.
    #[error("unreadable cfg `{text}`: {why}")]
    Cfg {
        /// The expression.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// `rustc -vV` has no such line.
    #[error("`rustc -vV` has no line `{0}:`")]
    RustcVersion(&'static str),
    /// A configuration value has the wrong type.
    #[error("configuration value `{key}` {why}")]
    Config {
        /// The key, dotted.
        key: String,
        /// What is expected.
        why: &'static str,
    },
    /// No facts were handed over for a platform of the graph.
    #[error("no `rustc --print cfg` for platform `{0}`")]
    UnknownPlatform(String),
    /// Something cargo can do (mostly on nightly) and vx cannot.
    #[error("package `{package}` uses {feature}, which vx does not support")]
    Unsupported {
        /// The package.
        package: String,
        /// The feature, as a noun phrase.
        feature: String,
    },
}

/// The action of one unit cannot be formed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A unit that must have been run before was not handed over.
    #[error("the build script output of `{0}` is not known yet")]
    MissingBuildOutput(String),
    /// The plan has no such unit.
    #[error("the plan has no unit `{0}`")]
    UnknownUnit(u32),
    /// A directive of a build script cannot apply to its package.
    #[error("{0}")]
    Directive(String),
}

/// A build script printed something that cargo refuses. The text is cargo's.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct OutputError {
    /// The whole message, as cargo words it.
    pub message: String,
}
