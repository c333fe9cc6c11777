//! Makes a directory from a manifest, somewhere else.
//!
//! The destination is new or empty; everything is created relative to its descriptor, and what is created is never followed if it is a link, so nothing outside of it is touched.
//! Files are copies or clones, so whoever edits them edits their own; symbolic links into the store are made only on demand.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use vx_proto::Digest;

use crate::blobs::{Blobs, Projection, RootRequest};
use crate::error::Error;
use crate::ingest::Progress;
use crate::manifest::{Entry, Kind, Manifest, Time};
use crate::platform;
use crate::project::Project;

/// Blobs asked for at once.
const CHUNK: usize = 64;

/// How a file gets its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A symbolic link to the blob.
    Symlink,
    /// A file of its own that shares the blob's space until it is written to.
    Reflink,
    /// A file of its own.
    Copy,
}

/// How to link.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkOptions {
    /// What to make; clones where the file system has them and copies elsewhere when `None`.
    pub how: Option<How>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Linked {
    /// What the files are.
    pub how: How,
    /// Why that was chosen, for the user.
    pub why: String,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Makes `destination` what `manifest` says.
///
/// # Errors
/// When a blob is not there or the destination is not empty or cannot be written.
/// What was made by then is removed again.
pub fn link(
    manifest: &Manifest,
    blobs: &dyn Blobs,
    destination: &Path,
    options: &LinkOptions,
    progress: &dyn Progress,
) -> Result<Linked, Error> {
    let started = Instant::now();
    if options.how == Some(How::Symlink)
        && let Projection::Refused { why } = blobs.projection()
    {
        return Err(Error::Refused(format!(
            "symbolic links into the store are refused: {why}"
        )));
    }
    let created = prepare(destination)?;
    let result = fill(manifest, blobs, destination, options, progress);
    if result.is_err() {
        // The error that matters is the one before.
        let _ignored = empty(destination, created);
    }
    let (how, why) = result?;
    let (files, bytes) = manifest.totals();
    Ok(Linked {
        how,
        why,
        files,
        bytes,
        elapsed: started.elapsed(),
    })
}

/// Makes the destination; returns whether it was new.
fn prepare(destination: &Path) -> Result<bool, Error> {
    match fs::DirBuilder::new().mode(0o700).create(destination) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create", destination)(error)),
    }
    let metadata = fs::symlink_metadata(destination).map_err(Error::io("look at", destination))?;
    let is_empty = metadata.is_dir()
        && fs::read_dir(destination)
            .map_err(Error::io("list", destination))?
            .next()
            .is_none();
    if is_empty {
        Ok(false)
    } else {
        Err(Error::Refused(format!(
            "`{}` is there and is not an empty directory",
            destination.display()
        )))
    }
}

fn empty(destination: &Path, created: bool) -> io::Result<()> {
    if created {
        return fs::remove_dir_all(destination);
    }
    for entry in fs::read_dir(destination)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn fill(
    manifest: &Manifest,
    blobs: &dyn Blobs,
    destination: &Path,
    options: &LinkOptions,
    progress: &dyn Progress,
) -> Result<(How, String), Error> {
    let (files, bytes) = manifest.totals();
    progress.expect(files, bytes);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(destination, flags, Mode::empty())
        .map_err(Error::os("open", destination))?;
    let site = Site {
        root: root.as_fd(),
        blobs,
        progress,
        clones: AtomicBool::new(options.how != Some(How::Copy)),
        must_clone: options.how == Some(How::Reflink),
    };
    for entry in manifest.entries() {
        if entry.kind == Kind::Directory && !entry.path.is_empty() {
            let (parent, name) = site.parent(&entry.path)?;
            rustix::fs::mkdirat(&parent, name, Mode::RWXU)
                .map_err(Error::os("create", OsStr::from_bytes(&entry.path)))?;
        }
    }
    let listed: Vec<(&Entry, &Digest)> = manifest.files().collect();
    if options.how == Some(How::Symlink) {
        site.point(&listed)?;
        keep_projections(manifest, blobs, destination)?;
    } else {
        site.make_files(&listed)?;
    }
    for entry in manifest.entries() {
        if let Kind::Symlink(target) = &entry.kind {
            site.symlink(&entry.path, target, entry.mtime)?;
        }
    }
    // Children first: making them moves the times of their parents.
    for entry in manifest.entries().iter().rev() {
        if entry.kind == Kind::Directory {
            site.settle_directory(entry)?;
        }
    }
    Ok(match options.how {
        Some(how) => (how, "as asked".to_owned()),
        None if site.clones.load(Ordering::Relaxed) && files > 0 => {
            (How::Reflink, "the file system has clones".to_owned())
        }
        None => (
            How::Copy,
            "the file system has no clones of files in the store".to_owned(),
        ),
    })
}

/// Notes, as for a project whose files were replaced, that these links need their blobs.
fn keep_projections(
    manifest: &Manifest,
    blobs: &dyn Blobs,
    destination: &Path,
) -> Result<(), Error> {
    let project = Project::open(destination)?;
    let _locked = project.lock()?;
    let bytes = manifest.encode();
    let digest = blobs.put_bytes(&bytes)?.digest;
    project.write_journal(&blobs.id(), &bytes)?;
    project.write_manifest(&bytes)?;
    blobs.register(&RootRequest {
        path: project.path().to_owned(),
        manifest: digest,
        device: project.device()?,
        phantom: true,
    })
}

/// A destination that is being filled.
struct Site<'a> {
    root: BorrowedFd<'a>,
    blobs: &'a dyn Blobs,
    progress: &'a dyn Progress,
    /// Whether clones are worth trying.
    clones: AtomicBool,
    must_clone: bool,
}

impl Site<'_> {
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), Error> {
        open_parent(self.root, path)
    }

    fn make_files(&self, files: &[(&Entry, &Digest)]) -> Result<(), Error> {
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

    fn point(&self, files: &[(&Entry, &Digest)]) -> Result<(), Error> {
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

    fn symlink(&self, path: &[u8], target: &[u8], mtime: Time) -> Result<(), Error> {
        let shown = OsStr::from_bytes(path);
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name)
            .map_err(Error::os("create", shown))?;
        rustix::fs::utimensat(&parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::os("set the time of", shown))
    }

    fn settle_directory(&self, entry: &Entry) -> Result<(), Error> {
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
