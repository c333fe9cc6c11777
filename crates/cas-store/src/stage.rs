//! The way of a blob into the store: staged in `tmp/`, hashed, sealed, then given its name.
//!
//! Staging and publishing are two steps so that a group can sync once in between.
//! Whoever finds the name taken checks what is there and, when it is whole, has nothing left to do.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use rustix::fs::Stat;
use vx_digest::{Digest, DigestFunction};

use crate::area::Cursor;
use crate::blob::ATTEMPTS;
use crate::error::PutError;
use crate::index::IndexEntry;
use crate::layout::{self, Kind};
use crate::memory::Stamp;
use crate::platform;
use crate::scratch::{Published, Temp};
use crate::store::{Durability, Inner, Store};

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its BLAKE3 digest.
    pub digest: Digest,
    /// Whether it was absent before.
    pub new: bool,
}

/// A blob that is written and checked but not yet visible; dropped, it is forgotten.
#[derive(Debug)]
pub struct Pending {
    pub(crate) digest: Digest,
    /// `None` when the store had the blob already.
    pub(crate) temp: Option<Temp>,
    pub(crate) index: Option<IndexEntry>,
}

impl Pending {
    /// The blob's BLAKE3 digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Store {
    /// Stores `bytes`, which must be those of `digest`.
    pub fn put_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<Stored, PutError> {
        let pending = self.stage_bytes(digest, bytes, self.syncs_each())?;
        self.publish(pending)
    }

    /// Stores `bytes`, which must be those of the SHA-256 digest `sha256`, under both names.
    pub fn put_bytes_sha256(&self, sha256: &Digest, bytes: &[u8]) -> Result<Stored, PutError> {
        let pending = self.stage_bytes_sha256(sha256, bytes, self.syncs_each())?;
        self.publish(pending)
    }

    /// Whether single blobs are synced one by one.
    pub(crate) fn syncs_each(&self) -> bool {
        self.inner.durability == Durability::Grouped
    }

    pub(crate) fn stage_bytes(
        &self,
        digest: &Digest,
        bytes: &[u8],
        sync: bool,
    ) -> Result<Pending, PutError> {
        check(digest, bytes.len() as u64, || Digest::of(bytes))?;
        self.stage_checked(*digest, bytes, sync)
    }

    pub(crate) fn stage_bytes_sha256(
        &self,
        sha256: &Digest,
        bytes: &[u8],
        sync: bool,
    ) -> Result<Pending, PutError> {
        check(sha256, bytes.len() as u64, || {
            DigestFunction::Sha256.digest(bytes)
        })?;
        let mut pending = self.stage_checked(Digest::of(bytes), bytes, sync)?;
        pending.index = self.stage_index(sha256, &pending.digest, sync)?;
        Ok(pending)
    }

    /// `digest` is known to be that of `bytes`.
    pub(crate) fn stage_checked(
        &self,
        digest: Digest,
        bytes: &[u8],
        sync: bool,
    ) -> Result<Pending, PutError> {
        let failed = |source| PutError::storing(format!("blob `{digest}`"), digest.size, source);
        let name = layout::blob_name(&digest, Kind::Plain);
        let glance = self.inner.blobs.glance(&digest.hash, &name);
        if !matches!(glance, Ok(None))
            && self
                .inner
                .claim_verified(&digest, Kind::Plain)
                .map_err(failed)?
                .is_some()
        {
            return Ok(Pending {
                digest,
                temp: None,
                index: None,
            });
        }
        let mut temp = self
            .inner
            .scratch
            .create(Kind::Plain.mode())
            .map_err(failed)?;
        let write = temp.file().and_then(|file| file.write_all(bytes));
        write.and_then(|()| temp.seal(sync)).map_err(failed)?;
        Ok(Pending {
            digest,
            temp: Some(temp),
            index: None,
        })
    }

    /// Makes one staged blob visible, durably if the store is.
    pub(crate) fn publish(&self, pending: Pending) -> Result<Stored, PutError> {
        let (digest, size) = (pending.digest, pending.digest.size);
        self.inner
            .publish(pending, self.syncs_each())
            .map_err(|source| PutError::storing(format!("blob `{digest}`"), size, source))
    }

    /// Makes the file of the empty blob, should anybody want to see it.
    pub(crate) fn ensure_empty(&self, digest: &Digest) -> io::Result<()> {
        if *digest == Digest::EMPTY && self.inner.claim(digest, Kind::Plain)?.is_none() {
            let mut temp = self.inner.scratch.create(Kind::Plain.mode())?;
            temp.seal(self.syncs_each())?;
            let pending = Pending {
                digest: *digest,
                temp: Some(temp),
                index: None,
            };
            self.inner.publish(pending, self.syncs_each())?;
        }
        Ok(())
    }
}

impl Inner {
    /// Gives a staged blob its name; with `sync` the directory entry is on disk afterwards.
    pub(crate) fn publish(&self, pending: Pending, sync: bool) -> io::Result<Stored> {
        let Pending {
            digest,
            temp,
            index,
        } = pending;
        let new = match temp {
            Some(temp) => self.publish_blob(&digest, Kind::Plain, temp, sync)?,
            None => {
                // Who stored it may not have synced its name yet.
                if sync && let Some(shard) = self.blobs.shard(&digest.hash)? {
                    platform::sync_directory(&shard)?;
                }
                false
            }
        };
        self.stored(digest, new, index, sync)
    }

    /// As [`Inner::publish`] without a sync, in a shard that is near the one before.
    pub(crate) fn publish_next(
        &self,
        cursor: &mut Cursor<'_>,
        pending: Pending,
    ) -> io::Result<Stored> {
        let Pending {
            digest,
            temp,
            index,
        } = pending;
        let Some(mut temp) = temp else {
            return self.stored(digest, false, index, false);
        };
        let stat = temp.stat()?;
        self.leases.renew(&digest);
        let name = layout::blob_name(&digest, Kind::Plain);
        let published =
            cursor.in_shard(&digest.hash, &name, |dir, name| temp.publish(dir, name))?;
        let new = match published {
            Published::New => {
                self.remember(&digest, Kind::Plain, &stat);
                true
            }
            Published::Exists => self.publish_blob(&digest, Kind::Plain, temp, false)?,
        };
        self.stored(digest, new, index, false)
    }

    /// The blob is visible; its second name follows.
    fn stored(
        &self,
        digest: Digest,
        new: bool,
        index: Option<IndexEntry>,
        sync: bool,
    ) -> io::Result<Stored> {
        if let Some(entry) = index {
            self.publish_index(entry, sync)?;
        }
        let counter = if new {
            &self.counters.stored
        } else {
            &self.counters.known
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(Stored { digest, new })
    }

    /// Returns whether the name was free.
    pub(crate) fn publish_blob(
        &self,
        digest: &Digest,
        kind: Kind,
        mut temp: Temp,
        sync: bool,
    ) -> io::Result<bool> {
        let name = layout::blob_name(digest, kind);
        let stat = temp.stat()?;
        for _ in 0..ATTEMPTS {
            let shard = self.blobs.shard_or_create(&digest.hash)?;
            self.leases.renew(digest);
            let published = temp.publish(&shard.dir, &name)?;
            let there = published == Published::New || self.claim_verified(digest, kind)?.is_some();
            if !there {
                // What had the name was damaged and is quarantined now, or was just collected.
                continue;
            }
            if sync {
                platform::sync_directory(&shard.dir)?;
                if shard.created {
                    platform::sync_file_system(&self.root_dir)?;
                }
            }
            if published == Published::New {
                self.remember(digest, kind, &stat);
            }
            return Ok(published == Published::New);
        }
        Err(io::Error::other(
            "the name is taken by something that cannot be moved away",
        ))
    }

    /// What this process has written and hashed itself needs no second look.
    fn remember(&self, digest: &Digest, kind: Kind, stat: &Stat) {
        self.verified.insert(digest, kind, Stamp::of(stat));
    }
}

/// Compares what came with what was promised; the hash is only computed when the size is right.
pub(crate) fn check(
    expected: &Digest,
    size: u64,
    hash: impl FnOnce() -> Digest,
) -> Result<(), PutError> {
    if size != expected.size {
        return Err(PutError::SizeMismatch {
            expected: *expected,
            actual: size,
        });
    }
    let actual = hash();
    if actual != *expected {
        return Err(PutError::HashMismatch {
            expected: *expected,
            actual,
        });
    }
    Ok(())
}
