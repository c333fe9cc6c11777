//! Looking at everything: hash all content, quarantine what is damaged or has no business here.
//!
//! It runs beside readers and writers, and does not count as a use.

use std::io;

use rustix::fs::{FlockOperation, Stat};

use crate::actions::read_at_most;
use crate::area::{self, Area, Found};
use crate::blob::{fits, hash_file, is_regular, open_file_unnoticed};
use crate::error::SweepError;
use crate::index::parse_entry;
use crate::layout;
use crate::memory::Stamp;
use crate::record;
use crate::store::{Inner, Store};

/// Names kept in a report; all are counted.
const MAX_NAMES: usize = 1000;

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs whose content is right, executable twins included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Action results that are whole.
    pub actions: u64,
    /// Entries of the SHA-256 index that are whole.
    pub index_entries: u64,
    /// What was quarantined.
    pub quarantined: u64,
    /// Its names, relative to the store's root; at most a thousand.
    pub names: Vec<String>,
}

impl VerifyReport {
    fn note(&mut self, name: String) {
        self.quarantined += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(name);
        }
    }
}

impl Store {
    /// Hashes everything in the store and quarantines what is damaged.
    pub fn verify(&self) -> Result<VerifyReport, SweepError> {
        let inner = &self.inner;
        let mut report = VerifyReport::default();
        let mut walk = || -> io::Result<()> {
            inner
                .blobs
                .for_each_file(&mut |found| inner.verify_blob(found, &mut report))?;
            let blobs = layout::blobs(inner.blobs.levels());
            inner.expel_strays(blobs, &inner.blobs, &mut report)?;
            let is_entry = |payload: &[u8]| parse_entry(payload).is_some();
            report.index_entries =
                inner.verify_records(layout::INDEX, &inner.index, &is_entry, &mut report)?;
            report.actions =
                inner.verify_records(layout::ACTIONS, &inner.actions, &|_| true, &mut report)?;
            Ok(())
        };
        walk().map_err(|source| SweepError {
            task: "verify",
            path: self.inner.root.clone(),
            source,
        })?;
        Ok(report)
    }
}

impl Inner {
    fn verify_blob(&self, found: &Found<'_>, report: &mut VerifyReport) -> io::Result<()> {
        let named = layout::parse_blob_name(found.name)
            .filter(|(digest, _)| found.is_in_place(&digest.hash));
        if let Some((digest, kind)) = named
            && fits(&found.stat, &digest)
        {
            let Some(file) = open_file_unnoticed(found.shard, found.name)? else {
                return Ok(());
            };
            if hash_file(&file)? == digest {
                self.verified.insert(&digest, kind, Stamp::of(&found.stat));
                report.blobs += 1;
                report.bytes += digest.size;
                return Ok(());
            }
        }
        self.expel(layout::blobs(self.blobs.levels()), found, report)
    }

    /// Returns the number of whole records.
    fn verify_records(
        &self,
        prefix: &str,
        area: &Area,
        is_meaningful: &dyn Fn(&[u8]) -> bool,
        report: &mut VerifyReport,
    ) -> io::Result<u64> {
        let mut whole = 0;
        area.for_each_file(&mut |found| {
            let in_place =
                layout::parse_stem(found.name).is_some_and(|key| found.is_in_place(&key.hash));
            if in_place && is_regular(&found.stat) {
                let Some(file) = open_file_unnoticed(found.shard, found.name)? else {
                    return Ok(());
                };
                let bytes = read_at_most(file, record::OVERHEAD + record::MAX_PAYLOAD)?;
                let payload = bytes
                    .as_deref()
                    .and_then(|bytes| record::decode(found.name, bytes));
                if payload.is_some_and(is_meaningful) {
                    whole += 1;
                    return Ok(());
                }
            }
            self.expel(prefix, found, report)
        })?;
        self.expel_strays(prefix, area, report)?;
        Ok(whole)
    }

    /// Quarantines what stands between the shards: the store puts nothing there, and a file or link in the place of a shard keeps all of its blobs out.
    fn expel_strays(&self, prefix: &str, area: &Area, report: &mut VerifyReport) -> io::Result<()> {
        area.for_each_stray(&mut |found| self.expel(prefix, found, report))
    }

    /// Quarantines what was found, unless another inode has the name by now.
    fn expel(&self, area: &str, found: &Found<'_>, report: &mut VerifyReport) -> io::Result<()> {
        area::lock(found.shard, FlockOperation::LockExclusive)?;
        let same =
            |stat: &Stat| (stat.st_dev, stat.st_ino) == (found.stat.st_dev, found.stat.st_ino);
        let result = match area::stat(found.shard, found.name)? {
            Some(stat) if same(&stat) => {
                report.note(format!("{area}/{}", found.path()));
                self.quarantine_locked(found.shard, found.name)
            }
            _ => Ok(()),
        };
        // The walk keeps the descriptor, and with it the lock, until it leaves the shard.
        area::lock(found.shard, FlockOperation::Unlock)?;
        result
    }
}
