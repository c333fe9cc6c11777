//! Puts the content of a directory into a store; the files stay as they are.
//!
//! 1. List the directory; files whose stamp is known are not read.
//! 2. Store the content of the others, in groups that are durable when they are answered.
//!    A file whose stamp is another one afterwards is read again, a few times.
//! 3. Register the manifest: only then is everything kept, and the store checks that everything is there.
//! 4. Write the manifest and the stat cache into `.vrift`.
//!
//! Ended at any moment, the project is as before, and the next ingest goes on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vx_digest::Digest;

use crate::access::Beneath;
use crate::blobs::{Blobs, RootRequest};
use crate::error::Error;
use crate::manifest::{Entry, Kind, Manifest};
use crate::project::Project;
use crate::read::{Reading, Run, shown};
use crate::scan::{ScannedFile, Skipped, permissions, scan};
use crate::stamp::{Stamp, StatCache, mtime};

/// What is told while it happens; every method may be called from several threads.
pub trait Progress: Sync {
    /// So many files with so many bytes have to be read.
    fn expect(&self, files: u64, bytes: u64);
    /// So many more are done.
    fn advance(&self, files: u64, bytes: u64);
    /// Whether to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
impl Progress for () {
    fn expect(&self, _files: u64, _bytes: u64) {}
    fn advance(&self, _files: u64, _bytes: u64) {}
}

/// How to ingest.
#[derive(Clone, Copy, Debug, Default)]
pub struct IngestOptions {
    /// Read everything, whatever the stat cache says.
    pub ignore_cache: bool,
}

/// What was ingested.
#[derive(Clone, Debug, Default)]
pub struct Ingested {
    /// Regular files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Distinct contents among them.
    pub unique: u64,
    /// Contents that the store did not have before.
    pub new: u64,
    /// Bytes of those.
    pub new_bytes: u64,
    /// Files whose content was read.
    pub read: u64,
    /// The manifest.
    pub manifest: Option<Digest>,
    /// What is not part of it.
    pub skipped: Vec<Skipped>,
    /// Files that changed each time they were read; the manifest has the last reading.
    pub changed: Vec<PathBuf>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Ingests a project; see the module's documentation.
///
/// # Errors
/// When anything could not be read or stored; nothing is registered then.
pub fn ingest(
    project: &Project,
    blobs: &dyn Blobs,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Ingested, Error> {
    project.is_apart_from(blobs)?;
    let locked = project.lock()?;
    ingest_locked(project, &locked, blobs, options, progress).map(|(report, _)| report)
}

/// The path, state and content of each file whose content is in the store.
pub(crate) type Known = Vec<(Vec<u8>, Stamp, Digest)>;

pub(crate) fn ingest_locked(
    project: &Project,
    locked: &crate::project::Locked,
    blobs: &dyn Blobs,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<(Ingested, Known), Error> {
    let started = Instant::now();
    let before = locked.now()?;
    let beneath = Beneath::own(project.dir());
    // What is known of the last time is read while the directory is listed.
    let ((old, cache), scanned) = std::thread::scope(|scope| {
        let last_time = scope.spawn(|| {
            let cache = if options.ignore_cache {
                StatCache::default()
            } else {
                project.stat_cache(&blobs.id())
            };
            (project.manifest().unwrap_or_default(), cache)
        });
        let scanned = scan(beneath.dir, beneath.reader);
        match last_time.join() {
            Ok(last_time) => (last_time, scanned),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let mut scanned = scanned?;
    let phantom = project.is_phantom();
    if phantom {
        crate::phantom::recover(project, blobs)?;
        undo_projections(&mut scanned.others, project, blobs)?;
    }
    let mut found = Known::with_capacity(scanned.files.len());
    let mut readings = Vec::new();
    let mut entries = scanned.others;
    for file in scanned.files {
        match cache.get(&file.path, &file.stamp) {
            Some(digest) => {
                entries.push(file_entry(&file, digest));
                found.push((file.path, file.stamp, digest));
            }
            None => readings.push(Reading::of(file)),
        }
    }
    let mut run = Run::new(blobs, beneath, progress, scanned.skipped);
    run.read_all(&mut readings)?;
    for reading in readings {
        if let (Some(digest), Some(stamp)) = (reading.digest, reading.opened) {
            entries.push(file_entry(&reading.file, digest));
            found.push((reading.file.path, stamp, digest));
        }
    }
    let manifest = Manifest::new(entries).map_err(|source| Error::Manifest {
        path: project.manifest_path(),
        source,
    })?;
    let bytes = manifest.encode();
    let digest = Digest::of(&bytes);
    let unchanged = old.as_ref() == Some(&manifest) && blobs.has_root(project.path(), &digest)?;
    if !unchanged {
        let request = project.root_request(digest, phantom)?;
        run.register(&manifest, &bytes, &request)?;
        project.write_manifest(&bytes)?;
    }
    if !unchanged || run.report.read > 0 {
        let mut cache = StatCache::default();
        for (path, stamp, digest) in &found {
            // One that changed all the time is read again next time, whatever its stamp.
            if !run
                .report
                .changed
                .iter()
                .any(|changed| changed == shown(path))
            {
                cache.insert(path, stamp, digest, before);
            }
        }
        project.write_stat_cache(&cache, &blobs.id())?;
    }
    let report = run.finish(&manifest, digest, started);
    found.retain(|(path, ..)| !report.changed.iter().any(|changed| changed == shown(path)));
    Ok((report, found))
}

fn file_entry(file: &ScannedFile, digest: Digest) -> Entry {
    Entry {
        path: file.path.clone(),
        mode: permissions(&file.stat),
        mtime: mtime(&file.stat),
        kind: Kind::File(digest),
    }
}

/// In a project of projections, links into the store stand for the files they were.
fn undo_projections(
    others: &mut [Entry],
    project: &Project,
    blobs: &dyn Blobs,
) -> Result<(), Error> {
    let journal = project.journal(&blobs.id())?;
    let was: HashMap<&[u8], &Entry> = journal
        .iter()
        .flat_map(Manifest::entries)
        .map(|entry| (entry.path.as_slice(), entry))
        .collect();
    for entry in others {
        let Kind::Symlink(target) = &entry.kind else {
            continue;
        };
        let Some((digest, executable)) = blobs.digest_of(shown(target)) else {
            continue;
        };
        match was.get(entry.path.as_slice()) {
            Some(file) if file.kind == Kind::File(digest) => *entry = (*file).clone(),
            // One that was moved since: it has the content, and the mode that its name says.
            _ => {
                entry.kind = Kind::File(digest);
                entry.mode = if executable { 0o755 } else { 0o644 };
            }
        }
    }
    Ok(())
}

/// Ingests a directory that is no project of this process: everything is read, and nothing is written there.
///
/// `path` is the name under which it is kept.
///
/// # Errors
/// As [`ingest`], and what the reader of `beneath` refuses.
pub fn ingest_beneath(
    beneath: Beneath<'_>,
    path: &Path,
    blobs: &dyn Blobs,
    progress: &dyn Progress,
) -> Result<Ingested, Error> {
    let started = Instant::now();
    let scanned = scan(beneath.dir, beneath.reader)?;
    let mut readings: Vec<Reading> = scanned.files.into_iter().map(Reading::of).collect();
    let mut run = Run::new(blobs, beneath, progress, scanned.skipped);
    run.read_all(&mut readings)?;
    let mut entries = scanned.others;
    for reading in &readings {
        if let Some(digest) = reading.digest {
            entries.push(file_entry(&reading.file, digest));
        }
    }
    let manifest = Manifest::new(entries).map_err(|source| Error::Manifest {
        path: path.to_owned(),
        source,
    })?;
    let bytes = manifest.encode();
    let digest = Digest::of(&bytes);
    let device = rustix::fs::fstat(beneath.dir).map_err(Error::os("look at", path))?;
    let request = RootRequest {
        path: path.to_owned(),
        manifest: digest,
        device: device.st_dev as u64,
        phantom: false,
    };
    run.register(&manifest, &bytes, &request)?;
    Ok(run.finish(&manifest, digest, started))
}
