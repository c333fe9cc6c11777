//! From a listing to a Merkle tree of REAPI directories.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vx_proto::Digest;
use vx_proto::tree::{TreeBuilder, TreeError};

use crate::cache::DigestCache;
use crate::scan::{Entry, Kind, Scan, Stamp};

/// A file of a [`SourceTree`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Path relative to the root of the tree.
    pub path: String,
    /// Digest of its content.
    pub digest: Digest,
    /// Whether the owner may execute it.
    pub executable: bool,
}

/// A directory as a content-addressed tree, with what is needed to upload it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTree {
    /// Where the files are read from.
    pub root: PathBuf,
    /// Digest of the root `Directory` message.
    pub digest: Digest,
    /// Every `Directory` message of the tree with its digest.
    pub directories: Vec<(Digest, Vec<u8>)>,
    /// Every file, sorted by path.
    pub files: Vec<SourceFile>,
    /// Every path of the tree, sorted; directories end in `/`.
    pub names: Vec<String>,
}

/// Why a tree could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The listing does not form a tree.
    #[error("cannot make a tree of `{}`", root.display())]
    Tree {
        /// The directory.
        root: PathBuf,
        /// Why not.
        source: TreeError,
    },
}

impl Scan {
    /// Hashes the files of the listing, taking from `cache` what it knows, on as many threads as there are CPUs.
    ///
    /// A symbolic link that leaves the root is replaced by the file that it names, or left out when it names none: nothing outside the root exists where the tree is used.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn hash(&self, cache: &DigestCache) -> Result<SourceTree, HashError> {
        let files = self.hash_files(cache)?;
        let mut tree = TreeBuilder::new();
        let mut names = Vec::with_capacity(self.entries.len());
        let wrong = |source| HashError::Tree {
            root: self.root.clone(),
            source,
        };
        for entry in &self.entries {
            match &entry.kind {
                Kind::Directory => {
                    tree.insert_empty_directory(&entry.path).map_err(wrong)?;
                    names.push(format!("{}/", entry.path));
                }
                Kind::Symlink { target } if stays_inside(&entry.path, target) => {
                    tree.insert_symlink(&entry.path, target).map_err(wrong)?;
                    names.push(entry.path.clone());
                }
                Kind::Symlink { .. } | Kind::File { .. } => {}
            }
        }
        for file in &files {
            tree.insert_file(&file.path, file.digest, file.executable)
                .map_err(wrong)?;
            names.push(file.path.clone());
        }
        names.sort_unstable();
        let built = tree.build();
        Ok(SourceTree {
            root: self.root.clone(),
            digest: built.root,
            directories: built.directories,
            files,
            names,
        })
    }

    fn hash_files(&self, cache: &DigestCache) -> Result<Vec<SourceFile>, HashError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = self.entries.len().div_ceil(threads).max(64);
        let mut files = std::thread::scope(|scope| {
            let workers: Vec<_> = self
                .entries
                .chunks(share)
                .map(|entries| scope.spawn(move || self.hash_share(entries, cache)))
                .collect();
            let mut files = Vec::with_capacity(self.entries.len());
            for worker in workers {
                match worker.join() {
                    Ok(share) => files.extend(share?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(files)
        })?;
        files.sort_unstable_by(|a: &SourceFile, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn hash_share(
        &self,
        entries: &[Entry],
        cache: &DigestCache,
    ) -> Result<Vec<SourceFile>, HashError> {
        let mut files = Vec::new();
        for entry in entries {
            let path = self.root.join(&entry.path);
            let (stamp, executable) = match &entry.kind {
                Kind::File { executable, stamp } => (*stamp, *executable),
                Kind::Symlink { target } if !stays_inside(&entry.path, target) => {
                    match std::fs::metadata(&path) {
                        Ok(meta) if meta.is_file() => (Stamp::of(&meta), meta.mode() & 0o100 != 0),
                        _ => continue,
                    }
                }
                Kind::Symlink { .. } | Kind::Directory => continue,
            };
            let digest = match cache.get(&path, &stamp) {
                Some(digest) => digest,
                None => match hash_file(&path) {
                    Ok(digest) => {
                        cache.insert(path, stamp, digest);
                        digest
                    }
                    // The file vanished after the listing, as editors' temporary files do.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(HashError::Read { path, source }),
                },
            };
            files.push(SourceFile {
                path: entry.path.clone(),
                digest,
                executable,
            });
        }
        Ok(files)
    }
}

impl SourceTree {
    /// The digest of the file at `path` relative to the root, if the tree has it.
    pub fn file(&self, path: &str) -> Option<Digest> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        Some(self.files[at].digest)
    }

    /// The names directly below directory `path` (empty for the root); directories end in `/`.
    pub fn listing<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a str> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let start = self
            .names
            .partition_point(|name| name.as_str() < prefix.as_str());
        let length = prefix.len();
        self.names[start..]
            .iter()
            .take_while(move |name| name.starts_with(&prefix))
            .map(move |name| &name[length..])
            .filter(|rest| !rest.is_empty() && !rest.trim_end_matches('/').contains('/'))
    }
}

/// A digest over names only, for lookups that must notice a file that appears or goes.
pub fn names_digest<'a>(names: impl IntoIterator<Item = &'a str>) -> Digest {
    let mut text = String::new();
    for name in names {
        text.push_str(name);
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}

/// Whether a link at `path` with `target` ends below the root of the tree, judged by the names alone.
fn stays_inside(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return false;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest {
        hash: *hasher.finalize().as_bytes(),
        size: hasher.count(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scan::{Rules, scan};

    fn hash(root: &Path) -> SourceTree {
        scan(root, &Rules::default())
            .unwrap()
            .hash(&DigestCache::default())
            .unwrap()
    }

    #[test]
    fn equal_trees_in_two_places_have_one_digest_and_a_changed_byte_another() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&a, &b] {
            std::fs::create_dir(dir.path().join("src")).unwrap();
            std::fs::write(dir.path().join("src/lib.rs"), "fn a() {}").unwrap();
        }
        assert_eq!(hash(a.path()).digest, hash(b.path()).digest);
        std::fs::write(b.path().join("src/lib.rs"), "fn b() {}").unwrap();
        assert_ne!(hash(a.path()).digest, hash(b.path()).digest);
    }

    #[test]
    fn a_link_that_leaves_the_root_becomes_the_file_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("outside"), "text").unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("../nothing", root.join("dangling")).unwrap();
        symlink("link", root.join("inner")).unwrap();
        let tree = hash(&root);
        assert_eq!(tree.file("link"), Some(Digest::of(b"text")));
        assert_eq!(tree.file("dangling"), None);
        assert_eq!(tree.names, ["inner", "link"]);
    }

    #[test]
    fn listing_names_direct_children_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for f in ["a/x", "a/b/y", "ab"] {
            std::fs::write(dir.path().join(f), "").unwrap();
        }
        let tree = hash(dir.path());
        assert_eq!(tree.listing("a").collect::<Vec<_>>(), ["b/", "x"]);
        assert_eq!(tree.listing("").collect::<Vec<_>>(), ["a/", "ab"]);
    }

    #[test]
    fn a_link_is_judged_by_its_names() {
        assert!(stays_inside("a/b", "../c"));
        assert!(!stays_inside("a/b", "../../c"));
        assert!(!stays_inside("a", "/etc/passwd"));
        assert!(stays_inside("a", "./b/../c"));
    }
}
