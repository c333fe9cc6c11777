//! What a unit waits for, and how urgent it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::libraries::{self, NativeScripts};
use crate::plan::{Mode, Needs, Unit, UnitId, Wait};

/// Rough cost of one unit; only the order of magnitude counts.
fn cost(unit: &Unit) -> u64 {
    match unit.mode {
        Mode::RunBuildScript => 4,
        Mode::Check | Mode::CheckTest => 5,
        Mode::Build | Mode::Test => 10,
    }
}

/// The longest path from each unit to a unit nobody depends on.
pub(crate) fn priorities(units: &[Unit], order: &[UnitId]) -> Vec<u64> {
    let mut behind = vec![0_u64; units.len()];
    let mut result = vec![0_u64; units.len()];
    for id in order.iter().rev() {
        let unit = &units[id.0 as usize];
        let own = behind[id.0 as usize] + cost(unit);
        result[id.0 as usize] = own;
        for dependency in &unit.dependencies {
            let entry = &mut behind[dependency.unit.0 as usize];
            *entry = (*entry).max(own);
        }
    }
    result
}

/// Everything a unit needs before it can run.
pub(crate) fn waits(
    units: &[Unit],
    unit: &Unit,
    closures: &[BTreeSet<UnitId>],
    native: &[NativeScripts],
) -> Vec<Wait> {
    let mut waits: BTreeMap<UnitId, Needs> = BTreeMap::new();
    let mut add = |id: UnitId, needs: Needs| {
        let entry = waits.entry(id).or_insert(needs);
        *entry = (*entry).max(needs);
    };
    if unit.mode == Mode::RunBuildScript {
        for dependency in &unit.dependencies {
            add(dependency.unit, Needs::Full);
        }
    } else {
        for dependency in &unit.dependencies {
            for id in &closures[dependency.unit.0 as usize] {
                add(*id, libraries::needs(unit, &units[id.0 as usize]));
            }
        }
    }
    let scripts = &native[unit.id.0 as usize];
    for run in scripts.to_link.iter().chain(&scripts.of_plugins) {
        add(*run, Needs::Full);
    }
    waits
        .into_iter()
        .map(|(unit, needs)| Wait { unit, needs })
        .collect()
}
