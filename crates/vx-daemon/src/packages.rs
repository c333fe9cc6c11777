//! Trees of packages that do not change: what registries and git dependencies unpack to.
//!
//! Such a package is hashed and compared with its archive once; afterwards its identity (source, version and checksum of the lock file) names the tree.
//! The record is not trusted with content: whatever is uploaded is hashed by the store again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vx_proto::Digest;
use vx_tree::{DigestCache, HashError, Rules, ScanError, SourceTree, scan};

use crate::verify::{Immutable, Verified, VerifyError};

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
    /// Its files are not those that Cargo.lock means.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// They were not, in a place that is not the user's, so that they are gone now.
    #[error(transparent)]
    Discarded(VerifyError),
}

/// The packages of one build.
#[derive(Debug, Default)]
pub(crate) struct PackageTrees {
    /// Their trees by the directories that they are unpacked in.
    pub(crate) trees: BTreeMap<String, Arc<SourceTree>>,
    /// Those, as `name version`, that could not be compared with anything when they were first read.
    pub(crate) unchecked: Vec<String>,
}

/// The trees of immutable packages, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Packages {
    records: PathBuf,
    /// Where wrong packages may be removed.
    ours: Option<PathBuf>,
    known: Mutex<HashMap<(String, PathBuf), Arc<SourceTree>>>,
    /// Contents of vendored packages that were found to be right.
    vendored: Mutex<HashSet<(String, Digest)>>,
}

impl Packages {
    /// Trees recorded below `records`, a directory of the daemon; packages below `ours` that are wrong are removed, so that cargo fetches them anew.
    pub(crate) fn new(records: PathBuf, ours: Option<PathBuf>) -> Packages {
        Packages {
            records,
            ours,
            known: Mutex::default(),
            vendored: Mutex::default(),
        }
    }

    /// The tree of a package; the second value says whether it could be compared with what Cargo.lock means.
    ///
    /// Blocks; reads the package only when it was never seen on this machine.
    ///
    /// # Errors
    ///
    /// A directory that cannot be read, or whose files are not those of its archive.
    pub(crate) fn tree(
        &self,
        package: &Immutable,
    ) -> Result<(Arc<SourceTree>, Verified), PackageError> {
        let key = (package.identity.clone(), package.root.clone());
        if let Some(tree) = self.lock().get(&key) {
            return Ok((tree.clone(), Verified::Yes));
        }
        let place = self.place(&package.identity);
        let (tree, verified) = match read(&place) {
            // The same package may be unpacked in another CARGO_HOME today.
            Some(tree) => {
                let root = package.root.clone();
                (SourceTree { root, ..tree }, Verified::Yes)
            }
            None => {
                let tree = hash(&package.identity, &package.root, &DigestCache::default())?;
                let verified = self.verified(package, &tree)?;
                // Without the record the next daemon reads the package again; that is no reason to fail.
                let _written = write(&place, &tree);
                (tree, verified)
            }
        };
        let tree = Arc::new(tree);
        self.lock().insert(key, tree.clone());
        Ok((tree, verified))
    }

    fn verified(&self, package: &Immutable, tree: &SourceTree) -> Result<Verified, PackageError> {
        let error = match package.verify(&tree.files) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let is_ours = self
            .ours
            .as_ref()
            .is_some_and(|ours| package.root.starts_with(ours));
        Err(match is_ours && package.discard().is_ok() {
            true => PackageError::Discarded(error),
            false => error.into(),
        })
    }

    /// The trees of all packages, on as many threads as there are processors.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// The first package that is wrong.
    pub(crate) fn trees(&self, packages: &[Immutable]) -> Result<PackageTrees, PackageError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<_>, PackageError> {
            let mut done = Vec::new();
            while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((package, self.tree(package)?));
            }
            Ok(done)
        };
        let finished: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads.min(packages.len()))
                .map(|_| scope.spawn(work))
                .collect();
            running.into_iter().map(|thread| thread.join()).collect()
        });
        let PackageTrees {
            mut trees,
            mut unchecked,
        } = PackageTrees::default();
        for part in finished {
            let part = match part {
                Ok(part) => part?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            for (package, (tree, verified)) in part {
                if verified == Verified::NoArchive {
                    unchecked.push(format!("{} {}", package.name, package.version));
                }
                trees.insert(package.root.to_string_lossy().into_owned(), tree);
            }
        }
        unchecked.sort();
        Ok(PackageTrees { trees, unchecked })
    }

    /// The tree of a package that is vendored in the workspace, as it is now; compared with what Cargo.lock means once for each content. Blocks.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is another one.
    pub(crate) fn vendored(
        &self,
        package: &Immutable,
        digests: &DigestCache,
    ) -> Result<Arc<SourceTree>, PackageError> {
        let tree = Arc::new(hash(&package.identity, &package.root, digests)?);
        let content = (package.identity.clone(), tree.digest);
        let known = || self.vendored.lock().unwrap_or_else(PoisonError::into_inner);
        if !known().contains(&content) {
            package.verify(&tree.files)?;
            known().insert(content);
        }
        Ok(tree)
    }

    /// Forgets all packages, after the sources of one turned out to differ from its record. Blocks.
    pub(crate) fn distrust(&self) {
        self.lock().clear();
        // What cannot be removed is found to be wrong again, and no harm is done.
        let _gone = fs::remove_dir_all(&self.records);
    }

    fn place(&self, identity: &str) -> PathBuf {
        // Records of packages that were not compared with anything had no mark.
        let marked = format!("compared with its archive\0{identity}");
        self.records.join(Digest::of(marked.as_bytes()).hex())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, PathBuf), Arc<SourceTree>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(identity: &str, root: &Path, digests: &DigestCache) -> Result<SourceTree, PackageError> {
    let mut rules = Rules::sources([]);
    rules.skip_tagged_caches = false;
    let scanned = scan(root, &rules).map_err(|source| PackageError::Scan {
        package: identity.to_owned(),
        source,
    })?;
    scanned.hash(digests).map_err(|source| PackageError::Hash {
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

    fn package(identity: &str, root: &Path) -> Immutable {
        Immutable {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            identity: identity.to_owned(),
            root: root.to_owned(),
            checksum: None,
        }
    }

    #[test]
    fn a_recorded_package_is_found_in_another_place_without_reading_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a-1.0.0");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("lib.rs"), "").unwrap();
        let records = dir.path().join("records");
        let tree = |identity: &str, root: &Path| {
            Packages::new(records.clone(), None).tree(&package(identity, root))
        };
        let (first, verified) = tree("a 1.0.0 abc", &root).unwrap();
        assert_eq!(verified, Verified::NotAsked);
        let elsewhere = Path::new("/elsewhere/a-1.0.0");
        let (again, _) = tree("a 1.0.0 abc", elsewhere).unwrap();
        assert_eq!(again.digest, first.digest);
        assert_eq!(again.root, elsewhere);
        let other = tree("a 1.0.1 abd", elsewhere);
        assert!(matches!(other, Err(PackageError::Scan { .. })));
    }

    #[test]
    fn a_distrusted_package_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("lib.rs"), "1").unwrap();
        let packages = Packages::new(dir.path().join("records"), None);
        let digest = || packages.tree(&package("a", &root)).unwrap().0.digest;
        let first = digest();
        fs::write(root.join("lib.rs"), "2").unwrap();
        assert_eq!(digest(), first);
        packages.distrust();
        assert_ne!(digest(), first);
    }

    #[test]
    fn a_wrong_package_is_removed_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("registry/src/index/a-1.0.0");
        let archive = dir.path().join("registry/cache/index/a-1.0.0.crate");
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(archive.parent().unwrap()).unwrap();
        fs::write(root.join("lib.rs"), "").unwrap();
        fs::write(&archive, "no archive").unwrap();
        let mut wrong = package("a", &root);
        wrong.checksum = Some("abc".to_owned());
        let tree = |ours| Packages::new(dir.path().join("records"), ours).tree(&wrong);
        assert!(matches!(tree(None), Err(PackageError::Verify(_))));
        let elsewhere = Some(dir.path().join("shared"));
        assert!(matches!(tree(elsewhere), Err(PackageError::Verify(_))));
        assert!(root.exists() && archive.exists());
        let ours = Some(dir.path().to_owned());
        assert!(matches!(tree(ours), Err(PackageError::Discarded(_))));
        assert!(!root.exists() && !archive.exists());
    }

    #[test]
    fn many_packages_are_read_and_the_first_wrong_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut all: Vec<Immutable> = (0..20)
            .map(|number| {
                let root = dir.path().join(number.to_string());
                fs::create_dir(&root).unwrap();
                package(&number.to_string(), &root)
            })
            .collect();
        let packages = Packages::new(dir.path().join("records"), None);
        all[3].checksum = Some("abc".to_owned());
        let found = packages.trees(&all).unwrap();
        assert_eq!(found.trees.len(), 20);
        assert_eq!(found.unchecked, ["a 1.0.0"]);
        all.push(package("x", Path::new("/nonexistent")));
        assert!(matches!(
            packages.trees(&all),
            Err(PackageError::Scan { .. })
        ));
    }
}
