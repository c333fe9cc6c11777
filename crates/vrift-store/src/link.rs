//! Makes a directory from a manifest, somewhere else.
//!
//! The destination is new or empty; everything is created relative to its descriptor, and what is created is never followed if it is a link, so nothing outside of it is touched.
//! Files are copies or clones, so whoever edits them edits their own; symbolic links into the store are made only on demand.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use vx_digest::Digest;

use crate::blobs::{Blobs, Projection};
use crate::error::Error;
use crate::ingest::Progress;
use crate::manifest::{Entry, Kind, Manifest};
use crate::project::{OWN, Project};
use crate::site::Site;

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

/// There as long as the destination is not whole, so that nobody takes what an interrupted run left for the tree.
const UNFINISHED: &str = ".vrift/unfinished";

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
    is_outside(destination, blobs)?;
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

/// Checks that the destination is not among the files of the store.
fn is_outside(destination: &Path, blobs: &dyn Blobs) -> Result<(), Error> {
    let above = match destination.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    // Where that is no directory, the destination cannot be made either, and that says why.
    let (Some(place), Ok(above)) = (blobs.place(), fs::canonicalize(above)) else {
        return Ok(());
    };
    let place = fs::canonicalize(place).map_err(Error::io("look at", place))?;
    if above.starts_with(&place) {
        return Err(Error::Refused(format!(
            "`{}` lies in the store `{}`",
            destination.display(),
            place.display()
        )));
    }
    Ok(())
}

/// Makes the destination, and notes that it is not whole yet; returns whether it was new.
fn prepare(destination: &Path) -> Result<bool, Error> {
    let created = make(destination)?;
    let own = destination.join(OWN);
    let note = || match fs::DirBuilder::new().mode(0o700).create(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::create_new(destination.join(UNFINISHED)),
    };
    if let Err(error) = note() {
        // The error that matters is the one before.
        let _ignored = empty(destination, created);
        return Err(Error::io("write to", own)(error));
    }
    Ok(created)
}

/// The destination has everything; what a project keeps in its own directory stays.
fn finish(destination: &Path) -> Result<(), Error> {
    let note = destination.join(UNFINISHED);
    fs::remove_file(&note).map_err(Error::io("remove", note))?;
    let own = destination.join(OWN);
    match fs::remove_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
            Err(Error::io("remove", own)(error))
        }
        _ => Ok(()),
    }
}

fn make(destination: &Path) -> Result<bool, Error> {
    match fs::DirBuilder::new().mode(0o700).create(destination) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create", destination)(error)),
    }
    if destination.join(UNFINISHED).exists() {
        return Err(Error::Refused(format!(
            "`{}` is unfinished: another `vrift link` is at it, or was interrupted; in that case remove it and link again",
            destination.display()
        )));
    }
    let metadata = fs::symlink_metadata(destination).map_err(Error::io("look at", destination))?;
    let own = destination.join(OWN);
    // Whoever is killed before the note is written leaves its directory.
    let is_empty = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path() == own)
            && fs::read_dir(&own).is_ok_and(|mut names| names.next().is_none())
    };
    if metadata.is_dir()
        && fs::read_dir(destination)
            .map_err(Error::io("list", destination))?
            .all(is_empty)
    {
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
        site.make_files(&listed)
            .map_err(|error| without_clones(error, destination, options))?;
    }
    for entry in manifest.entries() {
        if let Kind::Symlink(target) = &entry.kind {
            site.symlink(&entry.path, target, entry.mtime)?;
        }
    }
    // Children first: making them moves the times of their parents.
    let directories = manifest.entries().iter().rev();
    let (below, root): (Vec<_>, Vec<_>) = directories
        .filter(|entry| entry.kind == Kind::Directory)
        .partition(|entry| !entry.path.is_empty());
    for entry in below {
        site.settle_directory(entry)?;
    }
    finish(destination)?;
    for entry in root {
        site.settle_directory(entry)?;
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

/// Says what is meant when the system refuses the clones that were asked for.
fn without_clones(error: Error, destination: &Path, options: &LinkOptions) -> Error {
    let refused = |source: &io::Error| {
        source.kind() == io::ErrorKind::Unsupported
            || matches!(
                Errno::from_io_error(source),
                Some(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::INVAL)
            )
    };
    match error {
        Error::Io { source, .. } if options.how == Some(How::Reflink) && refused(&source) => {
            Error::NoClones(destination.to_owned())
        }
        error => error,
    }
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
    blobs.register(&project.root_request(digest, true)?)
}
