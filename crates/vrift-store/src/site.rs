//! A destination that is being filled: directories, files with their content, links.
//!
//! Everything is created relative to descriptors, and no symbolic link is followed on the way.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use vx_digest::Digest;

use crate::blobs::Blobs;
use crate::error::Error;
use crate::ingest::Progress;
use crate::manifest::{Entry, Time};
use crate::platform;

/// Blobs asked for at once.
const CHUNK: usize = 64;

/// A destination that is being filled.
pub(crate) struct Site<'a> {
    pub(crate) root: BorrowedFd<'a>,
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) progress: &'a dyn Progress,
    /// Whether clones are worth trying.
    pub(crate) clones: AtomicBool,
    pub(crate) must_clone: bool,
}

impl Site<'_> {
    pub(crate) fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), Error> {
        open_parent(self.root, path)
    }

    pub(crate) fn make_files(&self, files: &[(&Entry, &Digest)]) -> Result<(), Error> {
        let Some((first, rest)) = files.split_first() else {
            return Ok(());
        };
        // The first one finds whether there are clones.
        self.make_chunk(std::slice::from_ref(first))?;
        let chunks: Vec<_> = rest.chunks(CHUNK).collect();
        let next = AtomicUsize::new(0);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
        let failed = |error| {
            next.store(chunks.len(), Ordering::Relaxed);
            let mut failure = failure
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            failure.get_or_insert(error);
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.min(chunks.len()) {
                scope.spawn(|| {
                    while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.make_chunk(chunk) {
                            return failed(error);
                        }
                    }
                });
            }
        });
        let failure = failure
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.map_or(Ok(()), Err)
    }

    fn make_chunk(&self, chunk: &[(&Entry, &Digest)]) -> Result<(), Error> {
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let digests: Vec<Digest> = chunk.iter().map(|(_, digest)| **digest).collect();
        let opened = self.blobs.open(&digests)?;
        // Files of one directory stand together.
        let mut parents: HashMap<&[u8], OwnedFd> = HashMap::new();
        for ((entry, digest), blob) in chunk.iter().zip(opened) {
            let shown = OsStr::from_bytes(&entry.path);
            let blob = blob.ok_or_else(|| Error::Absent {
                digest: **digest,
                path: shown.to_string_lossy().into_owned(),
            })?;
            let (above, name) = split(&entry.path);
            if !parents.contains_key(above) {
                parents.insert(above, self.parent(&entry.path)?.0);
            }
            let Some(parent) = parents.get(above) else {
                continue;
            };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(parent, name, flags, mode)
                .map_err(Error::os("create", shown))?;
            self.write(&mut File::from(file), blob, entry, digest)
                .map_err(Error::io("write", shown))?;
            self.progress.advance(1, digest.size);
        }
        Ok(())
    }

    fn write(&self, file: &mut File, blob: File, entry: &Entry, digest: &Digest) -> io::Result<()> {
        let cloned = digest.size > 0
            && self.clones.load(Ordering::Relaxed)
            && match platform::reflink(file, &blob) {
                Ok(()) => true,
                Err(error) if self.must_clone => return Err(error),
                Err(_) => {
                    self.clones.store(false, Ordering::Relaxed);
                    false
                }
            };
        if !cloned {
            copy(file, blob, digest)?;
        }
        // Rights of a user or group other than the reader's are not handed on.
        finish(file, entry.mode & 0o777, entry.mtime)
    }

    pub(crate) fn point(&self, files: &[(&Entry, &Digest)]) -> Result<(), Error> {
        for (entry, digest) in files {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let executable = entry.mode & 0o111 != 0;
            let target =
                self.blobs
                    .blob_path(digest, executable)?
                    .ok_or_else(|| Error::Absent {
                        digest: **digest,
                        path: String::from_utf8_lossy(&entry.path).into_owned(),
                    })?;
            self.symlink(&entry.path, target.as_os_str().as_bytes(), entry.mtime)?;
            self.progress.advance(1, digest.size);
        }
        Ok(())
    }

    pub(crate) fn symlink(&self, path: &[u8], target: &[u8], mtime: Time) -> Result<(), Error> {
        let shown = OsStr::from_bytes(path);
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name)
            .map_err(Error::os("create", shown))?;
        rustix::fs::utimensat(&parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::os("set the time of", shown))
    }

    pub(crate) fn settle_directory(&self, entry: &Entry) -> Result<(), Error> {
        let shown = OsStr::from_bytes(&entry.path);
        let failed = || Error::os("set mode and time of", shown);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = if entry.path.is_empty() {
            rustix::io::fcntl_dupfd_cloexec(self.root, 0).map_err(failed())?
        } else {
            platform::open_beneath(self.root, Path::new(shown), flags).map_err(failed())?
        };
        rustix::fs::fchmod(
            &dir,
            Mode::from_bits_truncate(u32::from(entry.mode & 0o1777) as _),
        )
        .map_err(failed())?;
        rustix::fs::futimens(&dir, &times(entry.mtime)).map_err(failed())
    }
}

/// Copies a blob and insists on its size.
pub(crate) fn copy(file: &mut File, mut blob: File, digest: &Digest) -> io::Result<()> {
    let copied = io::copy(&mut blob, file)?;
    if copied == digest.size {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Gives a file its mode and time, in this order, since nothing may be written afterwards.
pub(crate) fn finish(file: &File, mode: u16, mtime: Time) -> io::Result<()> {
    rustix::fs::fchmod(file, Mode::from_bits_truncate(u32::from(mode) as _))?;
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}

/// A modification time, with now as access time.
pub(crate) fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: i64::from(mtime.nanoseconds) as _,
        },
    }
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], OsStr::from_bytes(&path[slash + 1..])),
        None => (&[], OsStr::from_bytes(path)),
    }
}

/// Opens the directory that a path beneath `root` lies in.
pub(crate) fn open_parent<'p>(
    root: BorrowedFd<'_>,
    path: &'p [u8],
) -> Result<(OwnedFd, &'p OsStr), Error> {
    let (above, name) = split(path);
    let shown = OsStr::from_bytes(above);
    let failed = || Error::os("open", shown);
    let parent = if above.is_empty() {
        rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(failed())?
    } else {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        platform::open_beneath(root, Path::new(shown), flags).map_err(failed())?
    };
    Ok((parent, name))
}
