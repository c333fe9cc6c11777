//! The environment of rustc, and the part of it that build scripts share.

use std::collections::BTreeMap;

use crate::build_script::BuildOutput;
use crate::layout;
use crate::packages::join;
use crate::paths;
use crate::plan::{Package, Plan, Unit};
use crate::site::Site;

/// Variables of an action.
pub(crate) type Env = BTreeMap<String, String>;

/// Variables that the sandbox decides; a client's value would make the action depend on the machine.
const RESERVED: [&str; 8] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "NUM_JOBS",
];

/// Whether a client's variable may be passed on to an action that is known to read it.
pub(crate) fn may_pass(name: &str) -> bool {
    !RESERVED.contains(&name)
}

/// What all actions of a package have: the sandbox's own variables, those passed on, the
/// configuration's `[env]`, and cargo's description of the package.
pub(crate) fn package_env(
    plan: &Plan,
    package: &Package,
    site: &Site,
    passed: &Env,
    libraries: &str,
) -> Env {
    let mut env = Env::new();
    let client = &plan.settings.client_env;
    // rustc reads it without saying so in its dep-info.
    if let Some(value) = client.get("RUSTC_BOOTSTRAP") {
        env.insert("RUSTC_BOOTSTRAP".to_owned(), value.clone());
    }
    env.extend(
        passed
            .iter()
            .filter(|(name, _)| may_pass(name))
            .map(|(k, v)| (k.clone(), v.clone())),
    );
    for entry in &plan.settings.env_entries {
        if !may_pass(&entry.name) {
            continue;
        }
        let value = match client.get(&entry.name) {
            Some(value) if !entry.force => value.clone(),
            _ if entry.relative && !entry.value.starts_with('/') => {
                join(&site.workspace, &entry.value)
            }
            _ => entry.value.clone(),
        };
        env.insert(entry.name.clone(), value);
    }
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("PATH", paths::PATH);
    set("HOME", paths::TMP);
    set("TMPDIR", paths::TMP);
    set("LD_LIBRARY_PATH", libraries);
    set("CARGO", paths::CARGO);
    set("CARGO_MANIFEST_DIR", &site.package);
    set(
        "CARGO_MANIFEST_PATH",
        &format!("{}/Cargo.toml", site.package),
    );
    set("CARGO_PKG_NAME", &package.name);
    set("CARGO_PKG_VERSION", &package.version);
    let [major, minor, patch, pre] = version_parts(&package.version);
    set("CARGO_PKG_VERSION_MAJOR", major);
    set("CARGO_PKG_VERSION_MINOR", minor);
    set("CARGO_PKG_VERSION_PATCH", patch);
    set("CARGO_PKG_VERSION_PRE", pre);
    let facts = &package.facts;
    set("CARGO_PKG_AUTHORS", &facts.authors.join(":"));
    let optional = [
        ("CARGO_PKG_DESCRIPTION", &facts.description),
        ("CARGO_PKG_HOMEPAGE", &facts.homepage),
        ("CARGO_PKG_REPOSITORY", &facts.repository),
        ("CARGO_PKG_LICENSE", &facts.license),
        ("CARGO_PKG_LICENSE_FILE", &facts.license_file),
        ("CARGO_PKG_RUST_VERSION", &facts.rust_version),
        ("CARGO_PKG_README", &facts.readme),
    ];
    for (name, value) in optional {
        set(name, value.as_deref().unwrap_or(""));
    }
    env
}

/// The whole environment of a compilation. `own` is the output of the package's own build script.
pub(crate) fn rustc_env(
    plan: &Plan,
    unit: &Unit,
    site: &Site,
    passed: &Env,
    libraries: &str,
    own: Option<(&str, &BuildOutput)>,
) -> Env {
    let package = plan.package_of(unit);
    let mut env = package_env(plan, package, site, passed, libraries);
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("CARGO_CRATE_NAME", &unit.target.crate_name());
    let is_program = unit.target.crate_types.iter().any(|kind| kind == "bin");
    if (unit.target.is_bin() || unit.target.is_example()) && is_program {
        set("CARGO_BIN_NAME", &unit.target.name);
    }
    if unit.is_primary {
        set("CARGO_PRIMARY_PACKAGE", "1");
    }
    if unit.target.is_test() || unit.target.is_bench() {
        for (name, value) in test_env(plan, unit, package) {
            set(&name, &value);
        }
    }
    if let Some((out_dir, output)) = own {
        set("OUT_DIR", out_dir);
        for (name, value) in &output.env {
            set(name, value);
        }
    }
    env
}

/// Integration tests and benchmarks know the binaries of their package and a scratch directory.
/// Both are real paths: the test uses them when it runs.
fn test_env(plan: &Plan, unit: &Unit, package: &Package) -> Vec<(String, String)> {
    let root = &plan.settings.output_root;
    let scratch = root.join(plan.scratch_directory(unit));
    let mut env = vec![(
        "CARGO_TARGET_TMPDIR".to_owned(),
        scratch.to_string_lossy().into_owned(),
    )];
    let directory = root.join(plan.artifact_directory(unit));
    for target in &package.facts.targets {
        if target.kind.iter().any(|kind| kind == "bin") {
            let file =
                layout::file_name(plan.triple_of(unit), crate::ArtifactKind::Bin, &target.name);
            // cargo's own text: a check makes no binaries.
            let path = if unit.mode.is_check() {
                format!("placeholder:{}", target.name)
            } else {
                directory.join(file).to_string_lossy().into_owned()
            };
            env.push((format!("CARGO_BIN_EXE_{}", target.name), path));
        }
    }
    env
}

fn version_parts(version: &str) -> [&str; 4] {
    let without_build = version.split('+').next().unwrap_or(version);
    let (numbers, pre) = without_build.split_once('-').unwrap_or((without_build, ""));
    let mut parts = numbers.splitn(3, '.');
    let mut next = || parts.next().unwrap_or("");
    [next(), next(), next(), pre]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_apart() {
        assert_eq!(
            version_parts("1.22.333-rc.1+b-2"),
            ["1", "22", "333", "rc.1"]
        );
        assert_eq!(version_parts("0.1.0"), ["0", "1", "0", ""]);
    }
}
