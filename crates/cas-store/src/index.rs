//! The second name of blobs that came with a SHA-256 digest.
//!
//! An entry is a record whose payload is the blob's `<hash>_<size>`.
//! It promises nothing about the blob, which may be collected before it; so every lookup asks for the blob as well.

use std::io::{self, Write};
use std::sync::OnceLock;

use vx_digest::{Digest, DigestFunction};

use crate::actions::read_record;
use crate::blob::ATTEMPTS;
use crate::error::{PutError, ReadError};
use crate::layout;
use crate::platform;
use crate::record;
use crate::scratch::{Published, Temp};
use crate::store::{Inner, Store};

/// An entry that is written but not visible yet.
#[derive(Debug)]
pub(crate) struct IndexEntry {
    sha256: Digest,
    temp: Temp,
}

/// Entries hold a blob's name, which has at most 85 bytes.
const MAX_ENTRY: usize = 256;

impl Store {
    /// The BLAKE3 digest of the blob with this SHA-256 hash and size, or `None` when it is absent or never came with that name.
    pub fn by_sha256(&self, hash: &[u8; 32], size: u64) -> Result<Option<Digest>, ReadError> {
        let sha256 = Digest { hash: *hash, size };
        if sha256 == *empty_sha256() {
            return Ok(Some(Digest::EMPTY));
        }
        let found = self.inner.read_index(&sha256).map_err(|source| ReadError {
            subject: format!("index entry `{sha256}`"),
            source,
        })?;
        match found {
            Some(digest) if self.contains(&digest)? => Ok(Some(digest)),
            _ => Ok(None),
        }
    }

    /// Writes an entry to `tmp/`, or nothing when there is one already.
    pub(crate) fn stage_index(
        &self,
        sha256: &Digest,
        digest: &Digest,
        sync: bool,
    ) -> Result<Option<IndexEntry>, PutError> {
        let stage = || -> io::Result<Option<IndexEntry>> {
            if self.inner.read_index(sha256)?.as_ref() == Some(digest) {
                return Ok(None);
            }
            let payload = layout::stem(digest);
            let mut temp = self.inner.scratch.create(0o444)?;
            temp.file()?
                .write_all(&record::encode(&layout::stem(sha256), payload.as_bytes()))?;
            temp.seal(sync)?;
            Ok(Some(IndexEntry {
                sha256: *sha256,
                temp,
            }))
        };
        stage().map_err(|source| {
            PutError::storing(format!("index entry `{sha256}`"), MAX_ENTRY as u64, source)
        })
    }
}

impl Inner {
    /// What the entry says, if there is one and it is whole.
    pub(crate) fn read_index(&self, sha256: &Digest) -> io::Result<Option<Digest>> {
        let payload = read_record(self, &self.index, sha256, MAX_ENTRY)?;
        Ok(payload.and_then(|payload| parse_entry(&payload)))
    }

    pub(crate) fn publish_index(&self, entry: IndexEntry, sync: bool) -> io::Result<()> {
        let IndexEntry { sha256, mut temp } = entry;
        for _ in 0..ATTEMPTS {
            let shard = self.index.shard_or_create(&sha256.hash)?;
            let published = temp.publish(&shard.dir, &layout::stem(&sha256))?;
            // Reading quarantines what is damaged; what is whole says the same as ours.
            if published == Published::New || self.read_index(&sha256)?.is_some() {
                if sync {
                    platform::sync_directory(&shard.dir)?;
                    if shard.created {
                        platform::sync_file_system(&self.root_dir)?;
                    }
                }
                return Ok(());
            }
        }
        Err(io::Error::other(
            "the name is taken by something that cannot be moved away",
        ))
    }
}

/// The digest an index entry's payload names.
pub(crate) fn parse_entry(payload: &[u8]) -> Option<Digest> {
    layout::parse_stem(std::str::from_utf8(payload).ok()?)
}

fn empty_sha256() -> &'static Digest {
    static EMPTY: OnceLock<Digest> = OnceLock::new();
    EMPTY.get_or_init(|| DigestFunction::Sha256.digest(b""))
}
