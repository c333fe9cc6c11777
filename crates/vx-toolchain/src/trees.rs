//! A toolchain as trees: hashed once, recognised by stamps afterwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vx_proto::Digest;
use vx_tree::{DigestCache, HashError, Rules, Scan, ScanError, SourceTree, scan};

use crate::find::Toolchain;

/// One directory of a toolchain, as an input of every action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolchainTree {
    /// The name below the toolchain's root: `bin` or `lib`.
    pub name: String,
    /// Its content.
    pub tree: SourceTree,
}

/// Why a toolchain could not be made an input.
#[derive(Debug, thiserror::Error)]
pub enum TreesError {
    /// It could not be listed.
    #[error("cannot use the toolchain at `{}`", sysroot.display())]
    Scan {
        /// The sysroot.
        sysroot: PathBuf,
        /// Why not.
        source: ScanError,
    },
    /// It could not be read.
    #[error("cannot use the toolchain at `{}`", sysroot.display())]
    Hash {
        /// The sysroot.
        sysroot: PathBuf,
        /// Why not.
        source: HashError,
    },
}

/// What is kept on disk of one hashed directory.
#[derive(Serialize, Deserialize)]
struct Record {
    scan: Scan,
    tree: SourceTree,
}

impl Toolchain {
    /// Whether the toolchain has its folders for itself, as rustup installs it; distributions install it into the system's.
    pub fn has_own_folder(&self) -> bool {
        self.sysroot != Path::new("/usr") && self.sysroot != Path::new("/usr/local")
    }

    /// The directories of the toolchain that actions see: `bin` and `lib`.
    pub fn directories(&self) -> [PathBuf; 2] {
        [self.sysroot.join("bin"), self.sysroot.join("lib")]
    }

    /// What is taken of the directories: everything, or what belongs to Rust where they are shared.
    ///
    /// Libraries that a distribution puts elsewhere below `/usr` are seen there by every action, and are covered by the fingerprint of the executor's tools.
    fn rules(&self) -> [Rules; 2] {
        let only = |names: &[&str]| Rules {
            only: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Rules::default()
        };
        if self.has_own_folder() {
            [Rules::default(), Rules::default()]
        } else {
            [
                only(&["rustc", "rustdoc", "cargo"]),
                only(&["rustlib", "librustc_driver", "libLLVM"]),
            ]
        }
    }

    /// The trees of the toolchain; content is read only when a stamp differs from the record in `records`.
    ///
    /// # Errors
    ///
    /// Files of the toolchain that cannot be read. A record that cannot be read or written costs time and nothing else.
    pub fn trees(&self, records: &Path) -> Result<Vec<ToolchainTree>, TreesError> {
        self.directories()
            .into_iter()
            .zip(["bin", "lib"])
            .zip(self.rules())
            .map(|((directory, name), rules)| {
                let tree = self.tree(&directory, &rules, records)?;
                Ok(ToolchainTree {
                    name: name.to_owned(),
                    tree,
                })
            })
            .collect()
    }

    fn tree(
        &self,
        directory: &Path,
        rules: &Rules,
        records: &Path,
    ) -> Result<SourceTree, TreesError> {
        let scanned = scan(directory, rules).map_err(|source| TreesError::Scan {
            sysroot: self.sysroot.clone(),
            source,
        })?;
        let place = records.join(format!(
            "{}.json",
            Digest::of(directory.as_os_str().as_encoded_bytes()).hex()
        ));
        if let Some(record) = read(&place)
            && record.scan == scanned
        {
            return Ok(record.tree);
        }
        let tree = scanned
            .hash(&DigestCache::default())
            .map_err(|source| TreesError::Hash {
                sysroot: self.sysroot.clone(),
                source,
            })?;
        let record = Record {
            scan: scanned,
            tree,
        };
        // Without the record the next start reads the toolchain again; that is no reason to fail.
        let _written = write(&place, &record);
        Ok(record.tree)
    }
}

fn read(place: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(place).ok()?).ok()
}

fn write(place: &Path, record: &Record) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    let unique = place.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unique, serde_json::to_vec(record)?)?;
    fs::rename(unique, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_changes_the_tree_and_an_unchanged_one_is_taken_from_the_record() {
        let dir = tempfile::tempdir().unwrap();
        for d in ["bin", "lib"] {
            fs::create_dir(dir.path().join(d)).unwrap();
        }
        fs::write(dir.path().join("bin/rustc"), "1").unwrap();
        let toolchain = Toolchain {
            sysroot: dir.path().to_owned(),
            cargo: dir.path().join("bin/cargo"),
            rustc: dir.path().join("bin/rustc"),
            version: String::new(),
            host: String::new(),
        };
        let records = dir.path().join("records");
        let first = toolchain.trees(&records).unwrap();
        assert_eq!(fs::read_dir(&records).unwrap().count(), 2);
        assert_eq!(toolchain.trees(&records).unwrap(), first);
        fs::write(dir.path().join("bin/rustc"), "22").unwrap();
        let changed = toolchain.trees(&records).unwrap();
        assert_ne!(changed[0].tree.digest, first[0].tree.digest);
        assert_eq!(changed[1].tree.digest, first[1].tree.digest);
    }
}
