//! Action results: small records under the digest of an action, of which the first one stays.
//!
//! It knows nothing of what a result says; whether its outputs are still there is the caller's question, and [`ActionResults::forget`] its answer.

use std::io::{self, Read, Write};

use rustix::fs::{FlockOperation, Stat};
use vx_digest::Digest;

use crate::area::{self, Area};
use crate::blob::{ATTEMPTS, is_regular, open_file};
use crate::error::{PutError, ReadError};
use crate::layout;
use crate::platform;
use crate::record;
use crate::scratch::Published;
use crate::store::{Inner, Store};

/// The action results of a store.
#[derive(Clone, Copy, Debug)]
pub struct ActionResults<'a> {
    store: &'a Store,
}

impl Store {
    /// The action results of this store.
    pub fn actions(&self) -> ActionResults<'_> {
        ActionResults { store: self }
    }
}

impl ActionResults<'_> {
    /// The result stored for an action; a damaged one is absent.
    pub fn get(&self, key: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        let inner = &self.store.inner;
        read_record(inner, &inner.actions, key, record::MAX_PAYLOAD)
            .map_err(|source| ReadError::action(key, source))
    }

    /// Stores a result unless there is one, and returns the one that is there now.
    pub fn put_first(&self, key: &Digest, result: &[u8]) -> Result<Vec<u8>, PutError> {
        if result.len() > record::MAX_PAYLOAD {
            return Err(PutError::TooLarge {
                key: *key,
                size: result.len() as u64,
                limit: record::MAX_PAYLOAD as u64,
            });
        }
        let needed = (record::OVERHEAD + result.len()) as u64;
        self.try_put_first(key, result)
            .map_err(|source| PutError::storing(format!("action result `{key}`"), needed, source))
    }

    fn try_put_first(&self, key: &Digest, result: &[u8]) -> io::Result<Vec<u8>> {
        let inner = &self.store.inner;
        if let Some(winner) = read_record(inner, &inner.actions, key, record::MAX_PAYLOAD)? {
            return Ok(winner);
        }
        let sync = self.store.syncs_each();
        let name = layout::stem(key);
        let mut temp = inner.scratch.create(0o444)?;
        temp.file()?.write_all(&record::encode(&name, result))?;
        temp.seal(sync)?;
        for _ in 0..ATTEMPTS {
            let shard = inner.actions.shard_or_create(&key.hash)?;
            inner.leases.renew(key);
            if temp.publish(&shard.dir, &name)? == Published::New {
                if sync {
                    platform::sync_directory(&shard.dir)?;
                    if shard.created {
                        platform::sync_file_system(&inner.root_dir)?;
                    }
                }
                return Ok(result.to_vec());
            }
            if let Some(winner) = read_record(inner, &inner.actions, key, record::MAX_PAYLOAD)? {
                return Ok(winner);
            }
        }
        Err(io::Error::other(
            "the name is taken by something that cannot be moved away",
        ))
    }

    /// Removes the result of an action if it still is `result`; returns whether it was.
    ///
    /// For a result whose outputs are gone: it would keep better ones out.
    pub fn forget(&self, key: &Digest, result: &[u8]) -> Result<bool, ReadError> {
        let forget = || -> io::Result<bool> {
            let Some(shard) = self.store.inner.actions.shard(&key.hash)? else {
                return Ok(false);
            };
            area::lock(&shard, FlockOperation::LockExclusive)?;
            let name = layout::stem(key);
            let expected = record::encode(&name, result);
            let Some(file) = open_file(&shard, &name, rustix::fs::OFlags::empty())? else {
                return Ok(false);
            };
            let same = read_at_most(file, expected.len())? == Some(expected);
            if same {
                area::unlink(&shard, &name)?;
            }
            Ok(same)
        };
        forget().map_err(|source| ReadError::action(key, source))
    }
}

/// The payload of a record, noting the use; one that is damaged is quarantined and absent.
pub(crate) fn read_record(
    inner: &Inner,
    area: &Area,
    key: &Digest,
    limit: usize,
) -> io::Result<Option<Vec<u8>>> {
    let name = layout::stem(key);
    for _ in 0..ATTEMPTS {
        let Some(shard) = area.shard(&key.hash)? else {
            return Ok(None);
        };
        area::lock(&shard, FlockOperation::LockShared)?;
        let Some(found) = area::stat(&shard, &name)? else {
            return Ok(None);
        };
        if is_regular(&found)
            && let Some(file) = open_file(&shard, &name, rustix::fs::OFlags::empty())?
            && let Some(bytes) = read_at_most(file, record::OVERHEAD + limit)?
            && let Some(payload) = record::decode(&name, &bytes)
        {
            inner.note_use(&shard, &name, &found, key, 0o444);
            return Ok(Some(payload.to_vec()));
        }
        drop(shard);
        let same = |stat: &Stat| (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino);
        inner.quarantine_if(area, &key.hash, &name, &same)?;
    }
    Ok(None)
}

/// A file's bytes, or `None` when there are more than `limit`.
pub(crate) fn read_at_most(file: std::fs::File, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}
