//! What a unit sees of its transitive dependencies: libraries, and native settings of build scripts.
//!
//! Both stop at procedural macros: these are loaded into rustc, not linked.

use std::collections::BTreeSet;

use crate::error::PlanError;
use crate::layout::needs_objects;
use crate::plan::{Mode, Needs, Package, Unit, UnitId};

/// Units with dependencies before dependents.
pub(crate) fn topological(units: &[Unit], packages: &[Package]) -> Result<Vec<UnitId>, PlanError> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; units.len()];
    let mut order = Vec::with_capacity(units.len());
    for start in 0..units.len() {
        // A stack of (unit, next dependency), since graphs may be deep.
        let mut stack = vec![(start, 0)];
        while let Some((index, next)) = stack.pop() {
            if next == 0 {
                match states[index] {
                    State::Done => continue,
                    State::Open => {
                        let package = &packages[units[index].package.0 as usize];
                        return Err(PlanError::Cycle(package.name.clone()));
                    }
                    State::New => states[index] = State::Open,
                }
            }
            match units[index].dependencies.get(next) {
                Some(dependency) => {
                    stack.push((index, next + 1));
                    let target = dependency.unit.0 as usize;
                    if states[target] != State::Done {
                        stack.push((target, 0));
                    }
                }
                None => {
                    states[index] = State::Done;
                    order.push(UnitId(index as u32));
                }
            }
        }
    }
    Ok(order)
}

/// Whether a dependent can do with the metadata of a library that is still being compiled.
pub(crate) fn metadata_is_enough(unit: &Unit, dependency: &Unit) -> bool {
    let plain = |unit: &Unit| unit.mode == Mode::Build && !needs_objects(unit);
    plain(unit) && plain(dependency)
}

/// What a direct or transitive dependent needs of a unit.
pub(crate) fn needs(unit: &Unit, dependency: &Unit) -> Needs {
    if metadata_is_enough(unit, dependency) {
        Needs::Metadata
    } else {
        Needs::Full
    }
}

/// For each unit: itself and all libraries that its dependents must find, if it is a library.
pub(crate) fn closures(units: &[Unit], order: &[UnitId]) -> Vec<BTreeSet<UnitId>> {
    let mut closures = vec![BTreeSet::new(); units.len()];
    for id in order {
        let unit = &units[id.0 as usize];
        if !unit.target.is_linkable() || unit.mode == Mode::RunBuildScript {
            continue;
        }
        let mut own = BTreeSet::from([*id]);
        if !unit.target.is_proc_macro() {
            for dependency in &unit.dependencies {
                own.extend(closures[dependency.unit.0 as usize].iter().copied());
            }
        }
        closures[id.0 as usize] = own;
    }
    closures
}

/// The closure of one unit, as in [`closures`].
pub(crate) fn closure(units: &[Unit], start: UnitId) -> BTreeSet<UnitId> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        let unit = &units[id.0 as usize];
        let is_library = unit.target.is_linkable() && unit.mode != Mode::RunBuildScript;
        if is_library && found.insert(id) && !unit.target.is_proc_macro() {
            open.extend(unit.dependencies.iter().map(|dependency| dependency.unit));
        }
    }
    found
}

/// Native settings that reach a unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct NativeScripts {
    /// Build script runs whose settings apply, in cargo's order, the own one first.
    pub(crate) to_link: Vec<UnitId>,
    /// Those of programs and macros that run during the unit.
    pub(crate) of_plugins: BTreeSet<UnitId>,
}

/// For each unit, which build script runs of its closure matter.
pub(crate) fn native_scripts(units: &[Unit], order: &[UnitId]) -> Vec<NativeScripts> {
    let mut all = vec![NativeScripts::default(); units.len()];
    for id in order {
        let unit = &units[id.0 as usize];
        let mut own = NativeScripts::default();
        if !unit.target.is_build_script()
            && let Some(run) = own_build_script(units, unit)
        {
            own.to_link.push(run);
        }
        // cargo sorts by package, so that the flags do not depend on the order of the graph.
        let mut dependencies: Vec<UnitId> = unit.dependencies.iter().map(|dep| dep.unit).collect();
        dependencies.sort_by_key(|id| units[id.0 as usize].package);
        for dependency in dependencies {
            let target = &units[dependency.0 as usize].target;
            let theirs = &all[dependency.0 as usize];
            if target.is_for_host() {
                own.of_plugins.extend(theirs.to_link.iter().copied());
            } else if target.is_linkable() {
                for run in &theirs.to_link {
                    if !own.to_link.contains(run) {
                        own.to_link.push(*run);
                    }
                }
            }
        }
        all[id.0 as usize] = own;
    }
    all
}

/// The run of the package's own build script, if the unit depends on it.
pub(crate) fn own_build_script(units: &[Unit], unit: &Unit) -> Option<UnitId> {
    unit.dependencies
        .iter()
        .map(|dependency| &units[dependency.unit.0 as usize])
        .find(|other| other.mode == Mode::RunBuildScript && other.package == unit.package)
        .map(|other| other.id)
}
