//! The run of a build script: what cargo tells it.

use std::collections::{BTreeMap, BTreeSet};

use cargo_platform::Cfg;

use crate::action::{ActionSpec, ArtifactKind, Input};
use crate::error::ActionError;
use crate::libraries;
use crate::paths;
use crate::plan::{BuildOutputs, Mode, Plan, Unit};
use crate::rustc_action::library_path;
use crate::rustc_env::{Env, package_env};
use crate::site::Site;

/// The action that runs a compiled build script.
pub(crate) fn run_action(
    plan: &Plan,
    unit: &Unit,
    outputs: &BuildOutputs,
    passed: &Env,
) -> Result<ActionSpec, ActionError> {
    let site = plan.site(unit);
    let out_dir = plan.out_dir(unit.id);
    let mut inputs = BTreeSet::from([Input::Toolchain, site.tree.clone()]);
    let mut program = String::new();
    let mut metadata = Env::new();
    for dependency in &unit.dependencies {
        let other = &plan.units[dependency.unit.0 as usize];
        if other.mode == Mode::RunBuildScript {
            add_links(plan, other, outputs, &mut inputs, &mut metadata)?;
        } else if other.target.is_build_script() {
            let file = plan
                .outputs(other.id)
                .into_iter()
                .find(|file| file.kind == ArtifactKind::Bin);
            if let Some(file) = file {
                program = format!("{}/{}", plan.build_directory(other.id), other.target.name);
                inputs.insert(Input::Artifact {
                    unit: other.id,
                    file_name: file.file_name,
                    at: program.clone(),
                });
                inputs.extend(trees_of_libraries(plan, other));
            }
        }
    }
    if program.is_empty() {
        return Err(ActionError::Directive(format!(
            "no compiled build script of `{}`",
            plan.describe(unit)
        )));
    }
    let native = &plan.native[unit.id.0 as usize];
    let plugins = plan.known_outputs(native.of_plugins.iter(), outputs)?;
    plan.add_native_inputs(&mut inputs, &plugins);

    let mut env = package_env(
        plan,
        plan.package_of(unit),
        &site,
        passed,
        &library_path(&plugins, None),
    );
    env.extend(metadata);
    env.extend(unit_env(plan, unit, &site, &out_dir));
    Ok(ActionSpec {
        program,
        args: Vec::new(),
        env,
        cwd: site.package,
        inputs: inputs.into_iter().collect(),
        outputs: Vec::new(),
        writable: vec![out_dir.clone()],
        out_dir: Some(out_dir),
        early_outputs: Vec::new(),
        wants_jobserver: true,
        wants_num_jobs: true,
        stdout_is_directives: true,
    })
}

/// The trees of the libraries that a build script is linked with: some carry sources
/// or programs for it, and find them by the `CARGO_MANIFEST_DIR` they were compiled with.
fn trees_of_libraries(plan: &Plan, script: &Unit) -> impl Iterator<Item = Input> {
    let direct = script.dependencies.iter().map(|dependency| dependency.unit);
    let all: BTreeSet<_> = direct
        .flat_map(|library| libraries::closure(&plan.units, library))
        .collect();
    all.into_iter()
        .map(|library| &plan.units[library.0 as usize])
        .filter(|library| !library.target.is_proc_macro())
        .map(|library| plan.site(library).tree)
}

/// `DEP_<LINKS>_<KEY>` of a dependency with `links`, and the trees such values point into.
fn add_links(
    plan: &Plan,
    other: &Unit,
    outputs: &BuildOutputs,
    inputs: &mut BTreeSet<Input>,
    metadata: &mut Env,
) -> Result<(), ActionError> {
    let found = plan.known_outputs([other.id].iter(), outputs)?;
    let Some(links) = plan.package_of(other).facts.links.as_deref() else {
        return Ok(());
    };
    inputs.insert(Input::OutDir {
        unit: other.id,
        at: plan.out_dir(other.id),
    });
    inputs.insert(plan.site(other).tree);
    for (_, output) in found {
        for (key, value) in &output.metadata {
            metadata.insert(
                format!("DEP_{}_{}", variable(links), variable(key)),
                value.clone(),
            );
        }
    }
    Ok(())
}

fn unit_env(plan: &Plan, unit: &Unit, site: &Site, out_dir: &str) -> Env {
    let mut env = Env::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    let profile = &unit.profile;
    set("OUT_DIR", out_dir);
    set("CARGO_MANIFEST_DIR", &site.package);
    set("TARGET", plan.triple_of(unit));
    set("HOST", &plan.host);
    set(
        "DEBUG",
        if profile.debuginfo.is_on() {
            "true"
        } else {
            "false"
        },
    );
    set("OPT_LEVEL", &profile.opt_level);
    let is_release = plan.settings.release_like.contains(&profile.name);
    set("PROFILE", if is_release { "release" } else { "debug" });
    set("RUSTC", paths::RUSTC);
    set("RUSTDOC", paths::RUSTDOC);
    let platform = plan.settings.platforms.get(plan.triple_of(unit));
    if let Some(linker) = platform.and_then(|platform| platform.linker.as_deref()) {
        set("RUSTC_LINKER", linker);
    }
    if let Some(links) = plan.package_of(unit).facts.links.as_deref() {
        set("CARGO_MANIFEST_LINKS", links);
    }
    for feature in &unit.features {
        set(&format!("CARGO_FEATURE_{}", variable(feature)), "1");
    }
    let facts = platform.map_or(&[][..], |platform| platform.cfg.as_slice());
    for (name, values) in cfg_values(facts, &unit.features, profile.debug_assertions) {
        set(&format!("CARGO_CFG_{}", variable(&name)), &values.join(","));
    }
    let flags = plan.settings.rustflags(unit.platform.as_deref());
    set("CARGO_ENCODED_RUSTFLAGS", &flags.join("\x1f"));
    env
}

/// The platform's facts with all their values. rustc was asked without a profile, so
/// `debug_assertions` is cargo's to say.
fn cfg_values(
    facts: &[Cfg],
    features: &[String],
    debug_assertions: bool,
) -> BTreeMap<String, Vec<String>> {
    let mut values = BTreeMap::from([("feature".to_owned(), features.to_vec())]);
    if debug_assertions {
        values.insert("debug_assertions".to_owned(), Vec::new());
    }
    for fact in facts {
        match fact {
            Cfg::Name(name) if name.as_str() == "debug_assertions" => {}
            Cfg::Name(name) => {
                values.insert(name.as_str().to_owned(), Vec::new());
            }
            Cfg::KeyPair(name, value) => {
                values
                    .entry(name.as_str().to_owned())
                    .or_default()
                    .push(value.clone());
            }
        }
    }
    values
}

/// As part of a variable's name: upper case, with underscores.
fn variable(text: &str) -> String {
    text.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_are_kept_together() {
        let facts = crate::cfg::parse(
            "debug_assertions\nunix\ntarget_feature=\"fxsr\"\ntarget_feature=\"sse\"\n",
        )
        .unwrap();
        let values = cfg_values(&facts, &["a-b".to_owned()], false);
        assert_eq!(values["target_feature"], ["fxsr", "sse"]);
        assert_eq!(values["feature"], ["a-b"]);
        assert!(values["unix"].is_empty());
        assert!(!values.contains_key("debug_assertions"));
        assert_eq!(variable("a-b"), "A_B");
    }
}
