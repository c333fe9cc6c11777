//! What a user's CARGO_HOME has already is not downloaded once more: it is copied to where downloads are shared.
//!
//! Archives are copied if their SHA-256 is the one in Cargo.lock; entries of an index only help cargo to find them; objects of a repository are named by their hashes.
//! A file that exists stays as it is, and one that cannot be copied is left to cargo, which downloads it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lock_file::Locked;
use crate::missing::directories;
use crate::verify::sha256;

/// Copies are made here before they are moved to their places.
const UNFINISHED: &str = "tmp";
/// Nobody works on one copy for so long: whoever began it was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Copies from the CARGO_HOME `from` what `to` lacks of `packages`. Blocks.
pub(crate) fn copy(from: &Path, to: &Path, packages: &[Locked]) {
    let seed = Seed { from, to, packages };
    sweep(&seed.unfinished());
    for registry in directories(&from.join("registry/cache")) {
        seed.archives(&registry);
    }
    for index in directories(&from.join("registry/index")) {
        seed.entries(&index);
    }
    seed.repositories();
}

struct Seed<'a> {
    from: &'a Path,
    to: &'a Path,
    packages: &'a [Locked],
}

impl Seed<'_> {
    fn unfinished(&self) -> PathBuf {
        self.to.join(UNFINISHED)
    }

    fn archives(&self, registry: &Path) {
        for package in self.packages {
            let Some(checksum) = &package.checksum else {
                continue;
            };
            let archive = registry.join(package.archive());
            // cargo takes an archive that is there without looking into it.
            self.file(&archive, || {
                sha256(&archive).is_ok_and(|found| found == *checksum)
            });
        }
    }

    /// What a sparse index says about the packages; one that is a repository has no `config.json`.
    fn entries(&self, index: &Path) {
        let settings = index.join("config.json");
        if settings.is_file() {
            self.file(&settings, || true);
            for package in self.packages {
                self.file(&index.join(place_in_index(&package.name)), || true);
            }
        }
    }

    /// Repositories that have the revisions which the lock file names, and that `to` has not at all.
    fn repositories(&self) {
        for checkouts in directories(&self.from.join("git/checkouts")) {
            let mut revisions = self.packages.iter().filter_map(Locked::revision);
            let Some(name) = checkouts.file_name() else {
                continue;
            };
            let repository = self.from.join("git/db").join(name);
            if repository.is_dir() && revisions.any(|revision| checkouts.join(revision).is_dir()) {
                self.place(&repository, |unfinished| copy_tree(&repository, unfinished));
            }
        }
    }

    /// Copies a file, if `to` lacks it and it is the right one.
    fn file(&self, file: &Path, is_right: impl FnOnce() -> bool) {
        if file.is_file() {
            self.place(file, |unfinished| match is_right() {
                true => fs::copy(file, unfinished).map(|_| ()),
                false => Err(io::ErrorKind::InvalidData.into()),
            });
        }
    }

    /// Has `copy` make what is at `original`, and moves it to where `to` has it, so that nobody sees half of it.
    ///
    /// Where somebody was faster, both have the same.
    fn place(&self, original: &Path, copy: impl FnOnce(&Path) -> io::Result<()>) {
        let Ok(relative) = original.strip_prefix(self.from) else {
            return;
        };
        let target = self.to.join(relative);
        if target.exists() {
            return;
        }
        let placed = || -> io::Result<()> {
            fs::create_dir_all(self.unfinished())?;
            let aside = tempfile::tempdir_in(self.unfinished())?;
            let unfinished = aside.path().join("copy");
            copy(&unfinished)?;
            if let Some(directory) = target.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::rename(unfinished, target)
        };
        // What is not there now, cargo downloads.
        let _placed = placed();
    }
}

/// Removes what was left by those who were killed.
fn sweep(unfinished: &Path) {
    for path in directories(unfinished) {
        let modified = fs::metadata(&path).and_then(|meta| meta.modified());
        let age = modified.map(|time| time.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > ABANDONED) {
            // The next one tries again.
            let _removed = fs::remove_dir_all(path);
        }
    }
}

/// Where cargo keeps what a sparse index says about `name`.
pub(crate) fn place_in_index(name: &str) -> PathBuf {
    let name = name.to_lowercase();
    let directory = prefix_in_index(&name);
    Path::new(".cache").join(directory).join(&name)
}

/// The directory of an index that has `name`; see <https://doc.rust-lang.org/cargo/reference/registry-index.html#index-files>.
pub(crate) fn prefix_in_index(name: &str) -> String {
    let part = |from: usize, to: usize| name.get(from..to).unwrap_or(name);
    match name.len() {
        0..=2 => name.len().to_string(),
        3 => format!("3/{}", part(0, 1)),
        _ => format!("{}/{}", part(0, 2), part(2, 4)),
    }
}

/// Copies a directory with the files in it.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &copy)?;
        } else if kind.is_file() {
            fs::copy(&source, &copy)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn locked(name: &str, source: &str, checksum: Option<String>) -> Locked {
        Locked {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            source: source.to_owned(),
            checksum,
        }
    }

    #[test]
    fn archives_are_copied_only_if_they_are_those_of_the_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for name in ["right", "wrong"] {
            let archive = format!("registry/cache/index/{name}-1.0.0.crate");
            write(from.join(archive), name);
        }
        let right = from.join("registry/cache/index/right-1.0.0.crate");
        let sum = sha256(&right).unwrap();
        let packages = [
            locked("right", "registry+r", Some(sum.clone())),
            locked("wrong", "registry+r", Some(sum)),
            locked("absent", "registry+r", Some(String::new())),
        ];
        copy(&from, &to, &packages);
        let copied = directories(&to.join("registry/cache/index"));
        assert_eq!(copied, [to.join("registry/cache/index/right-1.0.0.crate")]);
        // What is there stays.
        fs::write(&copied[0], "own").unwrap();
        copy(&from, &to, &packages);
        assert_eq!(fs::read_to_string(&copied[0]).unwrap(), "own");
    }

    #[test]
    fn entries_of_a_sparse_index_and_repositories_come_along() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let files = [
            "registry/index/sparse/config.json",
            "registry/index/sparse/.cache/se/rd/serde",
            "git/db/repo-0123/objects/ab",
        ];
        for file in files {
            write(from.join(file), file);
        }
        write(from.join("registry/index/bare/.cache/se/rd/serde"), "");
        write(from.join("registry/index/sparse/.cache/to/ki/tokio"), "");
        fs::create_dir_all(from.join("git/checkouts/repo-0123/abcdef0")).unwrap();
        write(from.join("git/db/other-0123/objects/ab"), "");
        let packages = [
            locked("serde", "registry+r", None),
            locked("own", "git+https://g#abcdef0123", None),
        ];
        copy(&from, &to, &packages);
        for file in files {
            assert_eq!(fs::read_to_string(to.join(file)).unwrap(), file);
        }
        assert!(!to.join("registry/index/bare").exists());
        assert!(!to.join("registry/index/sparse/.cache/to").exists());
        assert_eq!(directories(&to.join("git/db")).len(), 1);
        assert!(directories(&to.join(UNFINISHED)).is_empty());
    }

    #[test]
    fn places_in_an_index_are_those_of_cargo() {
        for (name, place) in [
            ("a", ".cache/1/a"),
            ("ab", ".cache/2/ab"),
            ("abc", ".cache/3/a/abc"),
            ("Serde", ".cache/se/rd/serde"),
        ] {
            assert_eq!(place_in_index(name), Path::new(place));
        }
    }
}
