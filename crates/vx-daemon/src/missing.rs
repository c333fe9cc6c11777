//! What a build without network misses: everything at once, where cargo names the first package only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lock_file::{self, Locked};

/// Words with which cargo says that it would have needed the network.
const SIGNS: [&str; 2] = ["--offline was specified", "you're using offline mode"];

/// Whether cargo failed since it was not to use the network.
pub(crate) fn is_offline_failure(words: &str) -> bool {
    SIGNS.iter().any(|sign| words.contains(sign))
}

/// Packages of `lock` that are not on this machine, as `name version`. Blocks.
///
/// Some may be for other platforms: Cargo.lock does not tell.
pub(crate) fn packages(lock: &str, cargo_home: &Path) -> Vec<String> {
    let registries = directories(&cargo_home.join("registry/cache"));
    let repositories = directories(&cargo_home.join("git/checkouts"));
    let is_there = |package: &Locked| match package.revision() {
        Some(revision) => repositories.iter().any(|dir| dir.join(revision).is_dir()),
        None => {
            let archive = package.archive();
            registries.iter().any(|dir| dir.join(&archive).is_file())
        }
    };
    let missing: BTreeSet<String> = lock_file::packages(lock)
        .iter()
        .filter(|package| !is_there(package))
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    missing.into_iter().collect()
}

/// The entries of a directory; none where it cannot be read.
pub(crate) fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("registry/cache/index");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("here-1.0.0.crate"), "").unwrap();
        fs::create_dir_all(dir.path().join("git/checkouts/repo/0123456")).unwrap();
        let mut lock = "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n".to_owned();
        for (name, version, source) in [
            ("here", "1.0.0", "registry+https://r"),
            ("here", "2.0.0", "registry+https://r"),
            ("away", "1.0.0", "registry+https://r"),
            ("git", "1.0.0", "git+https://g?branch=b#0123456789"),
            ("other", "1.0.0", "git+https://g#a123456789"),
        ] {
            lock += &format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n"
            );
        }
        assert_eq!(
            packages(&lock, dir.path()),
            ["away 1.0.0", "here 2.0.0", "other 1.0.0"]
        );
    }
}
