//! The part of an installation that blocks: unpacks aside, checks, and moves into place.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vx_download::Entry;

use super::error::DistError;
use super::install::{Event, Tell};
use super::manifest::Archive;
use super::record::{self, Receipt, Record};
use super::store::{self, Lock, Store};
use super::unpack::unpack;
use crate::find::Toolchain;

/// The part of an installation that blocks.
pub(super) struct Work {
    pub(super) store: Store,
    pub(super) lock: Arc<Lock>,
    pub(super) name: String,
    pub(super) server: String,
    pub(super) record: Record,
    pub(super) archives: Vec<Archive>,
    pub(super) rustc: Option<String>,
    pub(super) cargo: Option<String>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) tell: Tell,
}

impl Work {
    /// Unpacks aside, checks, and moves into place. Returns the bytes that were unpacked.
    pub(super) fn run(&self, entries: &[Entry]) -> Result<u64, DistError> {
        let staging = self.store.staging(&self.record.id);
        let installed = self.aside(&staging, entries);
        if installed.is_err() {
            // A second failure must not hide the first one; the next installation removes what is left.
            let _left = store::remove_tree(&staging);
        }
        installed
    }

    fn aside(&self, staging: &Path, entries: &[Entry]) -> Result<u64, DistError> {
        store::remove_tree(staging)?;
        fs::create_dir_all(staging).map_err(DistError::store("create", staging))?;
        let mut bytes = 0;
        for (archive, entry) in self.archives.iter().zip(entries) {
            let file = archive.file_name();
            (self.tell)(Event::Unpacking {
                file: file.to_owned(),
            });
            bytes += unpack(entry.file(), file, staging, &self.cancelled).map_err(|source| {
                DistError::Unpack {
                    archive: archive.url.clone(),
                    source,
                }
            })?;
        }
        let (toolchain, cargo) = self.checked(staging)?;
        let sysroot = self.store.sysroot(&self.record.id);
        // What stands there has no receipt: somebody was killed, or it was found to be damaged.
        store::remove_tree(&sysroot)?;
        fs::rename(staging, &sysroot).map_err(DistError::store("rename", staging))?;
        let mut receipt = Receipt {
            version: toolchain.version,
            cargo,
            host: toolchain.host,
            archives: self
                .archives
                .iter()
                .map(|a| (a.package.clone(), a.target.clone(), a.digest.to_string()))
                .collect(),
            trees: Vec::new(),
            bytes,
        };
        let trees = receipt.toolchain(&sysroot).trees(&self.store.trees())?;
        receipt.trees = record::names_and_digests(&trees);
        self.store
            .write_receipt(&self.lock, &self.record.id, &receipt)?;
        Ok(bytes)
    }

    /// The programs that were unpacked must run, and be those of the manifest.
    fn checked(&self, staging: &Path) -> Result<(Toolchain, String), DistError> {
        let broken = |source| DistError::Broken {
            name: self.name.clone(),
            server: self.server.clone(),
            source,
        };
        let toolchain = Toolchain::at(staging).map_err(broken)?;
        let cargo = toolchain.cargo_release().map_err(broken)?;
        for (expected, found) in [(&self.rustc, toolchain.release()), (&self.cargo, &cargo)] {
            if let Some(expected) = expected
                && !is_version(found, expected)
            {
                return Err(DistError::WrongVersion {
                    name: self.name.clone(),
                    server: self.server.clone(),
                    expected: expected.clone(),
                    found: found.to_owned(),
                });
            }
        }
        if toolchain.host != self.record.host {
            return Err(DistError::WrongVersion {
                name: self.name.clone(),
                server: self.server.clone(),
                expected: format!("host: {}", self.record.host),
                found: format!("host: {}", toolchain.host),
            });
        }
        Ok((toolchain, cargo))
    }
}

/// Whether a program that prints `found` is the one that a manifest calls `expected`.
///
/// Manifests count cargo as 0.x, so it is the commit that tells: `0.91.0 (840b83a10 2025-07-30)` is `cargo 1.90.0 (840b83a10 2025-07-30)`.
fn is_version(found: &str, expected: &str) -> bool {
    match expected.split_once('(') {
        Some((_, commit)) => found.ends_with(&format!("({commit}")),
        None => found.split(' ').nth(1) == Some(expected.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_commit_where_there_is_one() {
        let cargo = "cargo 1.90.0 (840b83a10 2025-07-30)";
        assert!(is_version(cargo, "0.91.0 (840b83a10 2025-07-30)"));
        assert!(!is_version(cargo, "0.91.0 (840b83a11 2025-07-30)"));
        assert!(is_version(cargo, "1.90.0"));
        assert!(!is_version(cargo, "1.90"));
    }
}
