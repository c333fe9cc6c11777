//! What each unit was made from in the last build and in the one before, for `vx explain`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use vx_proto::Digest;
use vx_proto::command::{Change, ExplainRequest, Explanation, How, UnitName};

use crate::names::unit_name;
use crate::outcome::{Outcome, labelled};

/// The last builds of one workspace, by profile and unit.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Chronicle {
    profiles: BTreeMap<String, BTreeMap<String, Entry>>,
    last: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: UnitName,
    how: How,
    /// Whether it was part of the last build.
    current: bool,
    inputs: BTreeMap<String, String>,
    before: Option<BTreeMap<String, String>>,
}

/// The history of all workspaces, on disk.
#[derive(Debug)]
pub(crate) struct History {
    records: PathBuf,
    /// One writer at a time; the files are small and rarely written.
    writing: Mutex<()>,
}

impl History {
    /// A history below `records`, a directory of the daemon.
    pub(crate) fn new(records: PathBuf) -> History {
        History {
            records,
            writing: Mutex::new(()),
        }
    }

    /// Adds a build. Blocks; what cannot be written cannot be explained later, and breaks nothing else.
    pub(crate) fn record(&self, workspace_root: &Path, outcome: &Outcome) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = &outcome.runner.inputs.plan;
        let place = self.place(workspace_root);
        let mut chronicle = read(&place).unwrap_or_default();
        let units = chronicle.profiles.entry(plan.profile.clone()).or_default();
        let mut earlier = std::mem::take(units);
        for (label, (unit, success)) in labelled(outcome) {
            let before = earlier.remove(&label).map(|entry| entry.inputs);
            units.insert(
                label,
                Entry {
                    name: unit_name(plan, unit),
                    how: success.how,
                    current: true,
                    inputs: success.inputs.clone(),
                    before,
                },
            );
        }
        // A unit that failed or was not asked for this time is compared with its last success next time.
        for (label, mut entry) in earlier {
            entry.current = false;
            units.entry(label).or_insert(entry);
        }
        chronicle.last = plan.profile.clone();
        let _written = write(&place, &chronicle);
    }

    /// Why the units of the last build were built, or were not. Blocks.
    pub(crate) fn explain(&self, request: &ExplainRequest) -> Vec<Explanation> {
        let directory = match &request.manifest_path {
            Some(path) => request.cwd.join(path),
            None => request.cwd.clone(),
        };
        let chronicle = directory.ancestors().find_map(|dir| read(&self.place(dir)));
        let Some(chronicle) = chronicle else {
            return Vec::new();
        };
        let profile = request.profile.as_ref().unwrap_or(&chronicle.last);
        let units = chronicle.profiles.get(profile).into_iter().flatten();
        units
            .filter(|(_, entry)| entry.current)
            .filter(|(label, entry)| match &request.unit {
                Some(wanted) => {
                    entry.name.package == *wanted
                        || entry.name.target == *wanted
                        || *label == wanted
                }
                None => true,
            })
            .map(|(_, entry)| Explanation {
                name: entry.name.clone(),
                how: entry.how,
                has_earlier: entry.before.is_some(),
                changes: entry
                    .before
                    .as_ref()
                    .map_or_else(Vec::new, |before| changes(before, &entry.inputs)),
            })
            .collect()
    }

    fn place(&self, workspace_root: &Path) -> PathBuf {
        let name = Digest::of(workspace_root.as_os_str().as_encoded_bytes()).hex();
        self.records.join(format!("{name}.json"))
    }
}

/// What differs between two sets of inputs.
fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Change> {
    let gone = before
        .iter()
        .filter(|(input, _)| !after.contains_key(*input))
        .map(|(input, value)| Change {
            input: input.clone(),
            before: Some(value.clone()),
            after: None,
        });
    let new_or_other = after
        .iter()
        .filter(|(input, value)| before.get(*input) != Some(value))
        .map(|(input, value)| Change {
            input: input.clone(),
            before: before.get(input).cloned(),
            after: Some(value.clone()),
        });
    let mut changes: Vec<Change> = new_or_other.chain(gone).collect();
    // Sources come first: they are what the user changed, and the rest often follows from it.
    changes.sort_by_key(|change| (!change.input.starts_with("source "), change.input.clone()));
    changes
}

fn read(place: &Path) -> Option<Chronicle> {
    serde_json::from_slice(&fs::read(place).ok()?).ok()
}

fn write(place: &Path, chronicle: &Chronicle) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let unique = place.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unique, serde_json::to_vec(chronicle)?)?;
    fs::rename(unique, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_first_and_both_directions_are_told() {
        let map = |entries: &[(&str, &str)]| {
            entries
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let before = map(&[("argument -O", "given"), ("source a", "1"), ("tree t", "1")]);
        let after = map(&[("source a", "2"), ("tree t", "1"), ("variable X", "1")]);
        let found: Vec<_> = changes(&before, &after)
            .into_iter()
            .map(|c| (c.input, c.before.is_some(), c.after.is_some()))
            .collect();
        assert_eq!(
            found,
            [
                ("source a".to_owned(), true, true),
                ("argument -O".to_owned(), true, false),
                ("variable X".to_owned(), false, true),
            ]
        );
    }
}
