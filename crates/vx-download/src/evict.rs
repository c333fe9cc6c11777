//! Keeps a cache within its size: what was used longest ago goes first, and
//! nothing that somebody has in use.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::layout::Layout;
use crate::lock::{Lock, is_at};

/// What kind of file it is; in the order in which they make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Evidence of something that went wrong.
    Quarantined,
    /// A whole file, or a part of one, which is as good for going on.
    Kept { partial: bool },
}

#[derive(Debug)]
struct Candidate {
    kind: Kind,
    used: SystemTime,
    size: u64,
    path: PathBuf,
}

/// Removes files until the rest fits. Returns how many bytes were removed.
pub(crate) fn evict(layout: &Layout, limit: u64) -> io::Result<u64> {
    // One after the other: two that count at once would remove twice as much.
    let _lock = Lock::wait(&layout.eviction_lock())?;
    let mut candidates = candidates(layout)?;
    let mut total: u64 = candidates.iter().map(|candidate| candidate.size).sum();
    if total <= limit {
        return Ok(0);
    }
    let before = total;
    candidates.sort_by(|a, b| {
        let class = |kind| kind != Kind::Quarantined;
        (class(a.kind), a.used, &a.path).cmp(&(class(b.kind), b.used, &b.path))
    });
    for candidate in candidates {
        if total <= limit {
            break;
        }
        if remove(layout, &candidate)? {
            total -= candidate.size;
        }
    }
    Ok(before - total)
}

fn candidates(layout: &Layout) -> io::Result<Vec<Candidate>> {
    let [sha256, blake3, partial, _lock, quarantine] = layout.dirs();
    let mut found = Vec::new();
    for (dir, kind) in [
        (sha256, Kind::Kept { partial: false }),
        (blake3, Kind::Kept { partial: false }),
        (partial, Kind::Kept { partial: true }),
        (quarantine, Kind::Quarantined),
    ] {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // It may have gone in the meantime.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            found.push(Candidate {
                kind,
                used: metadata.modified()?,
                size: metadata.len(),
                path: entry.path(),
            });
        }
    }
    Ok(found)
}

/// Whether it was removed; it is not while somebody uses it.
fn remove(layout: &Layout, candidate: &Candidate) -> io::Result<bool> {
    match candidate.kind {
        Kind::Quarantined => unlink(&candidate.path),
        Kind::Kept { partial: true } => {
            let Some(lock) = layout.lock_of_partial(&candidate.path) else {
                return Ok(false);
            };
            remove_with_lock(&candidate.path, &lock)
        }
        Kind::Kept { partial: false } => {
            let file = match File::open(&candidate.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                Ok(()) if is_at(&file, &candidate.path) => {
                    let Some(lock) = layout.lock_of_entry(&candidate.path) else {
                        return Ok(false);
                    };
                    remove_with_lock(&candidate.path, &lock)
                }
                Ok(()) | Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(error),
            }
        }
    }
}

/// Removes the file and the lock of its digest, unless somebody has that.
fn remove_with_lock(path: &Path, lock: &Path) -> io::Result<bool> {
    let Some(_held) = Lock::take(lock)? else {
        return Ok(false);
    };
    unlink(path)?;
    // Whoever waits for it looks whether it is still there.
    unlink(lock)
}

fn unlink(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}
