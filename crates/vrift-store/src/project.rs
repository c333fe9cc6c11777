//! A directory of a user, and what is kept about it in its `.vrift`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use vx_digest::Digest;

use crate::blobs::{Blobs, RootRequest};
use crate::error::Error;
use crate::home::lock_file;
use crate::manifest::{MAX_BYTES, Manifest, Time};
use crate::roots::{read_at_most, sync_dir, write_unsynced, write_whole};
use crate::site::times;
use crate::stamp::{Stamp, StatCache, mtime};

/// The directory in which a project keeps what is about it; no content of the project.
pub(crate) const OWN: &str = ".vrift";

/// A directory that is, or will be, in a store.
#[derive(Debug)]
pub struct Project {
    path: PathBuf,
    dir: OwnedFd,
}

/// Held while a project is worked on.
#[derive(Debug)]
pub(crate) struct Locked {
    file: File,
}

impl Project {
    /// Opens a directory; nothing is written.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    pub fn open(path: &Path) -> Result<Project, Error> {
        let failed = |source| Error::io("open", path)(source);
        let path = fs::canonicalize(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(Error::os("open", &path))?;
        Ok(Project { path, dir })
    }

    /// The directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, open.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its `.vrift`.
    pub fn own_dir(&self) -> PathBuf {
        self.path.join(OWN)
    }

    /// Its manifest's file.
    pub fn manifest_path(&self) -> PathBuf {
        self.own_dir().join("manifest.bin")
    }

    /// The device it is on.
    fn device(&self) -> Result<u64, Error> {
        let metadata = fs::metadata(&self.path).map_err(Error::io("look at", &self.path))?;
        Ok(metadata.dev())
    }

    /// Checks that neither lies in the other: a store that is kept in itself changes while it is read, and its blobs would become links to themselves.
    ///
    /// # Errors
    /// [`Error::Refused`] names both.
    pub(crate) fn is_apart_from(&self, blobs: &dyn Blobs) -> Result<(), Error> {
        let Some(place) = blobs.place() else {
            return Ok(());
        };
        let place = fs::canonicalize(place).map_err(Error::io("look at", place))?;
        let how = if place.starts_with(&self.path) {
            "contains"
        } else if self.path.starts_with(&place) {
            "lies in"
        } else {
            return Ok(());
        };
        Err(Error::Refused(format!(
            "`{}` {how} the store `{}`, and no store is kept in itself",
            self.path.display(),
            place.display()
        )))
    }

    /// Asks to keep it as what this manifest says.
    pub(crate) fn root_request(
        &self,
        manifest: Digest,
        phantom: bool,
    ) -> Result<RootRequest, Error> {
        Ok(RootRequest {
            path: self.path.clone(),
            manifest,
            device: self.device()?,
            phantom,
        })
    }

    /// Makes `.vrift` if it is missing, and keeps every other process away from the project.
    pub(crate) fn lock(&self) -> Result<Locked, Error> {
        let own = self.own_dir();
        if own.join("the_source").symlink_metadata().is_ok() {
            return Err(Error::Refused(format!(
                "`{}` is a store, and cannot be what is noted about the directory that it is in",
                own.display()
            )));
        }
        let before = rustix::fs::fstat(&self.dir).map_err(Error::os("look at", &self.path))?;
        match fs::DirBuilder::new().mode(0o700).create(&own) {
            Ok(()) => {
                // Our directory is no change of the user's; who may not set times has it as one.
                let _ignored = rustix::fs::futimens(&self.dir, &times(mtime(&before)));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", &own)(error)),
        }
        let metadata = fs::symlink_metadata(&own).map_err(Error::io("look at", &own))?;
        if !metadata.is_dir() {
            return Err(Error::Refused(format!(
                "`{}` is no directory; it has to be moved away",
                own.display()
            )));
        }
        let path = own.join("lock");
        let file = match lock_file(&path, FlockOperation::NonBlockingLockExclusive) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Busy {
                    path: self.path.clone(),
                });
            }
            result => result?,
        };
        let ignore = own.join(".gitignore");
        if !ignore.exists() {
            write_unsynced(&ignore, b"*\n")?;
        }
        Ok(Locked { file })
    }

    /// The manifest of the last ingest.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        let path = self.manifest_path();
        match read_at_most(&path, MAX_BYTES as u64) {
            Ok(bytes) => Manifest::parse(&bytes)
                .map(Some)
                .map_err(|source| Error::Manifest { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The manifest in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_manifest(path: &Path) -> Result<Manifest, Error> {
        let bytes = read_at_most(path, MAX_BYTES as u64).map_err(Error::io("read", path))?;
        Manifest::parse(&bytes).map_err(|source| Error::Manifest {
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) fn write_manifest(&self, bytes: &[u8]) -> Result<(), Error> {
        write_whole(&self.manifest_path(), bytes)
    }

    pub(crate) fn stat_cache(&self, store: &[u8; 16]) -> StatCache {
        let bytes = read_at_most(&self.own_dir().join("stat.bin"), MAX_BYTES as u64);
        StatCache::parse(&bytes.unwrap_or_default(), store)
    }

    pub(crate) fn write_stat_cache(
        &self,
        cache: &StatCache,
        store: &[u8; 16],
    ) -> Result<(), Error> {
        // Its checksum tells what a power cut left of it.
        write_unsynced(&self.own_dir().join("stat.bin"), &cache.encode(store))
    }

    /// The journal of a project whose files are projections: the manifest they are projections of.
    ///
    /// Links into another store are nobody's business but that store's, so that is refused.
    pub(crate) fn journal(&self, store: &[u8; 16]) -> Result<Option<Manifest>, Error> {
        let path = self.own_dir().join("phantom");
        match read_at_most(&path, MAX_BYTES as u64) {
            Ok(bytes) => match bytes.strip_prefix(store) {
                Some(bytes) => Manifest::parse(bytes)
                    .map(Some)
                    .map_err(|source| Error::Manifest { path, source }),
                None => Err(Error::Refused(format!(
                    "files of `{}` are links into another store than this one",
                    self.path.display()
                ))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Whether files of the project may be projections.
    pub fn is_phantom(&self) -> bool {
        fs::symlink_metadata(self.own_dir().join("phantom")).is_ok()
    }

    pub(crate) fn write_journal(&self, store: &[u8; 16], manifest: &[u8]) -> Result<(), Error> {
        write_whole(
            &self.own_dir().join("phantom"),
            &[store.as_slice(), manifest].concat(),
        )
    }

    pub(crate) fn remove_journal(&self) -> Result<(), Error> {
        let path = self.own_dir().join("phantom");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => sync_dir(&self.own_dir()),
        }
    }

    /// Where files are put together before they get their names, on the same file system.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Error> {
        let path = self.own_dir().join("tmp");
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("create", path)(error))
            }
            _ => Ok(path),
        }
    }
}

impl Locked {
    /// What the clock of the project's file system says.
    pub(crate) fn now(&self) -> Result<Time, Error> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let failed = || Error::os("touch", ".vrift/lock");
        rustix::fs::futimens(&self.file, &times).map_err(failed())?;
        let stat = rustix::fs::fstat(&self.file).map_err(failed())?;
        Ok(Stamp::of(&stat).changed())
    }
}
