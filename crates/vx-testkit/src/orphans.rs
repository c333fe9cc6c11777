//! Finds what whole test runs left behind, for a step after the tests.
//!
//! The helper of a test leaves nothing, unless it was killed itself. What it
//! started is still marked then, and nobody watches it any more. Processes of
//! tests that are still running are below their helper and are left alone.

use std::collections::{BTreeSet, HashMap};

use crate::leaks::LeakedProcess;
use crate::lifeline::client::HELPER_NAME;
use crate::lifeline::sweep::{self, TAG};
use crate::proc;

/// Marked processes that no helper watches; with `run_id`, also those that a
/// nextest run of that id (`NEXTEST_RUN_ID`) started without the kit.
#[must_use]
pub fn orphans(run_id: Option<&str>) -> Vec<LeakedProcess> {
    sweep::describe(&orphan_ids(run_id))
}

/// Kills what [`orphans`] finds, and returns it.
#[must_use = "it tells what was killed"]
pub fn kill_orphans(run_id: Option<&str>) -> Vec<LeakedProcess> {
    let found = orphans(run_id);
    sweep::kill_until_gone(|| orphan_ids(run_id), || {});
    found
}

fn orphan_ids(run_id: Option<&str>) -> BTreeSet<u32> {
    let table = proc::processes();
    let parents: HashMap<u32, u32> = table
        .iter()
        .map(|process| (process.pid, process.parent))
        .collect();
    let me = std::process::id();
    let mut spared = ancestors(me, &parents);
    spared.push(me);
    table
        .iter()
        .filter(|process| !process.zombie && !spared.contains(&process.pid))
        .map(|process| process.pid)
        .filter(|&pid| {
            run_id.is_some_and(|id| proc::carries(pid, "NEXTEST_RUN_ID", id))
                || (proc::carries_any(pid, TAG)
                    && !ancestors(pid, &parents).into_iter().any(is_helper))
        })
        .collect()
}

fn ancestors(pid: u32, parents: &HashMap<u32, u32>) -> Vec<u32> {
    let mut found = Vec::new();
    let mut pid = pid;
    while let Some(&parent) = parents.get(&pid)
        && parent != 0
        && !found.contains(&parent)
    {
        found.push(parent);
        pid = parent;
    }
    found
}

fn is_helper(pid: u32) -> bool {
    proc::command_line(pid).starts_with(HELPER_NAME)
}
