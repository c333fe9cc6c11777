//! Lists a directory without reading any content.
//!
//! Directories are opened relative to their parents and symbolic links are never followed, so the listing is of what lies beneath the directory and nothing else.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::access::Reader;
use crate::error::Error;
use crate::manifest::{Entry, Kind, MAX_ENTRIES, MAX_PATH};
use crate::stamp::{Stamp, mtime};

/// Directories within directories that are listed; each level holds a descriptor.
const MAX_DEPTH: usize = 256;
/// Things left out that are named; all are counted by the caller's eyes.
const MAX_SKIPPED: usize = 1000;

/// What lies in a directory.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Directories and symbolic links, whole.
    pub others: Vec<Entry>,
    /// Regular files; their digests are not known yet.
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
    let mut scanned = Scanned::default();
    let stat = rustix::fs::fstat(root).map_err(Error::os("look at", "."))?;
    reader
        .directory(root, &stat)
        .map_err(Error::io("list", "."))?;
    scanned.others.push(entry(b"", &stat, Kind::Directory));
    list(root, b"", reader, 0, &mut scanned)?;
    Ok(scanned)
}

fn list(
    dir: BorrowedFd<'_>,
    prefix: &[u8],
    reader: &dyn Reader,
    depth: usize,
    scanned: &mut Scanned,
) -> Result<(), Error> {
    let failed = |task| Error::os(task, OsStr::from_bytes(prefix));
    if depth > MAX_DEPTH {
        return Err(failed("list")(Errno::NAMETOOLONG));
    }
    let mut names = Vec::new();
    for item in rustix::fs::Dir::read_from(dir).map_err(failed("list"))? {
        let item = item.map_err(failed("list"))?;
        let name = item.file_name().to_bytes();
        let ours = depth == 0 && name == b".vrift";
        if name != b"." && name != b".." && !ours {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    for name in names {
        let mut path = prefix.to_owned();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(&name);
        visit(dir, &name, path, reader, depth, scanned)?;
    }
    Ok(())
}

fn visit(
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: Vec<u8>,
    reader: &dyn Reader,
    depth: usize,
    scanned: &mut Scanned,
) -> Result<(), Error> {
    let name = OsStr::from_bytes(name);
    let shown = PathBuf::from(OsStr::from_bytes(&path));
    let failed = |task| Error::os(task, &shown);
    if path.len() > MAX_PATH || scanned.others.len() + scanned.files.len() >= MAX_ENTRIES {
        return Err(failed("take")(Errno::NAMETOOLONG));
    }
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        // It went while we looked.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => scanned.files.push(ScannedFile {
            stamp: Stamp::of(&stat),
            path,
            stat,
        }),
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below: OwnedFd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                Ok(below) => below,
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(failed("list")(error)),
            };
            let stat = rustix::fs::fstat(&below).map_err(failed("look at"))?;
            reader
                .directory(below.as_fd(), &stat)
                .map_err(Error::io("list", &shown))?;
            scanned.others.push(entry(&path, &stat, Kind::Directory));
            list(below.as_fd(), &path, reader, depth + 1, scanned)?;
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed("read"))?;
            scanned
                .others
                .push(entry(&path, &stat, Kind::Symlink(target.into_bytes())));
        }
        _ if scanned.skipped.len() < MAX_SKIPPED => scanned.skipped.push(Skipped {
            path: shown,
            why: "neither file, directory nor symbolic link".to_owned(),
        }),
        _ => {}
    }
    Ok(())
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
    (stat.st_mode & 0o7777) as u16
}
