//! Notices that a test changed a path outside its directories.
//!
//! Only declared paths are looked at: other programs write to the user's home
//! and to the system's temporary directory at any time, and a test is not to
//! fail for what they do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A path and what it looked like at first.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    before: State,
}

type State = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

impl Watched {
    pub(crate) fn new(path: &Path) -> Watched {
        Watched {
            path: path.to_owned(),
            before: state(path),
        }
    }

    /// Paths that were made, removed or written since.
    pub(crate) fn changes(&self) -> Vec<PathBuf> {
        let after = state(&self.path);
        let mut changed: Vec<PathBuf> = after
            .iter()
            .filter(|(path, state)| self.before.get(*path) != Some(state))
            .map(|(path, _)| path.clone())
            .collect();
        changed.extend(
            self.before
                .keys()
                .filter(|path| !after.contains_key(*path))
                .cloned(),
        );
        changed
    }
}

/// A file by size and time of change; a directory by its direct entries.
fn state(path: &Path) -> State {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return State::new();
    };
    let mut state = State::new();
    let entry = |metadata: &fs::Metadata| (metadata.len(), metadata.modified().ok());
    if !metadata.is_dir() {
        state.insert(path.to_owned(), entry(&metadata));
        return state;
    }
    state.insert(path.to_owned(), (0, None));
    for child in fs::read_dir(path).into_iter().flatten().flatten() {
        if let Ok(metadata) = child.metadata() {
            state.insert(child.path(), entry(&metadata));
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_and_removed_entries_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["same", "changed", "removed"] {
            fs::write(path(name), "1").unwrap();
        }
        let watched = Watched::new(dir.path());
        let absent = Watched::new(&path("new"));
        assert!(watched.changes().is_empty());
        fs::write(path("changed"), "22").unwrap();
        fs::write(path("new"), "").unwrap();
        fs::remove_file(path("removed")).unwrap();
        assert_eq!(
            watched.changes(),
            [path("changed"), path("new"), path("removed")]
        );
        assert_eq!(absent.changes(), [path("new")]);
    }
}
