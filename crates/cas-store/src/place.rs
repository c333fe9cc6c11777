//! Giving blobs out as files: paths, hard links, and the executable twin.
//!
//! Who gets a hard link can, as the same user, write through it.
//! The store notices by the modification time, quarantines the blob and is without it until it is stored again; it never hands out what was changed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use vx_digest::{Digest, DigestFunction};

use crate::blob::{ATTEMPTS, Claim, hash_file};
use crate::error::{PlaceError, PutError, ReadError};
use crate::layout::{self, Kind};
use crate::platform;
use crate::scratch::MTIME;
use crate::store::Store;

/// How a blob got to where it was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// As a hard link to the store's own inode.
    Linked,
    /// As a copy: on another file system, or when the inode has as many links as it can.
    Copied,
}

impl Store {
    /// The path of a blob's file, or of its executable twin, which is made on demand; `None` when the blob is absent.
    pub fn path(&self, digest: &Digest, executable: bool) -> Result<Option<PathBuf>, PlaceError> {
        let Some(claim) = self.claim_placeable(digest, executable)? else {
            return Ok(None);
        };
        let mut path = self
            .inner
            .root
            .join(layout::blobs(self.inner.blobs.levels()));
        path.extend(layout::shards(&digest.hash, self.inner.blobs.levels()));
        path.push(claim.name);
        Ok(Some(path))
    }

    /// Puts a blob at `destination`, which must not exist; `None` when the blob is absent.
    ///
    /// The file has mode 0444, or 0555 with `executable`, and the store's constant modification time.
    pub fn link_or_copy_to(
        &self,
        digest: &Digest,
        executable: bool,
        destination: &Path,
    ) -> Result<Option<Placed>, PlaceError> {
        let failed = |source| PlaceError::Destination {
            digest: *digest,
            path: destination.to_owned(),
            source,
        };
        let Some(claim) = self.claim_placeable(digest, executable)? else {
            return Ok(None);
        };
        let flags = AtFlags::empty();
        match rustix::fs::linkat(&claim.shard, &*claim.name, CWD, destination, flags) {
            Ok(()) => Ok(Some(Placed::Linked)),
            // The last two are how mounts and systems say that links are not for us.
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::NOTSUP) => {
                drop(claim);
                self.copy_to(digest, executable, destination)
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    fn copy_to(
        &self,
        digest: &Digest,
        executable: bool,
        destination: &Path,
    ) -> Result<Option<Placed>, PlaceError> {
        let Some(blob) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let copy = || -> io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(destination)?;
            let written = fill(&mut file, blob.into_file(), executable);
            drop(file);
            if written.is_ok() && executable {
                platform::wait_for_writers(File::open(destination)?);
            }
            written.inspect_err(|_| {
                // The error that matters is the one before.
                let _ignored = std::fs::remove_file(destination);
            })
        };
        copy().map_err(|source| PlaceError::Destination {
            digest: *digest,
            path: destination.to_owned(),
            source,
        })?;
        Ok(Some(Placed::Copied))
    }

    fn claim_placeable(
        &self,
        digest: &Digest,
        executable: bool,
    ) -> Result<Option<Claim>, PlaceError> {
        let unreadable = |source| ReadError::blob(digest, source);
        self.ensure_empty(digest).map_err(unreadable)?;
        let kind = Kind::of(executable);
        for _ in 0..ATTEMPTS {
            if kind == Kind::Executable && !self.ensure_twin(digest)? {
                return Ok(None);
            }
            match self
                .inner
                .claim_verified(digest, kind)
                .map_err(unreadable)?
            {
                Some(claim) => return Ok(Some(claim)),
                None if kind == Kind::Plain => return Ok(None),
                // Collected or quarantined right after it was made.
                None => {}
            }
        }
        Err(unreadable(io::Error::other("the executable twin does not stay")).into())
    }

    /// Makes the executable twin unless it is there; returns whether the blob is.
    pub(crate) fn ensure_twin(&self, digest: &Digest) -> Result<bool, PlaceError> {
        let unreadable = |source| ReadError::blob(digest, source);
        // The twin is no blob of its own: it goes when the blob goes.
        if self
            .inner
            .claim(digest, Kind::Plain)
            .map_err(unreadable)?
            .is_none()
        {
            return Ok(false);
        }
        let twin = self
            .inner
            .claim_verified(digest, Kind::Executable)
            .map_err(unreadable)?;
        if twin.is_some() {
            return Ok(true);
        }
        let blob = self
            .inner
            .open_verified(digest, Kind::Plain)
            .map_err(unreadable)?;
        let Some(blob) = blob else { return Ok(false) };
        self.make_twin(digest, blob).map_err(|source| {
            PutError::storing(
                format!("executable twin of blob `{digest}`"),
                digest.size,
                source,
            )
        })?;
        Ok(true)
    }

    fn make_twin(&self, digest: &Digest, mut blob: File) -> io::Result<()> {
        let sync = self.syncs_each();
        let mut temp = self.inner.scratch.create(Kind::Executable.mode())?;
        let written = if self.try_reflink(&mut temp, &blob) {
            hash_file(temp.file()?)?
        } else {
            let mut tee = Tee {
                file: temp.file()?,
                hasher: DigestFunction::Blake3.hasher(),
            };
            io::copy(&mut blob, &mut tee)?;
            tee.hasher.finish()
        };
        if written != *digest {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the blob changed while it was copied",
            ));
        }
        temp.seal(sync)?;
        platform::wait_for_writers(temp.reader()?);
        self.inner
            .publish_blob(digest, Kind::Executable, temp, sync)?;
        Ok(())
    }
}

/// Hashes what is written.
struct Tee<'a> {
    file: &'a mut File,
    hasher: vx_digest::Hasher,
}

impl io::Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn fill(file: &mut File, mut blob: File, executable: bool) -> io::Result<()> {
    if platform::reflink(&*file, &blob).is_err() {
        io::copy(&mut blob, file)?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(Kind::of(executable).mode()))?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MTIME.cast_unsigned()))
}
