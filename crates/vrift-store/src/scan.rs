//! Lists a directory without reading any content.
//!
//! Directories are opened relative to their parents and symbolic links are never followed, so the listing is of what lies beneath the directory and nothing else.
//! Several threads take directories from one stack, the deepest first: so few parents are open at once.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::access::Reader;
use crate::error::Error;
use crate::manifest::{Entry, Kind, MAX_ENTRIES, MAX_PATH};
use crate::platform;
use crate::project::OWN;
use crate::stamp::{Stamp, mtime};

/// Directories within directories that are listed; each level holds a descriptor for each thread.
const MAX_DEPTH: usize = 256;
/// With more threads the deepest tree could take more descriptors than a process usually may have.
const MAX_THREADS: usize = 3;
/// Things left out that are named; all are counted by the caller's eyes.
const MAX_SKIPPED: usize = 1000;

/// What lies in a directory.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Directories and symbolic links, whole, sorted by path.
    pub others: Vec<Entry>,
    /// Regular files, sorted by path; their digests are not known yet.
    pub files: Vec<ScannedFile>,
    /// What is neither, or may not be read.
    pub skipped: Vec<Skipped>,
}

/// A regular file that was listed.
#[derive(Clone, Debug)]
pub struct ScannedFile {
    /// Relative to the directory.
    pub path: Vec<u8>,
    /// Its state when it was listed.
    pub stamp: Stamp,
    /// What the file system said of it.
    pub stat: Stat,
}

/// Something that is not part of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Relative to the directory.
    pub path: PathBuf,
    /// Why it is left out.
    pub why: String,
}

/// Lists everything beneath `root` but its own `.vrift`.
///
/// # Errors
/// A directory that cannot be read, more entries than a manifest may have, or what `reader` refuses.
pub fn scan(root: BorrowedFd<'_>, reader: &dyn Reader) -> Result<Scanned, Error> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let walk = Walk {
        root,
        reader,
        entries: AtomicUsize::new(0),
        stack: Mutex::new(Stack {
            waiting: vec![Directory {
                parent: None,
                path: Vec::new(),
                name: 0,
                depth: 0,
            }],
            ..Stack::default()
        }),
        changed: Condvar::new(),
    };
    let mut scanned = std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors.min(MAX_THREADS))
            .map(|_| scope.spawn(|| walk.work()))
            .collect();
        let mut scanned = walk.work();
        for other in others {
            match other.join() {
                Ok(more) => {
                    scanned.others.extend(more.others);
                    scanned.files.extend(more.files);
                    scanned.skipped.extend(more.skipped);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        scanned
    });
    let stack = walk
        .stack
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = stack.failure {
        return Err(error);
    }
    scanned.others.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    scanned.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    scanned.skipped.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    scanned.skipped.truncate(MAX_SKIPPED);
    Ok(scanned)
}

/// A directory that is to be listed.
struct Directory {
    /// The one it lies in; `None` for the root.
    parent: Option<Arc<OwnedFd>>,
    path: Vec<u8>,
    /// Where its name begins in its path.
    name: usize,
    depth: usize,
}

/// A listing on which several threads work.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    reader: &'a dyn Reader,
    entries: AtomicUsize,
    stack: Mutex<Stack>,
    /// There is more on the stack, or nothing will come any more.
    changed: Condvar,
}

#[derive(Default)]
struct Stack {
    waiting: Vec<Directory>,
    /// Directories that are being listed now.
    under_way: usize,
    /// Threads that wait for more.
    idle: usize,
    failure: Option<Error>,
}

/// A directory that one thread lists; however that ends, the others learn of it.
struct Listing<'a> {
    walk: &'a Walk<'a>,
    below: Vec<Directory>,
    failure: Option<Error>,
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        let mut stack = self.walk.stack();
        stack.under_way -= 1;
        if std::thread::panicking() {
            // Nobody will see what else is listed.
            stack.waiting.clear();
        } else {
            stack.waiting.append(&mut self.below);
        }
        if let Some(failure) = self.failure.take() {
            stack.failure.get_or_insert(failure);
        }
        // Waking nobody would be a system call all the same.
        if stack.idle > 0 {
            self.walk.changed.notify_all();
        }
    }
}

impl Walk<'_> {
    /// The stack is whole between any two statements.
    fn stack(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directory; `None` when all are listed or one could not be.
    fn next(&self) -> Option<Directory> {
        let mut stack = self.stack();
        loop {
            if stack.failure.is_some() {
                return None;
            }
            if let Some(directory) = stack.waiting.pop() {
                stack.under_way += 1;
                return Some(directory);
            }
            if stack.under_way == 0 {
                return None;
            }
            stack.idle += 1;
            stack = self
                .changed
                .wait(stack)
                .unwrap_or_else(PoisonError::into_inner);
            stack.idle -= 1;
        }
    }

    fn work(&self) -> Scanned {
        let mut scanned = Scanned::default();
        let mut buffer = Vec::with_capacity(32 << 10);
        while let Some(directory) = self.next() {
            let mut listing = Listing {
                walk: self,
                below: Vec::new(),
                failure: None,
            };
            let result = self.list(&directory, &mut buffer, &mut listing.below, &mut scanned);
            listing.failure = result.err();
        }
        scanned
    }

    fn list(
        &self,
        directory: &Directory,
        buffer: &mut Vec<u8>,
        below: &mut Vec<Directory>,
        scanned: &mut Scanned,
    ) -> Result<(), Error> {
        let failed = |task| Error::os(task, OsStr::from_bytes(&directory.path));
        if directory.depth > MAX_DEPTH {
            return Err(failed("list")(Errno::NAMETOOLONG));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match &directory.parent {
            // Opened again, so that its position is nobody else's.
            None => rustix::fs::openat(self.root, ".", flags, Mode::empty()),
            Some(parent) => {
                let name = OsStr::from_bytes(&directory.path[directory.name..]);
                rustix::fs::openat(parent, name, flags, Mode::empty())
            }
        };
        let dir = match opened {
            Ok(dir) => Arc::new(dir),
            // It went while we looked, or is something else now.
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return match &directory.parent {
                    Some(parent) => self.look(parent.as_fd(), directory, scanned).map(drop),
                    None => Ok(()),
                };
            }
            Err(error) => return Err(failed("list")(error)),
        };
        let stat = rustix::fs::fstat(&dir).map_err(failed("look at"))?;
        self.reader
            .directory(dir.as_fd(), &stat)
            .map_err(Error::io("list", shown(&directory.path)))?;
        scanned
            .others
            .push(entry(&directory.path, &stat, Kind::Directory));
        let mut names = Vec::new();
        platform::list(dir.as_fd(), buffer, |name: &CStr, kind| {
            let name = name.to_bytes();
            let ours = directory.depth == 0 && name == OWN.as_bytes();
            if name != b"." && name != b".." && !ours {
                names.push((name.to_owned(), kind));
            }
        })
        .map_err(failed("list"))?;
        // In order of names, so that what is read later is near what was read before.
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let mut path = Vec::with_capacity(directory.path.len() + 1 + name.len());
            path.extend(&directory.path);
            if !path.is_empty() {
                path.push(b'/');
            }
            let at = path.len();
            path.extend(&name);
            let found = Directory {
                parent: Some(Arc::clone(&dir)),
                path,
                name: at,
                depth: directory.depth + 1,
            };
            let count = self.entries.fetch_add(1, Ordering::Relaxed);
            if found.path.len() > MAX_PATH || count >= MAX_ENTRIES {
                return Err(Error::os("take", shown(&found.path))(Errno::NAMETOOLONG));
            }
            if kind == FileType::Directory || self.look(dir.as_fd(), &found, scanned)? {
                below.push(found);
            }
        }
        // The first is taken first.
        below.reverse();
        Ok(())
    }

    /// Takes what is no directory; returns whether it is one.
    fn look(
        &self,
        dir: BorrowedFd<'_>,
        found: &Directory,
        scanned: &mut Scanned,
    ) -> Result<bool, Error> {
        let name = OsStr::from_bytes(&found.path[found.name..]);
        let failed = |task| Error::os(task, shown(&found.path));
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went while we looked.
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed("look at")(error)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(true),
            FileType::RegularFile => scanned.files.push(ScannedFile {
                stamp: Stamp::of(&stat),
                path: found.path.clone(),
                stat,
            }),
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed("read"))?;
                let kind = Kind::Symlink(target.into_bytes());
                scanned.others.push(entry(&found.path, &stat, kind));
            }
            _ if scanned.skipped.len() < MAX_SKIPPED => scanned.skipped.push(Skipped {
                path: shown(&found.path),
                why: "neither file, directory nor symbolic link".to_owned(),
            }),
            _ => {}
        }
        Ok(false)
    }
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

fn entry(path: &[u8], stat: &Stat, kind: Kind) -> Entry {
    Entry {
        path: path.to_owned(),
        mode: permissions(stat),
        mtime: mtime(stat),
        kind,
    }
}

/// The permission bits of a file.
pub(crate) fn permissions(stat: &Stat) -> u16 {
    (stat.st_mode & 0o7777) as _
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics at the third directory.
    struct Panics(AtomicUsize);

    impl Reader for Panics {
        fn directory(&self, _dir: BorrowedFd<'_>, _stat: &Stat) -> std::io::Result<()> {
            let before = self.0.fetch_add(1, Ordering::Relaxed);
            assert!(before != 2, "the third directory");
            Ok(())
        }

        fn file(&self, _file: BorrowedFd<'_>, _stat: &Stat) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::create_dir_all(dir.path().join(format!("{number}/inner"))).unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let panics = Panics(AtomicUsize::new(0));
        let result = std::panic::catch_unwind(|| scan(root.as_fd(), &panics).map(drop));
        assert!(result.is_err());
    }
}
