//! Files that are being written: `tmp/`, who owns what in it, and what dead owners left.
//!
//! Every open store has an owner file in `tmp/` on which it holds an `flock`, and its temporary files carry the owner's name.
//! The kernel drops the lock when the process is gone, however it went, so "lockable" means "dead" — pids come back, locks do not.
//! It knows nothing of blobs.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::area;
use crate::platform;

/// The modification time of every file in the store, in seconds since 1970: that of the files in cargo's packages.
///
/// With a constant time the trees linked out of the store do not depend on when their blobs were written, and whoever writes through a link leaves a trace.
pub(crate) const MTIME: i64 = 1_153_704_088;

const OWNER: &str = ".owner";

/// The temporary directory as seen by one owner.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: OwnedFd,
    owner: String,
    /// Held as long as anything of this owner may exist; `None` where nothing can be written.
    lock: Option<OwnedFd>,
    counter: AtomicU64,
}

impl Scratch {
    /// Registers an owner and removes what dead ones left.
    pub(crate) fn open(dir: OwnedFd) -> io::Result<Scratch> {
        let (owner, lock) = loop {
            let owner = unique_owner();
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let name = format!("{owner}{OWNER}");
            let file = match rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR) {
                // What is there can be read, and nothing of ours will ever be there.
                Err(Errno::ROFS) => break (owner, None),
                result => result?,
            };
            area::lock(&file, FlockOperation::LockExclusive)?;
            // Between creation and lock another process may have taken us for dead.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                break (owner, Some(file));
            }
        };
        let scratch = Scratch {
            dir,
            owner,
            lock,
            counter: AtomicU64::new(0),
        };
        if scratch.lock.is_some() {
            scratch.remove_dead(false)?;
        }
        Ok(scratch)
    }

    /// A name that no other owner, living or dead, makes.
    pub(crate) fn unique_name(&self) -> String {
        format!(
            "{}.{}",
            self.owner,
            self.counter.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A new file that only its creator can write, with the mode it is to have in the end.
    ///
    /// Each change of an inode costs the file system a journal entry, so there is none for the mode.
    pub(crate) fn create(self: &Arc<Self>, mode: u32) -> io::Result<Temp> {
        let mode = platform::mode(mode);
        let name = self.unique_name();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, &name, flags, mode)?;
        Ok(Temp {
            scratch: Arc::clone(self),
            mode,
            name,
            file: Some(File::from(file)),
            sealed: None,
            gone: false,
        })
    }

    /// Removes the files of owners that are dead; returns their number, owner files not counted.
    ///
    /// With `dry_run` it only counts.
    pub(crate) fn remove_dead(&self, dry_run: bool) -> io::Result<u64> {
        let names = area::names(&self.dir)?;
        let owner_of = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
        let owners: BTreeSet<String> = names.iter().map(|name| owner_of(name)).collect();
        let mut removed = 0;
        for owner in owners {
            // Kept until the owner's files are gone: nobody else cleans meanwhile.
            let Some(_lock) = self.lock_if_dead(&owner)? else {
                continue;
            };
            let owner_file = format!("{owner}{OWNER}");
            for name in names.iter().filter(|name| owner_of(name) == owner) {
                if *name != owner_file {
                    removed += 1;
                    if !dry_run {
                        area::unlink(&self.dir, name)?;
                    }
                }
            }
            if !dry_run {
                area::unlink(&self.dir, &owner_file)?;
            }
        }
        Ok(removed)
    }

    /// `None` when the owner lives; the inner lock is `None` when there is no owner file any more.
    fn lock_if_dead(&self, owner: &str) -> io::Result<Option<Option<OwnedFd>>> {
        if owner == self.owner {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{owner}{OWNER}");
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            // An owner makes its file before any other and removes it after all others.
            Err(Errno::NOENT) => return Ok(Some(None)),
            Err(error) => return Err(error.into()),
        };
        match area::lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Some(file))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of files in `tmp/` that are not owner files.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let names = area::names(&self.dir)?;
        Ok(names.iter().filter(|name| !name.ends_with(OWNER)).count() as u64)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Every `Temp` holds a reference, so this name is the last of the owner's.
        // A failure leaves a file whose lock is gone, which the next open removes.
        let _ignored = area::unlink(&self.dir, &format!("{}{OWNER}", self.owner));
    }
}

fn unique_owner() -> String {
    // The standard library seeds this hasher from the system's random numbers.
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    format!("{}-{random:016x}", std::process::id())
}

/// A file in `tmp/`; removed on drop unless it was published.
#[derive(Debug)]
pub(crate) struct Temp {
    scratch: Arc<Scratch>,
    name: String,
    mode: Mode,
    /// `None` once sealed.
    file: Option<File>,
    /// What the file was when it was sealed; nobody changes it since.
    sealed: Option<Stat>,
    gone: bool,
}

/// Whether [`Temp::publish`] gave the file its name, or somebody else was first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    New,
    Exists,
}

impl Temp {
    /// The open file; an error once it is sealed.
    pub(crate) fn file(&mut self) -> io::Result<&mut File> {
        self.file
            .as_mut()
            .ok_or_else(|| io::Error::other("the temporary file is sealed"))
    }

    /// Makes sure of mode and times, syncs if asked to, and closes the descriptor that can write.
    pub(crate) fn seal(&mut self, sync: bool) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let constant = Timespec {
            tv_sec: MTIME,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: constant,
        };
        rustix::fs::futimens(&file, &times)?;
        let stat = rustix::fs::fstat(&file)?;
        // The umask may have taken bits away.
        if Mode::from_raw_mode(stat.st_mode) != self.mode {
            rustix::fs::fchmod(&file, self.mode)?;
        }
        if sync {
            file.sync_all()?;
        }
        self.sealed = Some(stat);
        Ok(())
    }

    /// The file's inode, size and times.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        if let Some(stat) = self.sealed {
            return Ok(stat);
        }
        Ok(rustix::fs::statat(
            &self.scratch.dir,
            &self.name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Opens the sealed file for reading.
    pub(crate) fn reader(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &self.scratch.dir,
            &self.name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Gives the file its final name, atomically, unless that name is taken.
    pub(crate) fn publish(&mut self, dir: impl AsFd, name: &str) -> io::Result<Published> {
        let from = &self.scratch.dir;
        let rename = rustix::fs::renameat_with(
            from,
            self.name.as_str(),
            dir.as_fd(),
            name,
            RenameFlags::NOREPLACE,
        );
        match rename {
            Ok(()) => {
                self.gone = true;
                Ok(Published::New)
            }
            Err(Errno::EXIST) => Ok(Published::Exists),
            // Some network file systems cannot rename without replacing, but all can link.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                let flags = AtFlags::empty();
                match rustix::fs::linkat(from, self.name.as_str(), dir.as_fd(), name, flags) {
                    Ok(()) => Ok(Published::New),
                    Err(Errno::EXIST) => Ok(Published::Exists),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.gone {
            // What cannot be removed now is removed once this owner is dead.
            let _ignored = area::unlink(&self.scratch.dir, &self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> Arc<Scratch> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Arc::new(Scratch::open(rustix::fs::open(path, flags, Mode::empty()).unwrap()).unwrap())
    }

    fn entries(path: &std::path::Path) -> usize {
        std::fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn a_living_owner_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let one = open(dir.path());
        let temp = one.create(0o444).unwrap();
        let two = open(dir.path());
        assert_eq!(two.remove_dead(false).unwrap(), 0);
        assert_eq!(entries(dir.path()), 3);
        drop((temp, one, two));
        assert_eq!(entries(dir.path()), 0);
    }

    #[test]
    fn files_of_dead_owners_are_removed_at_open() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1-aa.owner", "1-aa.0", "1-aa.1", "2-bb.0"] {
            std::fs::write(dir.path().join(name), "left behind").unwrap();
        }
        let scratch = open(dir.path());
        assert_eq!(
            area::names(&scratch.dir).unwrap(),
            [format!("{}{OWNER}", scratch.owner)]
        );
    }

    #[test]
    fn a_taken_name_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir().unwrap();
        std::fs::write(target.path().join("name"), "first").unwrap();
        let fd = rustix::fs::open(target.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut temp = open(dir.path()).create(0o444).unwrap();
        assert_eq!(temp.publish(&fd, "name").unwrap(), Published::Exists);
        assert_eq!(temp.publish(&fd, "other").unwrap(), Published::New);
        assert_eq!(std::fs::read(target.path().join("name")).unwrap(), b"first");
    }
}
