//! The unit graph as `cargo build --unit-graph` prints it (version 1).
//!
//! Only the format; what the units mean is decided in `assemble`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::PlanError;

/// The whole document.
#[derive(Debug, Deserialize)]
pub(crate) struct UnitGraph {
    pub(crate) version: u32,
    pub(crate) units: Vec<RawUnit>,
    pub(crate) roots: Vec<usize>,
}

/// One unit.
#[derive(Debug, Deserialize)]
pub(crate) struct RawUnit {
    pub(crate) pkg_id: String,
    pub(crate) target: RawTarget,
    pub(crate) profile: Profile,
    pub(crate) platform: Option<String>,
    pub(crate) mode: String,
    pub(crate) features: Vec<String>,
    #[serde(default)]
    pub(crate) is_std: bool,
    pub(crate) dependencies: Vec<RawDependency>,
}

/// The target of a unit.
#[derive(Debug, Deserialize)]
pub(crate) struct RawTarget {
    pub(crate) kind: Vec<String>,
    pub(crate) crate_types: Vec<String>,
    pub(crate) name: String,
    pub(crate) src_path: PathBuf,
    pub(crate) edition: String,
    #[serde(default)]
    pub(crate) test: bool,
    #[serde(default)]
    pub(crate) doc: bool,
    #[serde(default)]
    pub(crate) doctest: bool,
    #[serde(default, rename = "required-features")]
    pub(crate) required_features: Vec<String>,
}

/// An edge.
#[derive(Debug, Deserialize)]
pub(crate) struct RawDependency {
    pub(crate) index: usize,
    pub(crate) extern_crate_name: String,
    #[serde(default)]
    pub(crate) noprelude: bool,
}

/// The resolved profile of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// Name of the profile that was asked for.
    pub name: String,
    /// `0`..`3`, `s` or `z`.
    pub opt_level: String,
    /// `false`, `true`, `off`, `thin` or `fat`.
    #[serde(deserialize_with = "text_of_scalar")]
    pub lto: String,
    /// An alternative code generator; nightly only.
    #[serde(default)]
    pub codegen_backend: Option<String>,
    /// Number of code generation units, if set.
    #[serde(default)]
    pub codegen_units: Option<u32>,
    /// How much debug information.
    #[serde(default)]
    pub debuginfo: DebugInfo,
    /// `off`, `packed` or `unpacked`, if set.
    #[serde(default)]
    pub split_debuginfo: Option<String>,
    /// Debug assertions.
    pub debug_assertions: bool,
    /// Overflow checks.
    pub overflow_checks: bool,
    /// Whether the library search path is written into executables.
    pub rpath: bool,
    /// Whether cargo would compile incrementally; vx never does.
    #[serde(default)]
    pub incremental: bool,
    /// `unwind` or `abort`.
    pub panic: String,
    /// What is stripped: `none`, `debuginfo` or `symbols`, if decided.
    #[serde(default, deserialize_with = "strip_setting")]
    pub strip: Option<String>,
    /// Extra flags of the profile; nightly only.
    #[serde(default)]
    pub rustflags: Vec<String>,
    /// Path trimming; nightly only.
    #[serde(default)]
    pub trim_paths: Option<Value>,
}

/// Amount of debug information as rustc's `-C debuginfo` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugInfo(String);

impl DebugInfo {
    /// The flag's value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        self.0 != "0"
    }
}

impl Default for DebugInfo {
    fn default() -> Self {
        Self("0".to_owned())
    }
}

impl<'de> Deserialize<'de> for DebugInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = innermost(Value::deserialize(deserializer)?);
        Ok(match value {
            Value::Number(level) => Self(level.to_string()),
            Value::String(name) if name == "none" => Self::default(),
            Value::String(name) => Self(name),
            _ => Self::default(),
        })
    }
}

fn text_of_scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// cargo writes `{"deferred": X}` or `{"resolved": X}`, X being `"None"` or `{"Named": "symbols"}`.
/// The wrapper tells who decided, not what; both are final in the graph.
fn strip_setting<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = innermost(Value::deserialize(deserializer)?);
    Ok(match value {
        Value::String(name) if !name.eq_ignore_ascii_case("none") => Some(name),
        _ => None,
    })
}

/// Unwraps objects with one entry until something else is left.
fn innermost(mut value: Value) -> Value {
    loop {
        match value {
            Value::Object(map) if map.len() == 1 => {
                value = map
                    .into_iter()
                    .next()
                    .map_or(Value::Null, |(_, inner)| inner);
            }
            other => return other,
        }
    }
}

/// Parses the document and checks that all references are inside.
pub(crate) fn parse(text: &str) -> Result<UnitGraph, PlanError> {
    let graph: UnitGraph = serde_json::from_str(text).map_err(|source| PlanError::Json {
        what: "unit graph",
        source,
    })?;
    if graph.version != 1 {
        return Err(PlanError::GraphVersion(graph.version));
    }
    let count = graph.units.len();
    let edges = graph
        .units
        .iter()
        .flat_map(|unit| unit.dependencies.iter().map(|dep| dep.index));
    match graph
        .roots
        .iter()
        .copied()
        .chain(edges)
        .find(|index| *index >= count)
    {
        Some(index) => Err(PlanError::UnknownUnit(index)),
        None => Ok(graph),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(extra: &str) -> Profile {
        let text = format!(
            r#"{{"name":"release","opt_level":"3","lto":"false","debug_assertions":false,
               "overflow_checks":false,"rpath":false,"panic":"unwind",{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn strip_is_read_through_its_wrappers() {
        assert_eq!(profile(r#""strip":{"deferred":"None"}"#).strip, None);
        assert_eq!(
            profile(r#""strip":{"resolved":{"Named":"symbols"}}"#)
                .strip
                .as_deref(),
            Some("symbols")
        );
        assert_eq!(
            profile(r#""strip":{"deferred":{"Named":"debuginfo"}}"#)
                .strip
                .as_deref(),
            Some("debuginfo")
        );
    }

    #[test]
    fn debuginfo_is_a_number_or_a_name() {
        assert_eq!(profile(r#""debuginfo":2"#).debuginfo.as_str(), "2");
        assert_eq!(
            profile(r#""debuginfo":"line-tables-only""#)
                .debuginfo
                .as_str(),
            "line-tables-only"
        );
        assert!(!profile(r#""debuginfo":0"#).debuginfo.is_on());
    }

    #[test]
    fn a_reference_out_of_the_graph_is_refused() {
        let error = parse(r#"{"version":1,"units":[],"roots":[3]}"#).unwrap_err();
        assert!(matches!(error, PlanError::UnknownUnit(3)));
        assert!(matches!(
            parse(r#"{"version":2,"units":[],"roots":[]}"#),
            Err(PlanError::GraphVersion(2))
        ));
    }
}
