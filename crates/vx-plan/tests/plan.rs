//! Properties of whole plans, on the recorded projects.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of a test: a broken recording is a failed test"
)]

#[path = "golden/recording.rs"]
#[expect(
    dead_code,
    reason = "shared with the golden test, which uses all of it"
)]
mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recording::Recording;
use vx_plan::{ActionSpec, BuildOutputs, Input, Mode, Needs, Plan, UnitKind};

fn recordings() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recorded");
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

/// Build scripts that all print a search path in their own `OUT_DIR`.
fn outputs(plan: &Plan) -> BuildOutputs {
    let runs = plan
        .units
        .iter()
        .filter(|unit| unit.kind == UnitKind::BuildScriptRun);
    runs.map(|unit| {
        let text = format!(
            "cargo::rustc-link-search=native={}\ncargo::metadata=k=v\n",
            plan.out_dir(unit.id)
        );
        (
            unit.id,
            Arc::new(plan.parse_build_output(unit.id, text.as_bytes()).unwrap()),
        )
    })
    .collect()
}

fn actions(plan: &Plan) -> Vec<ActionSpec> {
    let outputs = outputs(plan);
    plan.units
        .iter()
        .map(|unit| plan.action(unit.id, &outputs, &BTreeMap::new()).unwrap())
        .collect()
}

#[test]
fn actions_do_not_know_where_the_checkout_lies() {
    for path in recordings() {
        let here = Recording::read_at(&path, "/project").plan();
        let there = Recording::read_at(&path, "/elsewhere/deep/er").plan();
        for ((unit, here), there) in here.units.iter().zip(actions(&here)).zip(actions(&there)) {
            // Test binaries find their fixtures at the real place.
            if unit.mode != Mode::Test {
                assert_eq!(here, there, "{} in {}", unit.target.name, path.display());
            } else {
                assert_ne!(
                    here.env["CARGO_MANIFEST_DIR"],
                    there.env["CARGO_MANIFEST_DIR"]
                );
            }
        }
    }
}

#[test]
fn hashes_of_one_plan_differ() {
    for path in recordings() {
        let plan = Recording::read(&path).plan();
        let hashes: BTreeSet<&str> = plan.units.iter().map(|unit| unit.hash.as_str()).collect();
        assert_eq!(hashes.len(), plan.units.len(), "{}", path.display());
    }
}

#[test]
fn waits_cover_exactly_what_an_action_takes_from_others() {
    for path in recordings() {
        let plan = Recording::read(&path).plan();
        for (unit, action) in plan.units.iter().zip(actions(&plan)) {
            let waits: BTreeMap<_, _> = unit
                .waits
                .iter()
                .map(|wait| (wait.unit, wait.needs))
                .collect();
            let mut taken = BTreeSet::new();
            for input in &action.inputs {
                match input {
                    Input::Artifact {
                        unit: other,
                        file_name,
                        ..
                    } => {
                        taken.insert(*other);
                        let is_early = plan
                            .action(*other, &outputs(&plan), &BTreeMap::new())
                            .unwrap()
                            .early_outputs
                            .contains(file_name);
                        let expected = if is_early {
                            Needs::Metadata
                        } else {
                            Needs::Full
                        };
                        assert_eq!(
                            waits.get(other),
                            Some(&expected),
                            "{file_name} of {}",
                            unit.target.name
                        );
                    }
                    Input::OutDir { unit: other, .. } => {
                        taken.insert(*other);
                        assert_eq!(waits.get(other), Some(&Needs::Full));
                    }
                    _ => {}
                }
            }
            assert_eq!(
                taken,
                waits.keys().copied().collect(),
                "{} in {}",
                unit.target.name,
                path.display()
            );
        }
    }
}

#[test]
fn a_unit_is_more_urgent_than_its_dependents() {
    for path in recordings() {
        let plan = Recording::read(&path).plan();
        for unit in &plan.units {
            for dependency in &unit.dependencies {
                assert!(plan.unit(dependency.unit).unwrap().priority > unit.priority);
            }
        }
    }
}

#[test]
fn final_artefacts_are_laid_out_as_cargo_does() {
    let path = recordings()
        .into_iter()
        .find(|path| path.ends_with("release-ffi-tool.json"))
        .unwrap();
    let plan = Recording::read(&path).plan();
    let mut placed: Vec<String> = plan
        .units
        .iter()
        .flat_map(|unit| plan.placements(unit.id))
        .map(|placement| placement.path.display().to_string())
        .collect();
    placed.sort();
    assert_eq!(
        placed,
        [
            "release/libshop_app.rlib",
            "release/libshop_ffi.rlib",
            "release/libshop_ffi.so",
            "release/shop-app",
            "release/shop-tool",
        ]
    );
    assert_eq!(plan.profile_description(), "optimized");
}

#[test]
fn tests_are_told_of_a_directory_that_delivery_knows() {
    let told_and_made = |name: &str| -> BTreeSet<(Option<String>, Option<PathBuf>)> {
        let path = recordings()
            .into_iter()
            .find(|path| path.ends_with(name))
            .unwrap();
        let plan = Recording::read(&path).plan();
        let outputs = outputs(&plan);
        let of_unit = |unit: &vx_plan::Unit| {
            let action = plan.action(unit.id, &outputs, &BTreeMap::new()).unwrap();
            let told = action.env.get("CARGO_TARGET_TMPDIR").cloned();
            (told, plan.expected_directory(unit.id))
        };
        plan.units.iter().map(of_unit).collect()
    };
    let built = told_and_made("dev-all-targets.json");
    assert_eq!(built.len(), 2, "one directory, or none: {built:?}");
    assert!(built.iter().all(|pair| match pair {
        (Some(told), Some(made)) => Path::new(told).ends_with(made),
        (told, made) => told.is_none() && made.is_none(),
    }));
    // Nobody runs what was only checked.
    let checked = told_and_made("check-tests.json");
    assert!(checked.iter().all(|(_, made)| made.is_none()));
}
