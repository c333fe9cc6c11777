//! What this process remembers of blobs: which it has verified, and which are in use.
//!
//! Both live in memory only and are bounded; forgetting costs a hash or, for leases, never happens before its time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::Stat;
use vx_digest::Digest;

use crate::layout::Kind;

/// Which inode was verified, and in which state.
///
/// The change time is left out: every hard link made of a blob moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
}

impl Stamp {
    #[allow(
        clippy::unnecessary_cast,
        clippy::useless_conversion,
        reason = "the types of these fields differ between systems"
    )]
    pub(crate) fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }
}

/// The blobs whose content was found to be right since the store was opened.
///
/// Two generations instead of a list in order of use: when the young one is full it becomes the old one, and what is asked for moves back.
#[derive(Debug)]
pub(crate) struct Verified {
    generations: Mutex<[HashMap<(Digest, Kind), Stamp>; 2]>,
    half: usize,
}

impl Verified {
    pub(crate) fn with_capacity(capacity: usize) -> Verified {
        Verified {
            generations: Mutex::default(),
            half: (capacity / 2).max(1),
        }
    }

    /// Whether this very inode, unchanged, was verified.
    pub(crate) fn contains(&self, digest: &Digest, kind: Kind, stamp: Stamp) -> bool {
        let key = (*digest, kind);
        let mut generations = lock(&self.generations);
        if generations[0].get(&key) == Some(&stamp) {
            return true;
        }
        let old = generations[1].remove(&key) == Some(stamp);
        if old {
            self.insert_into(&mut generations, key, stamp);
        }
        old
    }

    pub(crate) fn insert(&self, digest: &Digest, kind: Kind, stamp: Stamp) {
        self.insert_into(&mut lock(&self.generations), (*digest, kind), stamp);
    }

    fn insert_into(
        &self,
        generations: &mut [HashMap<(Digest, Kind), Stamp>; 2],
        key: (Digest, Kind),
        stamp: Stamp,
    ) {
        if generations[0].len() >= self.half {
            generations.swap(0, 1);
            generations[0].clear();
        }
        generations[0].insert(key, stamp);
    }
}

/// The blobs and records that were used in this process within the lease time.
#[derive(Debug)]
pub(crate) struct Leases {
    time: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    used: HashMap<Digest, Instant>,
    /// The size at which expired entries are looked for, so that the cost is spread over the insertions.
    prune_at: usize,
}

const PRUNE_FROM: usize = 1024;

impl Leases {
    pub(crate) fn lasting(time: Duration) -> Leases {
        Leases {
            time,
            table: Mutex::default(),
        }
    }

    /// Starts the lease again.
    pub(crate) fn renew(&self, digest: &Digest) {
        let now = Instant::now();
        let mut table = lock(&self.table);
        if table.used.len() >= table.prune_at.max(PRUNE_FROM) {
            table
                .used
                .retain(|_, used| now.duration_since(*used) < self.time);
            table.prune_at = table.used.len() * 2;
        }
        table.used.insert(*digest, now);
    }

    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        let table = lock(&self.table);
        table
            .used
            .get(digest)
            .is_some_and(|used| used.elapsed() < self.time)
    }
}

/// The tables are whole between any two statements, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp {
            device: 1,
            inode,
            size: 1,
            modified: (0, 0),
        }
    }

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn another_inode_is_not_verified() {
        let set = Verified::with_capacity(8);
        set.insert(&digest(1), Kind::Plain, stamp(1));
        assert!(set.contains(&digest(1), Kind::Plain, stamp(1)));
        assert!(!set.contains(&digest(1), Kind::Plain, stamp(2)));
        assert!(!set.contains(&digest(1), Kind::Executable, stamp(1)));
    }

    #[test]
    fn the_set_is_bounded_and_keeps_what_is_asked_for() {
        let set = Verified::with_capacity(8);
        set.insert(&digest(0), Kind::Plain, stamp(0));
        for n in 1..100 {
            set.insert(&digest(n), Kind::Plain, stamp(0));
            assert!(set.contains(&digest(0), Kind::Plain, stamp(0)), "after {n}");
        }
        assert!(
            lock(&set.generations)
                .iter()
                .map(HashMap::len)
                .sum::<usize>()
                <= 8
        );
    }

    #[test]
    fn expired_leases_are_forgotten_and_living_ones_are_not() {
        let expired = Leases::lasting(Duration::ZERO);
        let living = Leases::lasting(Duration::from_secs(3600));
        for n in 0..5000u32 {
            expired.renew(&Digest::of(&n.to_be_bytes()));
            living.renew(&Digest::of(&n.to_be_bytes()));
        }
        assert!(lock(&expired.table).used.len() <= PRUNE_FROM);
        assert!((0..5000u32).all(|n| living.holds(&Digest::of(&n.to_be_bytes()))));
        assert!(!expired.holds(&Digest::of(&4999u32.to_be_bytes())));
    }
}
