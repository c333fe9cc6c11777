//! Puts the content of a directory into a store; the files stay as they are.
//!
//! 1. List the directory; files whose stamp is known are not read.
//! 2. Store the content of the others, in groups that are durable when they are answered.
//!    A file whose stamp is another one afterwards is read again, a few times.
//! 3. Register the manifest: only then is everything kept, and the store checks that everything is there.
//! 4. Write the manifest and the stat cache into `.vrift`.
//!
//! Ended at any moment, the project is as before, and the next ingest goes on.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cas_store::{Source, Sources};
use rustix::fs::AtFlags;
use vx_proto::Digest;

use crate::access::Beneath;
use crate::blobs::{Blobs, RootRequest};
use crate::error::Error;
use crate::manifest::{Entry, Kind, Manifest};
use crate::project::Project;
use crate::scan::{ScannedFile, Skipped, permissions, scan};
use crate::stamp::{Stamp, StatCache, mtime};

/// How often a file that changes is read.
const READINGS: usize = 3;
/// How often blobs that are gone at registration are stored again.
const REGISTRATIONS: usize = 16;
/// Files that are named because they changed or could not be read; all are counted.
const MAX_NAMED: usize = 1000;

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

/// A file that has to be read, and what came of it.
struct Reading {
    file: ScannedFile,
    /// The state in which it was opened last.
    opened: Option<Stamp>,
    digest: Option<Digest>,
}

impl Reading {
    fn of(file: ScannedFile) -> Reading {
        Reading {
            file,
            opened: None,
            digest: None,
        }
    }
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
        let request = RootRequest {
            path: project.path().to_owned(),
            manifest: digest,
            device: project.device()?,
            phantom,
        };
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

struct Run<'a> {
    blobs: &'a dyn Blobs,
    beneath: Beneath<'a>,
    progress: &'a dyn Progress,
    report: Ingested,
    new: HashSet<Digest>,
}

impl<'a> Run<'a> {
    fn new(
        blobs: &'a dyn Blobs,
        beneath: Beneath<'a>,
        progress: &'a dyn Progress,
        skipped: Vec<Skipped>,
    ) -> Run<'a> {
        Run {
            blobs,
            beneath,
            progress,
            report: Ingested {
                skipped,
                ..Ingested::default()
            },
            new: HashSet::new(),
        }
    }

    /// The report of a run whose manifest is stored as `digest`.
    fn finish(self, manifest: &Manifest, digest: Digest, started: Instant) -> Ingested {
        let (files, bytes) = manifest.totals();
        Ingested {
            files,
            bytes,
            unique: manifest.digests().len() as u64,
            new: self.new.len() as u64,
            new_bytes: self.new.iter().map(|digest| digest.size).sum(),
            manifest: Some(digest),
            elapsed: started.elapsed(),
            ..self.report
        }
    }

    /// Reads files until each was read without changing meanwhile, or changed too often.
    fn read_all(&mut self, readings: &mut [Reading]) -> Result<(), Error> {
        let bytes = readings.iter().map(|r| r.file.stat.st_size as u64).sum();
        self.progress.expect(readings.len() as u64, bytes);
        let mut pending: Vec<&mut Reading> = readings.iter_mut().collect();
        for round in 0..READINGS {
            self.read_once(&mut pending)?;
            pending = self.unsettled(pending)?;
            if pending.is_empty() {
                return Ok(());
            }
            if round + 1 == READINGS {
                self.report.changed.extend(
                    pending
                        .iter()
                        .take(MAX_NAMED)
                        .map(|reading| PathBuf::from(OsStr::from_bytes(&reading.file.path))),
                );
            }
        }
        Ok(())
    }

    /// Those that are no longer as they were when they were opened; those that are gone drop out.
    fn unsettled<'r>(
        &mut self,
        readings: Vec<&'r mut Reading>,
    ) -> Result<Vec<&'r mut Reading>, Error> {
        let mut unsettled = Vec::new();
        for reading in readings {
            let path = OsStr::from_bytes(&reading.file.path);
            let stat = match rustix::fs::statat(self.beneath.dir, path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                    reading.digest = None;
                    continue;
                }
                Err(error) => return Err(Error::os("look at", path)(error)),
            };
            let now = Stamp::of(&stat);
            if rustix::fs::FileType::from_raw_mode(stat.st_mode)
                != rustix::fs::FileType::RegularFile
            {
                reading.digest = None;
                self.report.skipped.push(Skipped {
                    path: path.into(),
                    why: "no longer a regular file".to_owned(),
                });
                continue;
            }
            let settled = reading.opened == Some(now);
            reading.file.stat = stat;
            reading.file.stamp = now;
            if !settled {
                unsettled.push(reading);
            }
        }
        Ok(unsettled)
    }

    /// Reads each file once.
    fn read_once(&mut self, readings: &mut [&mut Reading]) -> Result<(), Error> {
        let count = readings.len();
        let opening = Opening {
            paths: readings.iter().map(|r| shown(&r.file.path)).collect(),
            sizes: readings
                .iter()
                .map(|r| r.file.stat.st_size as u64)
                .collect(),
            beneath: self.beneath,
            progress: self.progress,
            stamps: Mutex::new(vec![None; count]),
        };
        let answers = self.blobs.put(&opening);
        let stamps = opening
            .stamps
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        for ((reading, answer), stamp) in readings.iter_mut().zip(answers?).zip(stamps) {
            reading.opened = stamp;
            reading.digest = match answer {
                Ok(put) => {
                    self.new.extend(put.new.then_some(put.digest));
                    Some(put.digest)
                }
                // Gone, or replaced by something else; the look afterwards finds which.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        || error.raw_os_error() == Some(libc::ELOOP) =>
                {
                    None
                }
                Err(error) => return Err(Error::io("read", shown(&reading.file.path))(error)),
            };
        }
        self.report.read += count as u64;
        Ok(())
    }

    /// Registers the manifest; what the store has lost meanwhile is stored again from the files.
    fn register(
        &mut self,
        manifest: &Manifest,
        bytes: &[u8],
        request: &RootRequest,
    ) -> Result<(), Error> {
        let mut _held = None;
        for _ in 0..REGISTRATIONS {
            // The manifest is no content of the user's, so it is not counted.
            self.blobs.put_bytes(bytes)?;
            let missing: HashSet<Digest> = match self.blobs.register(request) {
                Err(Error::Missing(missing)) => missing.into_iter().collect(),
                // The manifest itself was collected in between.
                Err(Error::Absent { digest, .. }) if digest == request.manifest => HashSet::new(),
                result => return result,
            };
            // Once is bad luck; a second time must not be.
            _held = self.blobs.hold()?;
            self.store_again(manifest, &missing)?;
        }
        Err(Error::Refused(
            "blobs disappear from the store as fast as they are stored".to_owned(),
        ))
    }

    fn store_again(&mut self, manifest: &Manifest, missing: &HashSet<Digest>) -> Result<(), Error> {
        let mut wanted = missing.clone();
        let mut sources: Vec<(Vec<u8>, Digest)> = Vec::new();
        for (entry, digest) in manifest.files() {
            if wanted.remove(digest) {
                sources.push((entry.path.clone(), *digest));
            }
        }
        let opening = Opening {
            paths: sources.iter().map(|(path, _)| shown(path)).collect(),
            sizes: vec![0; sources.len()],
            beneath: self.beneath,
            progress: &(),
            stamps: Mutex::new(vec![None; sources.len()]),
        };
        let answers = self.blobs.put(&opening)?;
        self.report.read += sources.len() as u64;
        for ((path, digest), answer) in sources.iter().zip(answers) {
            match answer {
                Ok(put) if put.digest == *digest => {
                    self.new.extend(put.new.then_some(*digest));
                }
                // A projection whose blob is gone, or a file that changed under a stamp of the past.
                _ => {
                    return Err(Error::Absent {
                        digest: *digest,
                        path: shown(path).display().to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Files of a directory, opened when their turn comes.
struct Opening<'a> {
    paths: Vec<&'a Path>,
    /// What they have for the progress that is told.
    sizes: Vec<u64>,
    beneath: Beneath<'a>,
    progress: &'a dyn Progress,
    /// The state in which each was opened.
    stamps: Mutex<Vec<Option<Stamp>>>,
}

impl Sources for Opening<'_> {
    fn count(&self) -> usize {
        self.paths.len()
    }

    fn open(&self, index: usize) -> io::Result<Source<'_>> {
        if self.progress.cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.progress.advance(1, self.sizes[index]);
        let name = self.paths[index];
        let (file, stamp) = self.beneath.open(name.as_os_str().as_bytes())?;
        let mut stamps = self
            .stamps
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        stamps[index] = Some(stamp);
        Ok(Source {
            file,
            size: stamp.size(),
            name,
        })
    }
}

fn shown(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
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
