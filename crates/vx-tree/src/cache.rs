//! Remembers the digests of files by their stamps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use vx_proto::Digest;

use crate::scan::{Kind, Scan, Stamp};

/// Digests of files that were read, valid while their stamps stay the same.
///
/// A file that changed less than `RACY_NS` before it was read is not remembered: a second write within the same clock tick would leave its stamp as it was (git calls such entries racy).
#[derive(Debug, Default)]
pub struct DigestCache {
    known: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
}

/// Age below which a stamp is not trusted, in nanoseconds; file systems stamp with the tick of the kernel, 10 ms at the coarsest.
const RACY_NS: i64 = 50_000_000;

impl DigestCache {
    /// The digest of `path`, if it was read with the same stamp before.
    pub fn get(&self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(path)
            .filter(|(then, _)| then == stamp)
            .map(|(_, digest)| *digest)
    }

    /// Remembers that `path`, with `stamp` taken before it was read, has `digest`.
    pub fn insert(&self, path: PathBuf, stamp: Stamp, digest: Digest) {
        if is_racy(&stamp) {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(path, (stamp, digest));
    }

    /// Forgets every file below `root`.
    pub fn forget(&self, root: &Path) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|path, _| !path.starts_with(root));
    }
}

impl Scan {
    /// Whether a file of the listing changed so lately that its stamp may stay the same at the next change.
    pub(crate) fn is_racy(&self) -> bool {
        let stamps = self.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::File { stamp, .. } => Some(stamp),
            _ => None,
        });
        stamps.into_iter().any(is_racy)
    }
}

fn is_racy(stamp: &Stamp) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    now.saturating_sub(stamp.mtime_ns.max(stamp.ctime_ns)) < RACY_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ns: i64) -> Stamp {
        Stamp {
            mtime_ns: ns,
            ctime_ns: ns,
            size: 1,
            inode: 7,
        }
    }

    #[test]
    fn an_old_stamp_is_remembered_and_another_stamp_is_not_found() {
        let cache = DigestCache::default();
        cache.insert("/a".into(), stamp(5), Digest::of(b"a"));
        assert_eq!(
            cache.get(Path::new("/a"), &stamp(5)),
            Some(Digest::of(b"a"))
        );
        assert_eq!(cache.get(Path::new("/a"), &stamp(6)), None);
    }

    #[test]
    fn a_file_that_changed_just_now_is_read_again_next_time() {
        let cache = DigestCache::default();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as i64;
        cache.insert("/a".into(), stamp(now), Digest::of(b"a"));
        assert_eq!(cache.get(Path::new("/a"), &stamp(now)), None);
    }
}
