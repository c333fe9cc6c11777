//! Every compilation and build script of recorded projects, against what the real cargo did.
//!
//! The recordings are made by `tests/data/record.py`. Compared are all arguments in their order and
//! all variables; the documented differences are normalised away: places, hashes in file names, the
//! second `-L dependency` of cross builds.
//! `VX_PLAN_GOLDEN` may name a directory with more recordings.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of a test: a broken recording is a failed test"
)]

#[path = "golden/normalise.rs"]
mod normalise;
#[path = "golden/recording.rs"]
mod recording;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use recording::{Command, Recording};
use vx_plan::{BuildOutputs, Plan, UnitKind};

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recorded")
}

/// Parses the recorded build script outputs as if the scripts had run at their virtual places.
fn build_outputs(plan: &Plan, recording: &Recording) -> BuildOutputs {
    let mut outputs = BuildOutputs::new();
    for unit in plan
        .units
        .iter()
        .filter(|unit| unit.kind == UnitKind::BuildScriptRun)
    {
        let script = recording.script_of(plan, unit);
        let stdout = normalise::stdout(plan, recording, script);
        let own = stdout.replace(
            &normalise::hidden(&plan.out_dir(unit.id)),
            &plan.out_dir(unit.id),
        );
        let parsed = plan.parse_build_output(unit.id, own.as_bytes()).unwrap();
        outputs.insert(unit.id, Arc::new(parsed));
    }
    outputs
}

/// One line per difference; empty if the plan does what cargo did.
fn differences(path: &Path) -> String {
    let recording = Recording::read(path);
    let plan = recording.plan();
    let outputs = build_outputs(&plan, &recording);
    let mut ours = Vec::new();
    let mut scripts = Vec::new();
    for unit in &plan.units {
        let action = plan.action(unit.id, &outputs, &BTreeMap::new()).unwrap();
        let command = normalise::ours(&action);
        match unit.kind {
            UnitKind::Rustc => ours.push(command),
            UnitKind::BuildScriptRun => {
                let script = recording.script_of(&plan, unit);
                if !script.env.is_empty() {
                    scripts.push((
                        plan.describe(unit),
                        normalise::script_env(&plan, &recording, script),
                        command.env,
                    ));
                }
            }
        }
    }
    let mut theirs: Vec<Command> = recording
        .commands
        .iter()
        .map(|command| normalise::cargos(&plan, &recording, command))
        .collect();
    let mut report = String::new();
    ours.retain(|own| match theirs.iter().position(|other| other == own) {
        Some(index) => {
            theirs.remove(index);
            false
        }
        None => true,
    });
    for own in &ours {
        report.push_str(&normalise::explain(own, &theirs));
    }
    if theirs.len() != ours.len() {
        report.push_str(&format!(
            "{} compilations of cargo without a unit\n",
            theirs.len()
        ));
    }
    for (name, expected, actual) in scripts {
        report.push_str(&normalise::compare_env(
            &format!("build script of {name}"),
            &expected,
            &actual,
        ));
    }
    report
}

#[test]
fn command_lines_and_environments_are_cargos() {
    let mut seen = 0;
    let extra = std::env::var("VX_PLAN_GOLDEN")
        .ok()
        .map(std::path::PathBuf::from);
    let mut report = String::new();
    for directory in [Some(data()), extra].into_iter().flatten() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "json") {
                seen += 1;
                let found = differences(&path);
                if !found.is_empty() {
                    report.push_str(&format!("== {}\n{found}", path.display()));
                }
            }
        }
    }
    assert!(seen >= 5, "only {seen} recordings");
    assert!(report.is_empty(), "{report}");
}
