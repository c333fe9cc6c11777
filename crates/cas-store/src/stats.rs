//! How much is in a store, and what this process did to it.

use std::io;
use std::sync::atomic::Ordering;

use crate::area;
use crate::error::SweepError;
use crate::layout::{self, Kind};
use crate::store::{Inner, Store};

/// Sizes counted on disk now, and events of this process since it opened the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Executable twins.
    pub executables: u64,
    /// Bytes of the twins.
    pub executable_bytes: u64,
    /// Action results.
    pub actions: u64,
    /// Entries of the SHA-256 index.
    pub index_entries: u64,
    /// Files in quarantine.
    pub quarantine: u64,
    /// Files being written, by anybody.
    pub temporary: u64,
    /// Blobs this process stored.
    pub stored: u64,
    /// Blobs it was given that were there already.
    pub known: u64,
    /// Files it quarantined.
    pub quarantined: u64,
    /// Bytes it hashed to check what it read.
    pub hashed_bytes: u64,
}

impl Store {
    /// Walks the store and counts.
    pub fn stats(&self) -> Result<Stats, SweepError> {
        self.inner.measure().map_err(|source| SweepError {
            task: "measure",
            path: self.inner.root.clone(),
            source,
        })
    }
}

impl Inner {
    fn measure(&self) -> io::Result<Stats> {
        let counters = &self.counters;
        let mut stats = Stats {
            stored: counters.stored.load(Ordering::Relaxed),
            known: counters.known.load(Ordering::Relaxed),
            quarantined: counters.quarantined.load(Ordering::Relaxed),
            hashed_bytes: counters.hashed.load(Ordering::Relaxed),
            temporary: self.scratch.count()?,
            quarantine: area::names(&self.quarantine)?.len() as u64,
            ..Stats::default()
        };
        self.blobs.for_each_file(&mut |found| {
            match layout::parse_blob_name(found.name) {
                Some((_, Kind::Plain)) => {
                    stats.blobs += 1;
                    stats.bytes += found.size();
                }
                Some((_, Kind::Executable)) => {
                    stats.executables += 1;
                    stats.executable_bytes += found.size();
                }
                None => {}
            }
            Ok(())
        })?;
        let count = |area: &area::Area, total: &mut u64| {
            area.for_each_file(&mut |found| {
                *total += u64::from(layout::parse_stem(found.name).is_some());
                Ok(())
            })
        };
        count(&self.actions, &mut stats.actions)?;
        count(&self.index, &mut stats.index_entries)?;
        Ok(stats)
    }
}
