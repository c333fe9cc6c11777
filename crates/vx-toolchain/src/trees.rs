//! A toolchain as trees: hashed once, recognised by stamps afterwards.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vx_tree::{Records, RecordsError, Rules, SourceTree};

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
#[error("cannot use the toolchain at `{}`", sysroot.display())]
pub struct TreesError {
    sysroot: PathBuf,
    source: RecordsError,
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

    /// The trees of the toolchain; content is read only when a stamp differs from what `records` has.
    ///
    /// # Errors
    ///
    /// Files of the toolchain that cannot be listed or read.
    pub fn trees(&self, records: &Records) -> Result<Vec<ToolchainTree>, TreesError> {
        self.directories()
            .into_iter()
            .zip(["bin", "lib"])
            .zip(self.rules())
            .map(|((directory, name), rules)| {
                let recorded = records.tree(&directory, &rules);
                Ok(ToolchainTree {
                    name: name.to_owned(),
                    tree: recorded.map_err(|source| self.fault(source))?.tree,
                })
            })
            .collect()
    }

    fn fault(&self, source: RecordsError) -> TreesError {
        TreesError {
            sysroot: self.sysroot.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_changed_file_changes_its_tree_and_no_other() {
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
        let records = Records::new(dir.path().join("records"));
        let first = toolchain.trees(&records).unwrap();
        assert_eq!(toolchain.trees(&records).unwrap(), first);
        fs::write(dir.path().join("bin/rustc"), "22").unwrap();
        let changed = toolchain.trees(&records).unwrap();
        assert_ne!(changed[0].tree.digest, first[0].tree.digest);
        assert_eq!(changed[1].tree.digest, first[1].tree.digest);
    }
}
