//! Looks at every blob and every root; finds what is damaged or missing, and stores it again where a file still has it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cas_store::{Source, Sources};
use vx_digest::Digest;

use crate::access::Beneath;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::home::Home;
use crate::manifest::Manifest;
use crate::project::Project;
use crate::scan::scan;

/// Files that are named; all are counted.
const MAX_NAMED: usize = 1000;

/// What to check.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Whose directories are looked at for what is missing; nobody's when `None`.
    pub repair_from: Option<u32>,
    /// Directories that may have what is missing, besides those of the roots.
    pub sources: Vec<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Blobs whose content is right.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are damaged or foreign, and were moved to quarantine.
    pub quarantined: u64,
    /// Their names, relative to the store; at most a thousand.
    pub names: Vec<String>,
    /// Blobs that a root keeps and that are not there, with a path that needs them; at most a thousand.
    pub missing: Vec<(Digest, PathBuf)>,
    /// Their number.
    pub missing_count: u64,
    /// Blobs that were missing and are there again.
    pub repaired: u64,
}

impl Home {
    /// Hashes everything, quarantines what is damaged, and finds what is missing.
    ///
    /// # Errors
    /// When the store cannot be walked or a root cannot be read.
    pub fn check(&self, options: &CheckOptions) -> Result<CheckReport, Error> {
        let verified = self.store.verify()?;
        let mut report = CheckReport {
            blobs: verified.blobs,
            bytes: verified.bytes,
            quarantined: verified.quarantined,
            names: verified.names,
            ..CheckReport::default()
        };
        let mut missing = self.missing(options, &mut report)?;
        if options.repair_from.is_some() {
            self.repair(&mut missing, options, &mut report)?;
        }
        report.missing_count = missing.len() as u64;
        report.missing = missing.into_iter().take(MAX_NAMED).collect();
        report.missing.sort();
        Ok(report)
    }

    /// What roots keep and the store has not; a manifest that is missing is made again from its project first.
    fn missing(
        &self,
        options: &CheckOptions,
        report: &mut CheckReport,
    ) -> Result<HashMap<Digest, PathBuf>, Error> {
        let mut missing = HashMap::new();
        for uid in self.roots.users()? {
            for root in self.roots.of(uid)? {
                let digest = root.request.manifest;
                let path = &root.request.path;
                if !self.store.has_file(&digest)? {
                    let manifest = (options.repair_from == Some(uid))
                        .then(|| Project::open(path).ok()?.manifest().ok()?)
                        .flatten()
                        .map(|manifest| manifest.encode())
                        .filter(|bytes| Digest::of(bytes) == digest);
                    match manifest {
                        Some(bytes) => {
                            self.store.put_bytes(&digest, &bytes)?;
                            report.repaired += 1;
                        }
                        None => {
                            missing.insert(digest, path.join(".vrift/manifest.bin"));
                            continue;
                        }
                    }
                }
                let manifest = self.manifest(&digest)?;
                for (entry, digest) in manifest.files() {
                    if !missing.contains_key(digest) && !self.store.has_file(digest)? {
                        missing.insert(*digest, path.join(OsStr::from_bytes(&entry.path)));
                    }
                }
            }
        }
        Ok(missing)
    }

    fn repair(
        &self,
        missing: &mut HashMap<Digest, PathBuf>,
        options: &CheckOptions,
        report: &mut CheckReport,
    ) -> Result<(), Error> {
        for root in self
            .roots
            .of(options.repair_from.unwrap_or(self.options.uid))?
        {
            let Ok(project) = Project::open(&root.request.path) else {
                continue;
            };
            let Ok(manifest) = self.manifest(&root.request.manifest) else {
                continue;
            };
            self.repair_from(&project, &manifest, missing, report)?;
        }
        for source in &options.sources {
            if missing.is_empty() {
                break;
            }
            let project = Project::open(source)?;
            let beneath = Beneath::own(project.dir());
            for file in scan(beneath.dir, beneath.reader)?.files {
                let size = u64::try_from(file.stat.st_size).unwrap_or(0);
                if missing.keys().any(|digest| digest.size == size) {
                    self.offer(beneath, &file.path, missing, report)?;
                }
            }
        }
        Ok(())
    }

    fn repair_from(
        &self,
        project: &Project,
        manifest: &Manifest,
        missing: &mut HashMap<Digest, PathBuf>,
        report: &mut CheckReport,
    ) -> Result<(), Error> {
        let beneath = Beneath::own(project.dir());
        for (entry, digest) in manifest.files() {
            if missing.contains_key(digest) {
                self.offer(beneath, &entry.path, missing, report)?;
            }
        }
        Ok(())
    }

    /// Stores a file if it is one of those that are missing.
    fn offer(
        &self,
        beneath: Beneath<'_>,
        path: &[u8],
        missing: &mut HashMap<Digest, PathBuf>,
        report: &mut CheckReport,
    ) -> Result<(), Error> {
        // A projection is not followed, so a damaged blob is no source of itself.
        let Ok((file, _)) = beneath.open(path) else {
            return Ok(());
        };
        let shown = PathBuf::from(OsStr::from_bytes(path));
        if !missing.contains_key(&hash(&file).map_err(Error::io("read", &shown))?) {
            return Ok(());
        }
        for put in self.put(&One(file, shown))?.into_iter().flatten() {
            if missing.remove(&put.digest).is_some() {
                report.repaired += 1;
            }
        }
        Ok(())
    }
}

/// A file that is offered.
struct One(File, PathBuf);

impl Sources for One {
    fn count(&self) -> usize {
        1
    }

    fn open(&self, _index: usize) -> std::io::Result<Source<'_>> {
        Ok(Source {
            size: self.0.metadata()?.len(),
            file: self.0.try_clone()?,
            name: &self.1,
        })
    }
}

fn hash(file: &File) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut reader = std::io::BufReader::with_capacity(256 << 10, file);
    let size = std::io::copy(&mut reader, &mut hasher)?;
    Ok(Digest {
        hash: *hasher.finalize().as_bytes(),
        size,
    })
}
