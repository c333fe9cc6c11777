//! What only the manifest's own text tells: `[lints]`, `harness = false`, profile inheritance.
//!
//! `cargo metadata` prints none of these. Inheritance from the workspace is resolved here.

use std::cmp::Reverse;
use std::path::Path;

use toml::{Table, Value};

use crate::error::PlanError;

/// Parses a manifest.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Table, PlanError> {
    text.parse::<Table>().map_err(|source| PlanError::Manifest {
        path: path.display().to_string(),
        source: Box::new(source),
    })
}

/// Flags of `[lints]` in cargo's order: by priority, then by *descending* name, so that a group
/// named `all` comes last; then the declared cfgs of `unexpected_cfgs`.
pub(crate) fn lint_flags(manifest: &Table, workspace: Option<&Table>) -> Vec<String> {
    let own = manifest.get("lints").and_then(Value::as_table);
    let inherits = own
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let lints = if inherits {
        workspace
            .and_then(|root| root.get("workspace"))
            .and_then(|workspace| workspace.get("lints"))
            .and_then(Value::as_table)
    } else {
        own
    };
    let Some(lints) = lints else {
        return Vec::new();
    };
    let mut flags = Vec::new();
    for (tool, table) in lints {
        // cargo's own lints are not rustc's business.
        let Some(table) = table.as_table().filter(|_| tool != "cargo") else {
            continue;
        };
        for (name, setting) in table {
            let level = setting
                .as_str()
                .or_else(|| setting.get("level").and_then(Value::as_str));
            let priority = setting
                .get("priority")
                .and_then(Value::as_integer)
                .unwrap_or(0);
            let Some(level @ ("forbid" | "deny" | "warn" | "allow")) = level else {
                continue;
            };
            let flag = if tool == "rust" {
                format!("--{level}={name}")
            } else {
                format!("--{level}={tool}::{name}")
            };
            flags.push((priority, Reverse(name.clone()), flag));
        }
    }
    flags.sort();
    let mut flags: Vec<String> = flags.into_iter().map(|(_, _, flag)| flag).collect();
    let declared = lints
        .get("rust")
        .and_then(|rust| rust.get("unexpected_cfgs"))
        .and_then(|lint| lint.get("check-cfg"))
        .and_then(Value::as_array);
    for text in declared.into_iter().flatten().filter_map(Value::as_str) {
        flags.push("--check-cfg".to_owned());
        flags.push(text.to_owned());
    }
    flags
}

/// `(kind, name)` of all targets with `harness = false`.
pub(crate) fn without_harness(manifest: &Table, package: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let is_off = |target: &Value| target.get("harness").and_then(Value::as_bool) == Some(false);
    for kind in ["bin", "example", "test", "bench"] {
        for target in manifest
            .get(kind)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let Some(name) = target
                .get("name")
                .and_then(Value::as_str)
                .filter(|_| is_off(target))
            {
                found.push((kind.to_owned(), name.to_owned()));
            }
        }
    }
    if let Some(lib) = manifest.get("lib").filter(|lib| is_off(lib)) {
        let name = lib.get("name").and_then(Value::as_str).unwrap_or(package);
        found.push(("lib".to_owned(), name.to_owned()));
    }
    found
}

/// `profile.<name>.inherits` of the workspace's manifest.
pub(crate) fn inherits<'a>(manifest: &'a Table, profile: &str) -> Option<&'a str> {
    manifest
        .get("profile")?
        .get(profile)?
        .get("inherits")?
        .as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        parse(Path::new("Cargo.toml"), text).unwrap()
    }

    #[test]
    fn lints_are_ordered_by_priority_then_descending_name() {
        let manifest = table(
            "[lints.rust]\nunsafe_code='forbid'\nunused={level='warn',priority=-1}\n\
             unexpected_cfgs={level='deny',check-cfg=['cfg(a)','cfg(b,values(\"c\"))']}\n\
             [lints.clippy]\nall='allow'\n[lints.cargo]\nx='deny'",
        );
        assert_eq!(
            lint_flags(&manifest, None),
            [
                "--warn=unused",
                "--forbid=unsafe_code",
                "--deny=unexpected_cfgs",
                "--allow=clippy::all",
                "--check-cfg",
                "cfg(a)",
                "--check-cfg",
                "cfg(b,values(\"c\"))",
            ]
        );
    }

    #[test]
    fn lints_are_inherited_only_on_request() {
        let root = table("[workspace.lints.rust]\nunused='deny'");
        assert_eq!(
            lint_flags(&table("[lints]\nworkspace=true"), Some(&root)),
            ["--deny=unused"]
        );
        assert!(lint_flags(&table("[package]\nname='a'"), Some(&root)).is_empty());
    }

    #[test]
    fn targets_without_harness_are_found() {
        let manifest =
            table("[[bench]]\nname='b'\nharness=false\n[[test]]\nname='t'\n[lib]\nharness=false");
        let expected = [
            ("bench".to_owned(), "b".to_owned()),
            ("lib".to_owned(), "p".to_owned()),
        ];
        assert_eq!(without_harness(&manifest, "p"), expected);
    }
}
