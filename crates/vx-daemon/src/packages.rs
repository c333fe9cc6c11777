//! Trees of packages that do not change: what registries and git dependencies unpack to.
//!
//! Such a package is hashed once per machine; afterwards its identity (source, version and checksum of the lock file) names the tree.
//! The record is not trusted with content: whatever is uploaded is hashed by the store again.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use vx_proto::Digest;
use vx_tree::{DigestCache, HashError, Rules, ScanError, SourceTree, scan};

/// Why a package could not be made an input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageError {
    /// Its directory could not be listed.
    #[error("cannot use the sources of `{package}`")]
    Scan {
        /// The package.
        package: String,
        /// Why not.
        source: ScanError,
    },
    /// A file could not be read.
    #[error("cannot use the sources of `{package}`")]
    Hash {
        /// The package.
        package: String,
        /// Why not.
        source: HashError,
    },
}

/// The trees of immutable packages, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Packages {
    records: PathBuf,
    known: Mutex<HashMap<(String, PathBuf), Arc<SourceTree>>>,
}

impl Packages {
    /// Trees recorded below `records`, a directory of the daemon.
    pub(crate) fn new(records: PathBuf) -> Packages {
        Packages {
            records,
            known: Mutex::default(),
        }
    }

    /// The tree of the package called `identity`, unpacked at `root`.
    ///
    /// Blocks; reads the package only when it was never seen on this machine.
    ///
    /// # Errors
    ///
    /// A directory that cannot be read.
    pub(crate) fn tree(
        &self,
        identity: &str,
        root: &Path,
    ) -> Result<Arc<SourceTree>, PackageError> {
        let key = (identity.to_owned(), root.to_owned());
        if let Some(tree) = self.lock().get(&key) {
            return Ok(tree.clone());
        }
        let place = self.place(identity);
        let tree = match read(&place) {
            // The same package may be unpacked in another CARGO_HOME today.
            Some(tree) => SourceTree {
                root: root.to_owned(),
                ..tree
            },
            None => {
                let tree = hash(identity, root)?;
                // Without the record the next daemon reads the package again; that is no reason to fail.
                let _written = write(&place, &tree);
                tree
            }
        };
        let tree = Arc::new(tree);
        self.lock().insert(key, tree.clone());
        Ok(tree)
    }

    /// Forgets all packages, after the sources of one turned out to differ from its record. Blocks.
    pub(crate) fn distrust(&self) {
        self.lock().clear();
        // What cannot be removed is found to be wrong again, and no harm is done.
        let _gone = fs::remove_dir_all(&self.records);
    }

    fn place(&self, identity: &str) -> PathBuf {
        self.records.join(Digest::of(identity.as_bytes()).hex())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, PathBuf), Arc<SourceTree>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(identity: &str, root: &Path) -> Result<SourceTree, PackageError> {
    let mut rules = Rules::sources([]);
    rules.skip_tagged_caches = false;
    let scanned = scan(root, &rules).map_err(|source| PackageError::Scan {
        package: identity.to_owned(),
        source,
    })?;
    scanned
        .hash(&DigestCache::default())
        .map_err(|source| PackageError::Hash {
            package: identity.to_owned(),
            source,
        })
}

fn read(place: &Path) -> Option<SourceTree> {
    postcard::from_bytes(&fs::read(place).ok()?).ok()
}

fn write(place: &Path, tree: &SourceTree) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let bytes = postcard::to_stdvec(tree).map_err(io::Error::other)?;
    let unique = place.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unique, bytes)?;
    fs::rename(unique, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_package_is_found_in_another_place_without_reading_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a-1.0.0");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("lib.rs"), "").unwrap();
        let records = dir.path().join("records");
        let first = Packages::new(records.clone())
            .tree("a 1.0.0 abc", &root)
            .unwrap();
        let elsewhere = Path::new("/elsewhere/a-1.0.0");
        let again = Packages::new(records.clone())
            .tree("a 1.0.0 abc", elsewhere)
            .unwrap();
        assert_eq!(again.digest, first.digest);
        assert_eq!(again.root, elsewhere);
        let other = Packages::new(records).tree("a 1.0.1 abd", elsewhere);
        assert!(matches!(other, Err(PackageError::Scan { .. })));
    }

    #[test]
    fn a_distrusted_package_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("lib.rs"), "1").unwrap();
        let packages = Packages::new(dir.path().join("records"));
        let first = packages.tree("a", &root).unwrap();
        fs::write(root.join("lib.rs"), "2").unwrap();
        assert_eq!(packages.tree("a", &root).unwrap().digest, first.digest);
        packages.distrust();
        assert_ne!(packages.tree("a", &root).unwrap().digest, first.digest);
    }
}
