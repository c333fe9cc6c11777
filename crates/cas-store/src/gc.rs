//! Garbage collection: the least recently used goes until the rest fits.
//!
//! Nothing is removed that was used in this process within the lease time, nor what its trace on disk says was used by anybody within that time.
//! Under the shard's lock both are looked at again immediately before the name goes, so nothing is collected that somebody was just told is present.
//! Removing needs no space, so it works on a full disk.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Stat};
use vx_digest::Digest;

use crate::actions::read_at_most;
use crate::area::{self, Area, Found};
use crate::blob::{fits, is_regular, last_use, open_file_unnoticed, unix_seconds};
use crate::error::{ReadError, SweepError};
use crate::index::parse_entry;
use crate::layout::{self, Kind};
use crate::record;
use crate::store::{Inner, Store};

/// What to collect.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// The space that may stay in use, in bytes; each file counts as whole blocks of 4 KiB.
    pub max_bytes: u64,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs removed, each with its executable twin.
    pub blobs: u64,
    /// Action results removed.
    pub actions: u64,
    /// Index entries removed whose blob is gone.
    pub index_entries: u64,
    /// Bytes that blobs and action results took and no longer do.
    pub bytes_freed: u64,
    /// Bytes that blobs and action results still take; more than was allowed when the rest is leased.
    pub bytes_kept: u64,
    /// Abandoned temporary files removed.
    pub temporary: u64,
    /// Quarantined files removed.
    pub quarantined: u64,
}

/// What [`Store::sweep`] may remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepOptions {
    /// Stop as soon as no more space than this is in use, in bytes of whole blocks; `None` removes all that may go.
    pub max_bytes: Option<u64>,
    /// Leave alone what was used more recently, whoever used it; the trace of a use may be behind by the store's lease time.
    pub unused_for: Duration,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What [`Store::sweep`] removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs removed, each with its executable twin.
    pub blobs: u64,
    /// Bytes they took in whole blocks.
    pub bytes_freed: u64,
    /// Bytes that all other blobs take in whole blocks.
    pub bytes_kept: u64,
    /// Blobs that nobody wants to keep and that stay because they were used recently.
    pub in_use: u64,
}

const BLOCK: u64 = 4096;

/// A blob with its twin, or an action result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Entry {
    Action(Digest),
    Blob(Digest),
}

impl Entry {
    fn digest(&self) -> &Digest {
        match self {
            Entry::Action(digest) | Entry::Blob(digest) => digest,
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Entry::Action(key) => vec![layout::stem(key)],
            // The twin first: a twin alone is not a blob.
            Entry::Blob(digest) => [Kind::Executable, Kind::Plain]
                .map(|kind| layout::blob_name(digest, kind))
                .into(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    last_use: i64,
    charge: u64,
}

impl Store {
    /// Removes the least recently used blobs and action results until the rest fits, and cleans up.
    ///
    /// Abandoned temporary files, the quarantine, and index entries without blob go in any case.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport, SweepError> {
        self.inner.collect(options).map_err(|source| SweepError {
            task: "collect garbage of",
            path: self.inner.root.clone(),
            source,
        })
    }
}

impl Store {
    /// Removes the blobs for which `is_dead` holds and which nobody used recently, least recently used first.
    ///
    /// What else lies in the store stays; a full collection is [`Store::gc`].
    /// `is_dead` must stay true while this runs: nobody may begin to rely on such a blob without asking the store for it.
    pub fn sweep(
        &self,
        is_dead: &dyn Fn(&Digest) -> bool,
        options: &SweepOptions,
    ) -> Result<Swept, SweepError> {
        let inner = &self.inner;
        inner
            .sweep_dead(is_dead, options)
            .map_err(|source| SweepError {
                task: "collect garbage of",
                path: inner.root.clone(),
                source,
            })
    }

    /// Whether there is a file of the blob's name and size; asking is no use of it.
    pub fn has_file(&self, digest: &Digest) -> Result<bool, ReadError> {
        let look = || -> io::Result<bool> {
            let Some(shard) = self.inner.blobs.shard(&digest.hash)? else {
                return Ok(*digest == Digest::EMPTY);
            };
            let stat = area::stat(&shard, &layout::blob_name(digest, Kind::Plain))?;
            Ok(*digest == Digest::EMPTY || stat.is_some_and(|stat| fits(&stat, digest)))
        };
        look().map_err(|source| ReadError::blob(digest, source))
    }

    /// The content of a blob, checked, without counting as a use of it; `None` when it is absent or damaged.
    pub fn peek(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let Some(shard) = self.inner.blobs.shard(&digest.hash)? else {
                return Ok(None);
            };
            let name = layout::blob_name(digest, Kind::Plain);
            let Some(file) = open_file_unnoticed(&shard, &name)? else {
                return Ok(None);
            };
            let limit = usize::try_from(digest.size)
                .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            let bytes = read_at_most(file, limit)?;
            Ok(bytes.filter(|bytes| Digest::of(bytes) == *digest))
        };
        read().map_err(|source| ReadError::blob(digest, source))
    }

    /// Removes temporary files that dead processes left and everything in quarantine; returns how many files of each.
    pub fn clean(&self, dry_run: bool) -> Result<(u64, u64), SweepError> {
        let clean = || -> io::Result<(u64, u64)> {
            let temporary = self.inner.scratch.remove_dead(dry_run)?;
            Ok((temporary, self.inner.empty_quarantine(dry_run)?))
        };
        clean().map_err(|source| SweepError {
            task: "clean",
            path: self.inner.root.clone(),
            source,
        })
    }
}

impl Inner {
    fn sweep_dead(
        &self,
        is_dead: &dyn Fn(&Digest) -> bool,
        options: &SweepOptions,
    ) -> io::Result<Swept> {
        let mut order: Vec<(Entry, Usage)> = self.entries()?.into_iter().collect();
        order.retain(|(entry, _)| matches!(entry, Entry::Blob(_)));
        order.sort_unstable_by_key(|(entry, usage)| (usage.last_use, *entry));
        let mut swept = Swept {
            bytes_kept: order.iter().map(|(_, usage)| usage.charge).sum(),
            ..Swept::default()
        };
        for (entry, usage) in order {
            if options.max_bytes.is_some_and(|max| swept.bytes_kept <= max) {
                break;
            }
            if *entry.digest() == Digest::EMPTY || !is_dead(entry.digest()) {
                continue;
            }
            if self.remove(&entry, options.dry_run, options.unused_for)? {
                swept.blobs += 1;
                swept.bytes_freed += usage.charge;
                swept.bytes_kept -= usage.charge;
            } else {
                swept.in_use += 1;
            }
        }
        Ok(swept)
    }

    fn collect(&self, options: &GcOptions) -> io::Result<GcReport> {
        let mut report = GcReport {
            temporary: self.scratch.remove_dead(options.dry_run)?,
            quarantined: self.empty_quarantine(options.dry_run)?,
            ..GcReport::default()
        };
        let mut order: Vec<(Entry, Usage)> = self.entries()?.into_iter().collect();
        // The names break ties, so that two runs decide alike.
        order.sort_unstable_by_key(|(entry, usage)| (usage.last_use, *entry));
        report.bytes_kept = order.iter().map(|(_, usage)| usage.charge).sum();
        let mut gone = HashSet::new();
        // The trace is coarse, hence the second term.
        let protected = self.lease.saturating_add(self.granularity);
        for (entry, usage) in order {
            if report.bytes_kept <= options.max_bytes {
                break;
            }
            if entry == Entry::Blob(Digest::EMPTY)
                || !self.remove(&entry, options.dry_run, protected)?
            {
                continue;
            }
            report.bytes_kept -= usage.charge;
            report.bytes_freed += usage.charge;
            match entry {
                Entry::Action(_) => report.actions += 1,
                Entry::Blob(digest) => {
                    report.blobs += 1;
                    gone.insert(digest);
                }
            }
        }
        report.index_entries = self.sweep_index(&gone, options.dry_run)?;
        Ok(report)
    }

    fn entries(&self) -> io::Result<HashMap<Entry, Usage>> {
        let mut entries: HashMap<Entry, Usage> = HashMap::new();
        let mut add = |entry: Option<Entry>, found: &Found<'_>| {
            // Foreign names and damage are for `verify`.
            if let Some(entry) = entry
                && found.is_in_place(&entry.digest().hash)
                && is_regular(&found.stat)
            {
                let usage = entries.entry(entry).or_default();
                usage.last_use = usage.last_use.max(last_use(&found.stat));
                usage.charge += charge(found.size());
            }
            Ok(())
        };
        self.blobs.for_each_file(&mut |found| {
            let blob = layout::parse_blob_name(found.name);
            add(blob.map(|(digest, _)| Entry::Blob(digest)), found)
        })?;
        self.actions.for_each_file(&mut |found| {
            add(layout::parse_stem(found.name).map(Entry::Action), found)
        })?;
        Ok(entries)
    }

    /// Removes an entry unless it is in use; returns whether it is gone, or would be.
    fn remove(&self, entry: &Entry, dry_run: bool, unused_for: Duration) -> io::Result<bool> {
        let area = match entry {
            Entry::Action(_) => &self.actions,
            Entry::Blob(_) => &self.blobs,
        };
        let Some(shard) = area.shard(&entry.digest().hash)? else {
            return Ok(false);
        };
        area::lock(&shard, FlockOperation::LockExclusive)?;
        let names = entry.names();
        for name in &names {
            if let Some(stat) = area::stat(&shard, name)?
                && self.is_in_use(entry.digest(), &stat, unused_for)
            {
                return Ok(false);
            }
        }
        if !dry_run {
            for name in &names {
                area::unlink(&shard, name)?;
            }
        }
        Ok(true)
    }

    fn is_in_use(&self, digest: &Digest, stat: &Stat, unused_for: Duration) -> bool {
        let age = i128::from(unix_seconds(SystemTime::now())) - i128::from(last_use(stat));
        // A trace far in the future comes from a wrong clock.
        self.leases.holds(digest) || age.unsigned_abs() < u128::from(unused_for.as_secs())
    }

    /// Removes index entries that are damaged or whose blob is gone; a dry run asks `gone` as well.
    fn sweep_index(&self, gone: &HashSet<Digest>, dry_run: bool) -> io::Result<u64> {
        let mut removed = 0;
        self.index.for_each_file(&mut |found| {
            let Some(sha256) = layout::parse_stem(found.name) else {
                return Ok(());
            };
            let Some(shard) = self.index.shard(&sha256.hash)? else {
                return Ok(());
            };
            area::lock(&shard, FlockOperation::LockExclusive)?;
            // A writer that found the entry relies on it until its blob is stored.
            if !is_regular(&found.stat) || self.leases.holds(&sha256) {
                return Ok(());
            }
            let points_nowhere = match read_entry(&shard, found.name)? {
                Some(digest) if dry_run && gone.contains(&digest) => true,
                Some(digest) => !is_there(&self.blobs, &digest)?,
                None => true,
            };
            if points_nowhere {
                removed += 1;
                if !dry_run {
                    area::unlink(&shard, found.name)?;
                }
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn empty_quarantine(&self, dry_run: bool) -> io::Result<u64> {
        let names = area::names(&self.quarantine)?;
        if !dry_run {
            for name in &names {
                if area::unlink(&self.quarantine, name).is_err() {
                    // A directory that somebody had put in a blob's place.
                    std::fs::remove_dir_all(self.root.join(layout::QUARANTINE).join(name))?;
                }
            }
        }
        Ok(names.len() as u64)
    }
}

/// What a file of `size` bytes takes on disk, the same on every file system.
fn charge(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK)
}

fn read_entry(shard: &OwnedFd, name: &str) -> io::Result<Option<Digest>> {
    let Some(file) = open_file_unnoticed(shard, name)? else {
        return Ok(None);
    };
    let bytes = read_at_most(file, 1024)?;
    Ok(bytes
        .as_deref()
        .and_then(|bytes| parse_entry(record::decode(name, bytes)?)))
}

fn is_there(blobs: &Area, digest: &Digest) -> io::Result<bool> {
    match blobs.shard(&digest.hash)? {
        Some(shard) => Ok(area::stat(&shard, &layout::blob_name(digest, Kind::Plain))?.is_some()),
        None => Ok(false),
    }
}
