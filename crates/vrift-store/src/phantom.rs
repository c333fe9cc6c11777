//! Replaces the files of a project by symbolic links to their blobs.
//!
//! Nothing is replaced before all of this is on disk: every blob, the registered manifest, and the journal `.vrift/phantom`.
//! Then, for each file:
//!
//! 1. A link is made in `.vrift/tmp` and exchanged with the file, in one step of the file system.
//! 2. The file, which nobody can open by its name any more, must be what was stored: same inode and times, no writer, same hash.
//!    Otherwise the two are exchanged back.
//! 3. The file is removed.
//!
//! Ended at any moment, each path is the file or a link to its blob; [`recover`] finishes or undoes the one step that was under way.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use vx_digest::{Digest, DigestFunction};

use crate::blobs::{Blobs, Projection};
use crate::error::Error;
use crate::ingest::{IngestOptions, Ingested, Progress, ingest_locked};
use crate::manifest::{Entry, Kind, Manifest};
use crate::platform;
use crate::project::{OWN, Project};
use crate::scan::Skipped;
use crate::site::{open_parent, times};
use crate::stamp::Stamp;

/// What was replaced.
#[derive(Clone, Debug)]
pub struct Phantom {
    /// The ingest before it.
    pub ingested: Ingested,
    /// Files that are links now.
    pub replaced: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were left as they are, and why.
    pub kept: Vec<Skipped>,
}

/// Ingests a project and replaces its files; see the module's documentation.
///
/// # Errors
/// When links into the store are refused, or anything could not be stored; nothing is replaced then.
pub fn phantom(
    project: &Project,
    blobs: &dyn Blobs,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Phantom, Error> {
    if let Projection::Refused { why } = blobs.projection() {
        return Err(Error::Refused(format!(
            "files cannot be replaced by links into the store: {why}"
        )));
    }
    project.is_apart_from(blobs)?;
    let locked = project.lock()?;
    recover(project, blobs)?;
    let (ingested, known) = ingest_locked(project, &locked, blobs, options, progress)?;
    let manifest = project.manifest()?.ok_or_else(|| {
        Error::io("read", project.manifest_path())(io::ErrorKind::NotFound.into())
    })?;
    let bytes = manifest.encode();
    blobs.register(&project.root_request(Digest::of(&bytes), true)?)?;
    project.write_journal(&blobs.id(), &bytes)?;
    let mut report = Phantom {
        ingested,
        replaced: 0,
        bytes: 0,
        kept: Vec::new(),
    };
    let known = known
        .iter()
        .map(|(path, stamp, _)| (path.as_slice(), *stamp))
        .collect();
    let scratch = project.scratch()?;
    let working = Working::begin(&scratch)?;
    for (index, entry) in manifest.entries().iter().enumerate() {
        let Kind::File(digest) = &entry.kind else {
            continue;
        };
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let file = Replacement {
            project,
            entry,
            digest,
            link: scratch.join(format!("n{index}")),
        };
        match file.replace(blobs, &known)? {
            Ok(()) => {
                report.replaced += 1;
                report.bytes += digest.size;
            }
            Err(why) if !why.is_empty() => report.kept.push(Skipped {
                path: PathBuf::from(OsStr::from_bytes(&entry.path)),
                why: why.to_owned(),
            }),
            Err(_) => {}
        }
    }
    settle_directories(project, &manifest)?;
    working.end()?;
    Ok(report)
}

/// A mark that names are being exchanged, which moves the times of directories; whoever finds it sets them back.
pub(crate) struct Working(PathBuf);

impl Working {
    const NAME: &str = "working";

    pub(crate) fn begin(scratch: &Path) -> Result<Working, Error> {
        let path = scratch.join(Working::NAME);
        File::create(&path).map_err(Error::io("create", &path))?;
        Ok(Working(path))
    }

    pub(crate) fn end(self) -> Result<(), Error> {
        fs::remove_file(&self.0).map_err(Error::io("remove", &self.0))
    }
}

/// Directories get the times back that exchanging names has moved.
pub(crate) fn settle_directories(project: &Project, manifest: &Manifest) -> Result<(), Error> {
    for entry in manifest.entries().iter().rev() {
        if entry.path.is_empty() {
            let _ignored = rustix::fs::futimens(project.dir(), &times(entry.mtime));
        } else if entry.kind == Kind::Directory {
            let (parent, name) = match open_parent(project.dir(), &entry.path) {
                Ok(found) => found,
                // The user has removed it meanwhile.
                Err(_) => continue,
            };
            let _ignored = rustix::fs::utimensat(
                &parent,
                name,
                &times(entry.mtime),
                AtFlags::SYMLINK_NOFOLLOW,
            );
        }
    }
    Ok(())
}

/// One file that is being replaced.
struct Replacement<'a> {
    project: &'a Project,
    entry: &'a Entry,
    digest: &'a Digest,
    /// Where the link waits, and after the exchange the file.
    link: PathBuf,
}

impl Replacement<'_> {
    /// The inner error says why the file stays; it is empty when there is nothing to say.
    fn replace(
        &self,
        blobs: &dyn Blobs,
        known: &HashMap<&[u8], Stamp>,
    ) -> Result<Result<(), &'static str>, Error> {
        let Some(stamp) = known.get(self.entry.path.as_slice()) else {
            // It is a projection already, or changes all the time and was reported as such.
            return Ok(Err(""));
        };
        if self.digest.size == 0 {
            return Ok(Err(""));
        }
        if is_of_vrift(&self.entry.path) {
            return Ok(Err("vrift notes there what it knows of a directory"));
        }
        let (parent, name) = open_parent(self.project.dir(), &self.entry.path)?;
        if let Err(why) = is_replaceable(&parent, name) {
            return Ok(Err(why));
        }
        let executable = self.entry.mode & 0o111 != 0;
        let target = blobs
            .blob_path(self.digest, executable)?
            .ok_or_else(|| Error::Absent {
                digest: *self.digest,
                path: String::from_utf8_lossy(&self.entry.path).into_owned(),
            })?;
        let failed = || Error::os("replace", OsStr::from_bytes(&self.entry.path));
        rustix::fs::symlinkat(&target, CWD, &self.link).map_err(failed())?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, &self.link, &times(self.entry.mtime), flags).map_err(failed())?;
        match platform::exchange(CWD, &self.link, &parent, Path::new(name)) {
            Ok(()) => {}
            Err(error) => {
                fs::remove_file(&self.link).map_err(Error::io("remove", &self.link))?;
                return match error {
                    rustix::io::Errno::XDEV => Ok(Err("on another file system")),
                    rustix::io::Errno::NOENT => Ok(Err("it is gone")),
                    rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                        Ok(Err("its directory cannot be written"))
                    }
                    error => Err(failed()(error)),
                };
            }
        }
        if is_as_stored(&self.link, self.digest, Some(stamp)) {
            fs::remove_file(&self.link).map_err(Error::io("remove", &self.link))?;
            return Ok(Ok(()));
        }
        // Somebody has it open for writing, or wrote to it: it goes back to its place.
        platform::exchange(CWD, &self.link, &parent, Path::new(name)).map_err(failed())?;
        fs::remove_file(&self.link).map_err(Error::io("remove", &self.link))?;
        Ok(Err("in use by somebody who may write to it"))
    }
}

/// Whether the file is in the `.vrift` of a directory below, which is written to and must not become a link.
fn is_of_vrift(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/')
        .any(|name| name == OWN.as_bytes())
}

/// Whether restoring can make the file again exactly.
fn is_replaceable(parent: &OwnedFd, name: &OsStr) -> Result<(), &'static str> {
    let gone = "it is gone";
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| gone)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(gone);
    }
    if stat.st_nlink != 1 {
        return Err("it has several hard links");
    }
    if stat.st_mode & 0o7000 != 0 {
        return Err("it has special permission bits");
    }
    if stat.st_mode & 0o400 == 0 {
        return Err("its owner may not read it");
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user");
    }
    let above = rustix::fs::fstat(parent).map_err(|_| gone)?;
    let group = if above.st_mode & 0o2000 != 0 {
        above.st_gid
    } else {
        rustix::process::getegid().as_raw()
    };
    if stat.st_gid != group {
        return Err("it belongs to another group");
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|_| gone)?;
    if platform::has_attributes(&File::from(file)) {
        return Err("it has extended attributes");
    }
    Ok(())
}

/// Whether the file at `path`, which has no other name, has the content that was stored and keeps it.
fn is_as_stored(path: &Path, digest: &Digest, stamp: Option<&Stamp>) -> bool {
    let check = || -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stamp.is_none_or(|stamp| stamp.same_content(&Stamp::of(&stat)));
        // First the writers: who is not there now cannot come later.
        Ok(same && !platform::has_writers(&file) && hash(file)? == *digest)
    };
    check().unwrap_or(false)
}

fn hash(mut file: File) -> io::Result<Digest> {
    let mut hasher = DigestFunction::Blake3.hasher();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Finishes or undoes what a process that was killed had under way.
///
/// In `.vrift/tmp`, `w…` is a copy of a blob that is being written, `n…` a link that waits or a file that it replaced, `r…` a copy that waits or what it replaced.
///
/// # Errors
/// When a file cannot be put where it belongs; it is left where it is then.
pub(crate) fn recover(project: &Project, blobs: &dyn Blobs) -> Result<(), Error> {
    let scratch = project.scratch()?;
    let journal = project.journal(&blobs.id())?;
    let working = scratch.join(Working::NAME);
    let was_working = working.exists();
    for item in fs::read_dir(&scratch).map_err(Error::io("list", &scratch))? {
        let item = item.map_err(Error::io("list", &scratch))?;
        let path = item.path();
        let kind = item.file_type().map_err(Error::io("look at", &path))?;
        let name = item.file_name().to_string_lossy().into_owned();
        if name == Working::NAME {
            continue;
        }
        let entry = name
            .get(1..)
            .and_then(|index| index.parse::<usize>().ok())
            .and_then(|index| journal.as_ref()?.entries().get(index));
        if kind.is_file() && !name.starts_with('w') {
            let hashed = File::open(&path).and_then(hash);
            let digest = hashed.map_err(Error::io("read", &path))?;
            let stored = is_as_stored(&path, &digest, None)
                && blobs.open(&[digest])?.first().is_some_and(Option::is_some);
            if !stored {
                put_back(project, &path, entry)?;
                continue;
            }
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    if was_working {
        if let Some(journal) = &journal {
            settle_directories(project, journal)?;
        }
        fs::remove_file(&working).map_err(Error::io("remove", &working))?;
    }
    Ok(())
}

/// A file with content that no blob has takes the place of the link that replaced it.
fn put_back(project: &Project, path: &Path, entry: Option<&Entry>) -> Result<(), Error> {
    let Some(entry) = entry else {
        return Err(Error::Refused(format!(
            "`{}` is a file of this project whose place is not known; move it to where it belongs",
            path.display()
        )));
    };
    let shown = OsStr::from_bytes(&entry.path);
    let (parent, name) = open_parent(project.dir(), &entry.path)?;
    platform::exchange(CWD, path, &parent, Path::new(name))
        .map_err(Error::os("put back", shown))?;
    let metadata = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
    if metadata.is_symlink() {
        return fs::remove_file(path).map_err(Error::io("remove", path));
    }
    // The user has put something there meanwhile; it stays, and so does what was to be put back.
    platform::exchange(CWD, path, parent.as_fd(), Path::new(name))
        .map_err(Error::os("put back", shown))?;
    Err(Error::Refused(format!(
        "`{}` is an earlier `{}`, which has been replaced since; move it to where it belongs",
        path.display(),
        shown.to_string_lossy()
    )))
}
