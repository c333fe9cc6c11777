//! A recording, and the plan made from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vx_plan::{Plan, PlanInput, PlatformFacts, Unit};

/// What cargo did with one project.
pub(crate) struct Recording {
    pub(crate) data: Value,
    pub(crate) commands: Vec<Command>,
    pub(crate) scripts: Vec<Script>,
}

/// One compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: String,
}

/// One run of a build script.
pub(crate) struct Script {
    pub(crate) out_dir: String,
    pub(crate) stdout: String,
    pub(crate) env: BTreeMap<String, String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn map(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

impl Recording {
    /// Placeholders become absolute paths, since cargo's own answers have such.
    pub(crate) fn read(path: &Path) -> Self {
        Self::read_at(path, "/project")
    }

    /// The same as if the project lay in another directory.
    pub(crate) fn read_at(path: &Path, root: &str) -> Self {
        let raw = std::fs::read_to_string(path).unwrap();
        let raw = raw
            .replace("$CARGO_HOME", "/cargo-home")
            .replace("$TARGET", "/target")
            .replace("$SYSROOT", "/sysroot")
            .replace("$ROOT", root)
            .replace("$WS", &format!("{root}/ws"));
        let data: Value = serde_json::from_str(&raw).unwrap();
        let commands = data["commands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|command| Command {
                args: command["argv"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(text)
                    .collect(),
                env: map(&command["env"]),
                cwd: text(&command["cwd"]),
            });
        let scripts = data["scripts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|script| Script {
                out_dir: text(&script["out_dir"]),
                stdout: text(&script["stdout"]),
                env: map(&script["env"]),
            });
        Self {
            commands: commands.collect(),
            scripts: scripts.collect(),
            data,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let data = &self.data;
        let manifests = map(&data["manifests"])
            .into_iter()
            .map(|(path, text)| (PathBuf::from(path), text))
            .collect();
        let platforms = map(&data["cfg"])
            .into_iter()
            .map(|(triple, cfg)| (triple, PlatformFacts { cfg }))
            .collect();
        let input = PlanInput {
            unit_graph: &data["unit_graph"].to_string(),
            metadata: &data["metadata"].to_string(),
            manifests: &manifests,
            lock: data["lock"].as_str(),
            config: &data["config"].to_string(),
            env: &map(&data["client_env"]),
            rustc_version: data["rustc_version"].as_str().unwrap(),
            platforms: &platforms,
            output_root: PathBuf::from("/target"),
            check_tests: data["args"]
                .as_array()
                .unwrap()
                .iter()
                .any(|arg| arg == "--tests" || arg == "--all-targets"),
        };
        Plan::new(&input).unwrap()
    }

    /// The recorded run of a unit: same package, platform directory, and profile as `OPT_LEVEL` tells.
    pub(crate) fn script_of(&self, plan: &Plan, unit: &Unit) -> &Script {
        let package = plan.package_of(unit);
        let prefix = format!("/build/{}-", package.name);
        let cross = unit
            .platform
            .as_deref()
            .map(|triple| format!("/target/{triple}/"));
        let found: Vec<&Script> = self
            .scripts
            .iter()
            .filter(|script| {
                let at = script
                    .out_dir
                    .find(&prefix)
                    .map(|at| &script.out_dir[at + prefix.len()..]);
                // `16 digits/out`: no longer name that starts alike.
                at.is_some_and(|rest| rest.len() == 20)
                    && cross
                        .as_ref()
                        .is_none_or(|cross| script.out_dir.starts_with(cross))
            })
            .collect();
        assert!(
            !found.is_empty(),
            "no recorded build script run of {}",
            package.name
        );
        found[0]
    }
}
