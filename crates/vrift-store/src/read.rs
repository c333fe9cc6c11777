//! Reads the files of a directory into a store, and insists that each was read as it is.
//!
//! It knows neither projects nor stat caches.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use cas_store::{Source, Sources, in_parts};
use rustix::fs::AtFlags;
use vx_digest::Digest;

use crate::access::Beneath;
use crate::blobs::{Blobs, RootRequest};
use crate::error::Error;
use crate::ingest::{Ingested, Progress};
use crate::manifest::Manifest;
use crate::scan::{ScannedFile, Skipped};
use crate::stamp::Stamp;

/// How often a file that changes is read.
const READINGS: usize = 3;
/// How often blobs that are gone at registration are stored again.
const REGISTRATIONS: usize = 16;
/// Fewer files than this are not worth a thread when they are only looked at.
const PER_THREAD: usize = 512;
/// Files that are named because they changed or could not be read; all are counted.
const MAX_NAMED: usize = 1000;

/// A file that has to be read, and what came of it.
pub(crate) struct Reading {
    pub(crate) file: ScannedFile,
    /// The state in which it was opened last.
    pub(crate) opened: Option<Stamp>,
    pub(crate) digest: Option<Digest>,
}

impl Reading {
    pub(crate) fn of(file: ScannedFile) -> Reading {
        Reading {
            file,
            opened: None,
            digest: None,
        }
    }
}

/// An ingest while it reads and registers.
pub(crate) struct Run<'a> {
    blobs: &'a dyn Blobs,
    beneath: Beneath<'a>,
    progress: &'a dyn Progress,
    pub(crate) report: Ingested,
    new: HashSet<Digest>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
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
    pub(crate) fn finish(self, manifest: &Manifest, digest: Digest, started: Instant) -> Ingested {
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
    pub(crate) fn read_all(&mut self, readings: &mut [Reading]) -> Result<(), Error> {
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
        let dir = self.beneath.dir;
        let looks = in_parts(readings, PER_THREAD, |part| -> Vec<_> {
            let look = |reading: &Reading| {
                let path = OsStr::from_bytes(&reading.file.path);
                rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)
            };
            part.into_iter()
                .map(|reading| (look(reading), reading))
                .collect()
        });
        let mut unsettled = Vec::new();
        for (look, reading) in looks.into_iter().flatten() {
            let path = OsStr::from_bytes(&reading.file.path);
            let stat = match look {
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
    pub(crate) fn register(
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
        let paths = sources.iter().map(|(path, _)| shown(path)).collect();
        let opening = Opening::of(paths, self.beneath);
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
pub(crate) struct Opening<'a> {
    paths: Vec<&'a Path>,
    /// What they have for the progress that is told.
    sizes: Vec<u64>,
    beneath: Beneath<'a>,
    progress: &'a dyn Progress,
    /// The state in which each was opened.
    stamps: Mutex<Vec<Option<Stamp>>>,
}

impl<'a> Opening<'a> {
    /// Files whose progress nobody wants to know.
    pub(crate) fn of(paths: Vec<&'a Path>, beneath: Beneath<'a>) -> Opening<'a> {
        Opening {
            sizes: vec![0; paths.len()],
            stamps: Mutex::new(vec![None; paths.len()]),
            paths,
            beneath,
            progress: &(),
        }
    }
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

pub(crate) fn shown(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
