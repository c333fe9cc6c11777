//! Asking which blobs are there, many at once.

use std::io;

use vx_digest::Digest;

use crate::error::ReadError;
use crate::layout::{self, Kind};
use crate::parts::in_parts;
use crate::store::Store;

/// Fewer looks than this are not worth a thread.
const PER_THREAD: usize = 256;

impl Store {
    /// Whether the blob is present; what is reported as present is leased.
    ///
    /// Only the size is checked here.
    /// The empty blob is always present.
    pub fn contains(&self, digest: &Digest) -> Result<bool, ReadError> {
        if *digest == Digest::EMPTY {
            return Ok(true);
        }
        let claim = self.inner.claim(digest, Kind::Plain);
        claim
            .map(|claim| claim.is_some())
            .map_err(|source| ReadError::blob(digest, source))
    }

    /// Those of `digests` that are absent, in their order; the others are leased.
    pub fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, ReadError> {
        absent(digests, |digest| self.contains(digest))
    }

    /// As [`Store::missing`], for a caller who keeps every collection away meanwhile: nothing is locked for it.
    pub fn missing_unlocked(&self, digests: &[Digest]) -> Result<Vec<Digest>, ReadError> {
        let is_there = |digest: &Digest| -> io::Result<bool> {
            let name = layout::blob_name(digest, Kind::Plain);
            match self.inner.blobs.glance(&digest.hash, &name)? {
                None => Ok(*digest == Digest::EMPTY),
                Some(stat) if self.inner.needs_nothing(&stat, digest) => {
                    self.inner.leases.renew(digest);
                    Ok(true)
                }
                Some(_) => Ok(self.inner.claim(digest, Kind::Plain)?.is_some()),
            }
        };
        absent(digests, |digest| {
            is_there(digest).map_err(|source| ReadError::blob(digest, source))
        })
    }
}

/// Those of `digests` that are not there, in their order, looked for by several threads.
fn absent(
    digests: &[Digest],
    is_there: impl Fn(&Digest) -> Result<bool, ReadError> + Sync,
) -> Result<Vec<Digest>, ReadError> {
    let looks = in_parts(digests.to_vec(), PER_THREAD, |part| {
        let mut absent = Vec::new();
        for digest in part {
            if !is_there(&digest)? {
                absent.push(digest);
            }
        }
        Ok(absent)
    });
    let absent: Result<Vec<_>, _> = looks.into_iter().collect();
    Ok(absent?.concat())
}
