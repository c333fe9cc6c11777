//! Makes files again of the links that [`phantom`](crate::phantom) put in their places: same content, mode and time.
//!
//! Copies are written in `.vrift/tmp`, synced in groups, and exchanged with the links; a link is removed after its file is on disk.
//! Links that the user moved are made files where they are now, and files that the user put in the place of links stay.
//! Ended at any moment, each path is a link or a whole file, and restoring again goes on.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use vx_digest::Digest;

use crate::access::Beneath;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::ingest::Progress;
use crate::manifest::{Entry, Kind, Manifest};
use crate::phantom::{Working, recover, settle_directories};
use crate::platform;
use crate::project::Project;
use crate::scan::scan;
use crate::site::{copy, finish, open_parent};

/// Files in one sync.
const GROUP: usize = 512;

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Links that are files again.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links whose blobs are not in the store; they stay links.
    pub missing: Vec<PathBuf>,
}

/// A link, and the file that it is to become.
struct Projected {
    path: Vec<u8>,
    target: Vec<u8>,
    digest: Digest,
    entry: Entry,
}

/// Restores a project; see the module's documentation.
///
/// # Errors
/// When the project has no projections, or a file cannot be written; what was restored by then stays.
pub fn restore(
    project: &Project,
    blobs: &dyn Blobs,
    progress: &dyn Progress,
) -> Result<Restored, Error> {
    if !project.is_phantom() {
        return Err(Error::Refused(format!(
            "`{}` has no files that were replaced",
            project.path().display()
        )));
    }
    let _locked = project.lock()?;
    recover(project, blobs)?;
    let journal = project.journal(&blobs.id())?.ok_or_else(|| {
        Error::io("read", project.own_dir().join("phantom"))(io::ErrorKind::NotFound.into())
    })?;
    let links = projections(project, blobs, &journal)?;
    let bytes = links.iter().map(|link| link.digest.size).sum();
    progress.expect(links.len() as u64, bytes);
    let scratch = project.scratch()?;
    let working = Working::begin(&scratch)?;
    let mut report = Restored::default();
    for (round, group) in links.chunks(GROUP).enumerate() {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let written = write_group(group, round * GROUP, &scratch, blobs, &mut report)?;
        cas_store::sync_file_system(project.dir()).map_err(Error::io("sync", project.path()))?;
        for (link, ready) in written {
            if exchange(project, link, &ready)? {
                report.files += 1;
                report.bytes += link.digest.size;
            }
            progress.advance(1, link.digest.size);
        }
    }
    settle_directories(project, &journal)?;
    working.end()?;
    cas_store::sync_file_system(project.dir()).map_err(Error::io("sync", project.path()))?;
    if report.missing.is_empty() {
        finish_project(project, blobs)?;
    }
    Ok(report)
}

/// From now on the files are the user's, and the store keeps the manifest as of any other project.
fn finish_project(project: &Project, blobs: &dyn Blobs) -> Result<(), Error> {
    project.remove_journal()?;
    if let Some(manifest) = blobs.root_manifest(project.path())? {
        blobs.register(&project.root_request(manifest, false)?)?;
    }
    Ok(())
}

/// All links into the store beneath the project.
fn projections(
    project: &Project,
    blobs: &dyn Blobs,
    journal: &Manifest,
) -> Result<Vec<Projected>, Error> {
    let was: HashMap<&[u8], &Entry> = journal
        .entries()
        .iter()
        .map(|entry| (entry.path.as_slice(), entry))
        .collect();
    let beneath = Beneath::own(project.dir());
    let scanned = scan(beneath.dir, beneath.reader)?;
    let mut links = Vec::new();
    for link in scanned.others {
        let Kind::Symlink(target) = &link.kind else {
            continue;
        };
        let Some((digest, executable)) = blobs.digest_of(Path::new(OsStr::from_bytes(target)))
        else {
            continue;
        };
        let entry = match was.get(link.path.as_slice()) {
            Some(entry) if entry.kind == Kind::File(digest) => (*entry).clone(),
            // A link that the user had before, to a file that happens to be a blob.
            Some(entry) if entry.kind == link.kind => continue,
            _ => Entry {
                mode: if executable { 0o755 } else { 0o644 },
                kind: Kind::File(digest),
                ..link.clone()
            },
        };
        links.push(Projected {
            path: link.path,
            target: target.clone(),
            digest,
            entry,
        });
    }
    Ok(links)
}

/// Writes the files of a group; a blob that is not there is noted and keeps no other file back.
fn write_group<'l>(
    group: &'l [Projected],
    first: usize,
    scratch: &Path,
    blobs: &dyn Blobs,
    report: &mut Restored,
) -> Result<Vec<(&'l Projected, PathBuf)>, Error> {
    let digests: Vec<Digest> = group.iter().map(|link| link.digest).collect();
    let mut written = Vec::new();
    for (start, (links, digests)) in group.chunks(64).zip(digests.chunks(64)).enumerate() {
        let opened = blobs.open(digests)?;
        for (offset, (link, blob)) in links.iter().zip(opened).enumerate() {
            let Some(blob) = blob else {
                report.missing.push(OsStr::from_bytes(&link.path).into());
                continue;
            };
            let number = first + start * 64 + offset;
            let path = scratch.join(format!("w{number}"));
            let ready = scratch.join(format!("r{number}"));
            let write = || -> io::Result<()> {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                copy(&mut file, blob, &link.digest)?;
                finish(&file, link.entry.mode, link.entry.mtime)
            };
            let result = write().and_then(|()| fs::rename(&path, &ready));
            if let Err(source) = result {
                let _ignored = fs::remove_file(&path);
                return Err(Error::io("write", OsStr::from_bytes(&link.path))(source));
            }
            written.push((link, ready));
        }
    }
    Ok(written)
}

/// Puts a file in the place of its link; returns whether the link was still there.
fn exchange(project: &Project, link: &Projected, ready: &Path) -> Result<bool, Error> {
    let shown = OsStr::from_bytes(&link.path);
    let (parent, name) = open_parent(project.dir(), &link.path)?;
    match platform::exchange(CWD, ready, &parent, Path::new(name)) {
        Ok(()) => {}
        // Removed by the user meanwhile.
        Err(rustix::io::Errno::NOENT) => {
            fs::remove_file(ready).map_err(Error::io("remove", ready))?;
            return Ok(false);
        }
        Err(error) => return Err(Error::os("restore", shown)(error)),
    }
    let is_link = fs::read_link(ready).is_ok_and(|is| is.as_os_str().as_bytes() == link.target);
    if !is_link {
        // The user put something there meanwhile: it stays.
        platform::exchange(CWD, ready, &parent, Path::new(name))
            .map_err(Error::os("restore", shown))?;
    }
    fs::remove_file(ready).map_err(Error::io("remove", ready))?;
    Ok(is_link)
}
