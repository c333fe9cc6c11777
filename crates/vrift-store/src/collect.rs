//! Removes blobs that no root keeps.
//!
//! The home's lock is held alone, so no root appears between mark and sweep; whoever stored blobs meanwhile and registers them afterwards is told which ones to store again.
//! A root that cannot be read stops everything: what it keeps is not known.

use std::collections::HashSet;
use std::time::Duration;

use cas_store::SweepOptions;
use rustix::fs::FlockOperation;
use vx_digest::Digest;

use crate::error::Error;
use crate::home::Home;

/// What to collect.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    /// Only what this user gave up and nobody else has; everything that nobody keeps when `None`.
    pub only: Option<u32>,
    /// Stop when the store takes no more than this, in bytes of whole blocks.
    pub max_bytes: Option<u64>,
    /// Leave alone what was used more recently.
    pub older_than: Duration,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Give up roots of this user whose directories are gone; only their owner can tell.
    pub stale_of: Option<u32>,
    /// In a dry run, see these roots of that user as given up, whether their directories are gone or not.
    pub without: Option<(u32, Vec<std::path::PathBuf>)>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes they took in whole blocks.
    pub bytes_freed: u64,
    /// Bytes that the others take.
    pub bytes_kept: u64,
    /// Blobs that nobody keeps and that were used too recently.
    pub in_use: u64,
    /// Directories that are gone and whose roots were given up.
    pub stale: Vec<std::path::PathBuf>,
    /// Temporary files of dead processes removed.
    pub temporary: u64,
    /// Quarantined files removed.
    pub quarantined: u64,
}

impl Home {
    /// Collects garbage.
    ///
    /// # Errors
    /// When a root cannot be read, or the store not be walked.
    pub fn collect(&self, options: &CollectOptions) -> Result<CollectReport, Error> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut report = CollectReport::default();
        let mut kept: HashSet<Digest> = HashSet::new();
        let mut given_up: HashSet<Digest> = HashSet::new();
        let mut of_others: HashSet<Digest> = HashSet::new();
        let mut released = Vec::new();
        for uid in self.roots.users()? {
            for root in self.roots.of(uid)? {
                let manifest = self.manifest(&root.request.manifest)?;
                let mut digests = manifest.digests();
                digests.insert(root.request.manifest);
                let without = options.dry_run
                    && options.without.as_ref().is_some_and(|(of, paths)| {
                        *of == uid && paths.contains(&root.request.path)
                    });
                if without {
                    given_up.extend(digests);
                } else if options.stale_of == Some(uid) && root.is_stale() {
                    if !options.dry_run {
                        // Only a collection of less than everything needs the note, and a full disk has no room for it.
                        if options.only.is_some() {
                            self.release_digests(uid, digests.iter().copied())?;
                        }
                        self.roots.remove(uid, &root.request.path)?;
                    }
                    given_up.extend(digests);
                    report.stale.push(root.request.path);
                } else {
                    kept.extend(digests);
                }
            }
            let digests = self.roots.released(uid)?;
            if options.only.is_none_or(|only| only == uid) {
                given_up.extend(&digests);
                released.push(uid);
            } else {
                of_others.extend(&digests);
            }
        }
        let is_dead = |digest: &Digest| match options.only {
            None => !kept.contains(digest),
            Some(_) => {
                given_up.contains(digest) && !kept.contains(digest) && !of_others.contains(digest)
            }
        };
        let sweep = SweepOptions {
            max_bytes: options.max_bytes,
            unused_for: options.older_than,
            dry_run: options.dry_run,
        };
        let swept = self.store.sweep(&is_dead, &sweep)?;
        report.blobs = swept.blobs;
        report.bytes_freed = swept.bytes_freed;
        report.bytes_kept = swept.bytes_kept;
        report.in_use = swept.in_use;
        if options.only.is_none() {
            (report.temporary, report.quarantined) = self.store.clean(options.dry_run)?;
        }
        if !options.dry_run {
            for uid in released {
                self.prune_released(uid, &kept)?;
            }
        }
        Ok(report)
    }

    /// Forgets what is gone or kept again.
    fn prune_released(&self, uid: u32, kept: &HashSet<Digest>) -> Result<(), Error> {
        let mut released = self.roots.released(uid)?;
        let candidates: Vec<Digest> = released.drain().filter(|d| !kept.contains(d)).collect();
        for digest in candidates {
            if self.store.has_file(&digest)? {
                released.insert(digest);
            }
        }
        self.roots.set_released(uid, &released)
    }
}
