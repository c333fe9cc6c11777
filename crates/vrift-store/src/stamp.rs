//! The state of a file without its content, and which digest each known state has.
//!
//! A file with the stamp of the last time has the content of the last time, so its content is not read again.
//! That holds only if any later change had moved the stamp: a state that is as young as the clock is coarse is not remembered.

use std::collections::HashMap;
use std::time::Duration;

use rustix::fs::Stat;
use vx_digest::Digest;

use crate::manifest::{MAX_ENTRIES, MAX_PATH, Time};

const MAGIC: &[u8; 8] = b"vrifts1\n";
/// Times of most file systems move at least every 10 ms.
const COARSE: Duration = Duration::from_millis(50);
/// Those of some old ones every two seconds; their times have no nanoseconds.
const VERY_COARSE: Duration = Duration::from_secs(3);

/// Everything that changes when a file's content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    modified: Time,
    changed: Time,
}

impl Stamp {
    /// The stamp of a file.
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the types of these fields differ between systems"
    )]
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode as u32,
            modified: mtime(stat),
            changed: Time {
                seconds: stat.st_ctime as i64,
                nanoseconds: stat.st_ctime_nsec as u32,
            },
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn changed(&self) -> Time {
        self.changed
    }

    /// Whether it is the same inode with the same content; its links and mode may have changed.
    pub(crate) fn same_content(&self, other: &Stamp) -> bool {
        (self.device, self.inode, self.size, self.modified)
            == (other.device, other.inode, other.size, other.modified)
    }

    /// Whether a change after `now` (a change time of the same file system) could leave this stamp as it is.
    fn is_fresh(&self, now: Time) -> bool {
        let latest = self.changed.max(self.modified);
        let coarse = if self.changed.nanoseconds == 0 {
            VERY_COARSE
        } else {
            COARSE
        };
        nanoseconds(now) - nanoseconds(latest) < coarse.as_nanos() as i128
    }
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

/// The modification time of a file.
#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the types of these fields differ between systems"
)]
pub(crate) fn mtime(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime as i64,
        nanoseconds: stat.st_mtime_nsec as u32,
    }
}

/// The digests of files by path and stamp, for one store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StatCache {
    known: HashMap<Vec<u8>, (Stamp, [u8; 32])>,
}

impl StatCache {
    /// The digest of the file at `path` if it is in the state that is known.
    pub fn get(&self, path: &[u8], stamp: &Stamp) -> Option<Digest> {
        let (known, hash) = self.known.get(path)?;
        (known == stamp).then_some(Digest {
            hash: *hash,
            size: stamp.size,
        })
    }

    /// Remembers a state, unless it is too young at `now` to be told from a later one.
    pub fn insert(&mut self, path: &[u8], stamp: &Stamp, digest: &Digest, now: Time) {
        if !stamp.is_fresh(now) && stamp.size == digest.size {
            self.known.insert(path.to_owned(), (*stamp, digest.hash));
        }
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The bytes of `stat.bin`.
    pub(crate) fn encode(&self, store: &[u8; 16]) -> Vec<u8> {
        let mut body = Vec::with_capacity(20 + self.known.len() * 140);
        body.extend(store);
        body.extend((self.known.len() as u32).to_le_bytes());
        for (path, (stamp, hash)) in &self.known {
            for number in [stamp.device, stamp.inode, stamp.size] {
                body.extend(number.to_le_bytes());
            }
            body.extend(stamp.mode.to_le_bytes());
            for time in [stamp.modified, stamp.changed] {
                body.extend(time.seconds.to_le_bytes());
                body.extend(time.nanoseconds.to_le_bytes());
            }
            body.extend(hash);
            body.extend((path.len() as u16).to_le_bytes());
            body.extend(path);
        }
        let mut bytes = Vec::with_capacity(40 + body.len());
        bytes.extend(MAGIC);
        bytes.extend(blake3::hash(&body).as_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads `stat.bin`; anything that is not whole or is of another store is an empty cache.
    pub(crate) fn parse(bytes: &[u8], store: &[u8; 16]) -> StatCache {
        parse(bytes, store).unwrap_or_default()
    }
}

fn parse(bytes: &[u8], store: &[u8; 16]) -> Option<StatCache> {
    let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    let mut rest = body.strip_prefix(store)?;
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    if count > MAX_ENTRIES {
        return None;
    }
    let mut known = HashMap::with_capacity(count.min(rest.len() / 86));
    for _ in 0..count {
        let stamp = Stamp {
            device: u64::from_le_bytes(take(&mut rest)?),
            inode: u64::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            mode: u32::from_le_bytes(take(&mut rest)?),
            modified: time(&mut rest)?,
            changed: time(&mut rest)?,
        };
        let hash = take(&mut rest)?;
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (path, after) = rest.split_at_checked(length.min(MAX_PATH))?;
        rest = after;
        known.insert(path.to_owned(), (stamp, hash));
    }
    rest.is_empty().then_some(StatCache { known })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_at_checked(N)?;
    *rest = after;
    taken.try_into().ok()
}

fn time(rest: &mut &[u8]) -> Option<Time> {
    Some(Time {
        seconds: i64::from_le_bytes(take(rest)?),
        nanoseconds: u32::from_le_bytes(take(rest)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time {
            seconds,
            nanoseconds: 5,
        }
    }

    fn stamp() -> Stamp {
        Stamp {
            device: 1,
            inode: 2,
            size: 3,
            mode: 0o100_644,
            modified: at(10),
            changed: at(20),
        }
    }

    #[test]
    fn only_the_same_state_is_known() {
        let mut cache = StatCache::default();
        cache.insert(b"f", &stamp(), &Digest::of(b"abc"), at(30));
        assert_eq!(cache.get(b"f", &stamp()), Some(Digest::of(b"abc")));
        let mut other = stamp();
        other.changed = at(21);
        assert_eq!(cache.get(b"f", &other), None);
        assert_eq!(cache.get(b"g", &stamp()), None);
    }

    #[test]
    fn a_state_as_young_as_the_clock_is_coarse_is_not_remembered() {
        let mut cache = StatCache::default();
        cache.insert(b"f", &stamp(), &Digest::of(b"abc"), at(20));
        assert!(cache.is_empty());
        let mut whole_seconds = stamp();
        whole_seconds.changed.nanoseconds = 0;
        cache.insert(b"f", &whole_seconds, &Digest::of(b"abc"), at(22));
        assert!(cache.is_empty());
        cache.insert(b"f", &whole_seconds, &Digest::of(b"abc"), at(24));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_cache_reads_back_for_its_store_only_and_damage_empties_it() {
        let mut cache = StatCache::default();
        cache.insert(b"f", &stamp(), &Digest::of(b"abc"), at(30));
        let bytes = cache.encode(&[7; 16]);
        assert_eq!(StatCache::parse(&bytes, &[7; 16]), cache);
        assert!(StatCache::parse(&bytes, &[8; 16]).is_empty());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(StatCache::parse(&bad, &[7; 16]).is_empty(), "{at}");
            assert!(StatCache::parse(&bytes[..at], &[7; 16]).is_empty());
        }
    }
}
