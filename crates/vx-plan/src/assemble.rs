//! From the answers of cargo and rustc to a [`Plan`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use toml::Table;

use crate::config::Config;
use crate::error::PlanError;
use crate::graph::{self, RawUnit, UnitGraph};
use crate::input::PlanInput;
use crate::metadata;
use crate::plan::{
    Dependency, Mode, Needs, Package, PackageIndex, Plan, SourceKind, Target, Unit, UnitId,
    UnitKind,
};
use crate::toolchain::{Settings, version_field};
use crate::{hash, libraries, lto, manifest, packages, schedule};

impl Plan {
    /// Makes a plan. Nothing is read or run.
    ///
    /// # Errors
    /// If an input is not what cargo 1.95 prints, or asks for something vx cannot do.
    pub fn new(input: &PlanInput<'_>) -> Result<Self, PlanError> {
        let graph = graph::parse(input.unit_graph)?;
        let metadata = metadata::parse(input.metadata)?;
        let config = Config::parse(input.config, input.env)?;
        let host = version_field(input.rustc_version, "host")?;
        let workspace_root = metadata.workspace_root.clone();
        let root_manifest = root_manifest(&workspace_root, input)?;

        let wanted: BTreeSet<&str> = graph
            .units
            .iter()
            .map(|unit| unit.pkg_id.as_str())
            .collect();
        let packages = packages::collect(metadata, &wanted, input, root_manifest.as_ref())?;
        let by_id: HashMap<&str, PackageIndex> = packages
            .iter()
            .enumerate()
            .map(|(index, package)| (package.id.as_str(), PackageIndex(index as u32)))
            .collect();

        let mut units = units_of(&graph, &packages, &by_id)?;
        let roots: Vec<UnitId> = graph
            .roots
            .iter()
            .map(|index| UnitId(*index as u32))
            .collect();
        mark_roots(&mut units, &roots);
        find_check_tests(&mut units, input.check_tests);
        for index in 0..units.len() {
            let needs: Vec<Needs> = units[index]
                .dependencies
                .iter()
                .map(|dependency| {
                    libraries::needs(&units[index], &units[dependency.unit.0 as usize])
                })
                .collect();
            for (dependency, needs) in units[index].dependencies.iter_mut().zip(needs) {
                dependency.needs = needs;
            }
        }

        let targets: BTreeSet<&str> = graph
            .units
            .iter()
            .filter_map(|unit| unit.platform.as_deref())
            .collect();
        let release_like = release_like(&units, root_manifest.as_ref(), &config);
        let settings = Settings::gather(input, &config, &host, &targets, release_like)?;

        for (unit, lto) in lto::decide(&units, &roots).into_iter().enumerate() {
            units[unit].lto = lto;
        }
        let order = libraries::topological(&units, &packages)?;
        for id in &order {
            let index = id.0 as usize;
            let package = &packages[units[index].package.0 as usize];
            units[index].hash =
                hash::of_unit(&units[index], &units, package, &workspace_root, &settings);
        }
        let closures = libraries::closures(&units, &order);
        let native = libraries::native_scripts(&units, &order);
        let priorities = schedule::priorities(&units, &order);
        for index in 0..units.len() {
            units[index].priority = priorities[index];
            units[index].waits = schedule::waits(&units, &units[index], &closures, &native);
        }
        let profile = roots.first().map_or_else(
            || "dev".to_owned(),
            |id| units[id.0 as usize].profile.name.clone(),
        );
        Ok(Self {
            packages,
            units,
            roots,
            workspace_root,
            profile,
            host,
            settings,
            native,
        })
    }
}

fn root_manifest(root: &Path, input: &PlanInput<'_>) -> Result<Option<Table>, PlanError> {
    let path = root.join("Cargo.toml");
    input
        .manifests
        .get(&path)
        .map(|text| manifest::parse(&path, text))
        .transpose()
}

fn units_of(
    graph: &UnitGraph,
    packages: &[Package],
    by_id: &HashMap<&str, PackageIndex>,
) -> Result<Vec<Unit>, PlanError> {
    graph
        .units
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            let package = *by_id
                .get(raw.pkg_id.as_str())
                .ok_or_else(|| PlanError::UnknownPackage(raw.pkg_id.clone()))?;
            unit_of(
                UnitId(index as u32),
                raw,
                package,
                &packages[package.0 as usize],
            )
        })
        .collect()
}

fn unit_of(
    id: UnitId,
    raw: &RawUnit,
    package: PackageIndex,
    facts: &Package,
) -> Result<Unit, PlanError> {
    let unsupported = |feature: &str| PlanError::Unsupported {
        package: facts.name.clone(),
        feature: feature.to_owned(),
    };
    let mode = match raw.mode.as_str() {
        "build" => Mode::Build,
        // Tests and benchmarks are nothing else.
        "check"
            if raw
                .target
                .kind
                .iter()
                .any(|kind| kind == "test" || kind == "bench") =>
        {
            Mode::CheckTest
        }
        "check" => Mode::Check,
        "test" => Mode::Test,
        "run-custom-build" => Mode::RunBuildScript,
        other => return Err(unsupported(&format!("units of mode `{other}`"))),
    };
    if mode == Mode::RunBuildScript && raw.dependencies.is_empty() {
        // cargo leaves out the script itself if its output is given by `target.<triple>.<links>`.
        return Err(unsupported("a build script override of the configuration"));
    }
    if raw.is_std {
        return Err(unsupported("a standard library built from source"));
    }
    if raw.profile.codegen_backend.is_some() {
        return Err(unsupported("another code generation backend"));
    }
    if raw
        .profile
        .trim_paths
        .as_ref()
        .is_some_and(|value| !value.is_null())
    {
        return Err(unsupported("the profile setting `trim-paths`"));
    }
    Ok(Unit {
        id,
        package,
        target: target_of(raw, facts),
        mode,
        kind: if mode == Mode::RunBuildScript {
            UnitKind::BuildScriptRun
        } else {
            UnitKind::Rustc
        },
        platform: raw.platform.clone(),
        profile: raw.profile.clone(),
        features: raw.features.clone(),
        dependencies: raw
            .dependencies
            .iter()
            .map(|dependency| Dependency {
                unit: UnitId(dependency.index as u32),
                extern_name: dependency.extern_crate_name.clone(),
                needs: Needs::Full,
                noprelude: dependency.noprelude,
            })
            .collect(),
        waits: Vec::new(),
        hash: String::new(),
        lto: lto::Lto::OnlyObject,
        priority: 0,
        is_root: false,
        is_primary: false,
    })
}

fn target_of(raw: &RawUnit, package: &Package) -> Target {
    let target = &raw.target;
    let mut result = Target {
        name: target.name.clone(),
        kinds: target.kind.clone(),
        crate_types: target.crate_types.clone(),
        src_path: target.src_path.clone(),
        edition: target.edition.clone(),
        test: target.test,
        doc: target.doc,
        doctest: target.doctest,
        required_features: target.required_features.clone(),
        harness: true,
    };
    let is_lib = result.is_lib();
    result.harness = !package.facts.without_harness.iter().any(|(kind, name)| {
        // The library is the only one of its kind, and its crate name has underscores.
        if kind == "lib" {
            is_lib
        } else {
            *name == target.name && target.kind.contains(kind)
        }
    });
    result
}

fn mark_roots(units: &mut [Unit], roots: &[UnitId]) {
    let primary: BTreeSet<PackageIndex> = roots
        .iter()
        .map(|id| units[id.0 as usize].package)
        .collect();
    for id in roots {
        units[id.0 as usize].is_root = true;
    }
    for unit in units {
        unit.is_primary = primary.contains(&unit.package);
    }
}

/// The graph calls both flavours of checking `check`. A root that nobody depends on is the test
/// flavour if it is the second of its kind, or if tests were asked for and it is tested by default.
fn find_check_tests(units: &mut [Unit], check_tests: bool) {
    let used: BTreeSet<UnitId> = units
        .iter()
        .flat_map(|unit| unit.dependencies.iter().map(|dep| dep.unit))
        .collect();
    let mut groups: BTreeMap<(PackageIndex, PathBuf, String, Option<String>), Vec<usize>> =
        BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        if unit.mode == Mode::Check && unit.is_root {
            let target = &unit.target;
            let key = (
                unit.package,
                target.src_path.clone(),
                target.name.clone(),
                unit.platform.clone(),
            );
            groups.entry(key).or_default().push(index);
        }
    }
    for group in groups.into_values() {
        let Some(last) = group.last().copied() else {
            continue;
        };
        let is_test = group.len() > 1
            || (check_tests && units[last].target.test && !used.contains(&UnitId(last as u32)));
        if is_test {
            units[last].mode = Mode::CheckTest;
        }
    }
}

/// Which profiles of the graph descend from `release`; build scripts are told.
fn release_like(units: &[Unit], manifest: Option<&Table>, config: &Config<'_>) -> BTreeSet<String> {
    let names: BTreeSet<&str> = units
        .iter()
        .map(|unit| unit.profile.name.as_str())
        .collect();
    names
        .into_iter()
        .filter(|name| {
            let mut current = *name;
            // A chain cannot be longer than this without a cycle, which cargo refuses.
            for _ in 0..64 {
                match current {
                    "release" | "bench" => return true,
                    "dev" | "test" => return false,
                    _ => {}
                }
                let parent = config
                    .inherits(current)
                    .or_else(|| manifest.and_then(|table| manifest::inherits(table, current)));
                match parent {
                    Some(parent) => current = parent,
                    None => return false,
                }
            }
            false
        })
        .map(str::to_owned)
        .collect()
}

pub(crate) fn source_kind(source: Option<&str>) -> SourceKind {
    match source {
        None => SourceKind::Path,
        Some(source) if source.starts_with("git+") => SourceKind::Git,
        Some(_) => SourceKind::Registry,
    }
}
