//! The daemon's store as one caller may use it: with quotas, and for what the caller has shown to have.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use vrift_store::manifest::Manifest;
use vrift_store::{Batch, Blobs, Error, Projection, Put, RootRequest, Source, Sources};
use vx_digest::Digest;

use crate::caller::Caller;
use crate::kept::Kept;
use crate::metrics::Metrics;
use crate::session::{Server, lock};

/// Fewer files than this are not worth a thread.
const FILES_PER_THREAD: usize = 16;

/// What a caller brought and keeps.
pub(crate) struct Brought<'a> {
    pub(crate) brought: &'a Mutex<HashSet<Digest>>,
    pub(crate) kept: &'a Kept,
    pub(crate) batch: &'a Batch,
}

/// The daemon's store as one caller may use it.
pub(crate) struct SessionBlobs<'a> {
    pub(crate) server: &'a Server,
    pub(crate) caller: Caller,
    pub(crate) session: Brought<'a>,
    /// Bytes that count against the quota before this request.
    pub(crate) used: Mutex<Option<u64>>,
    /// Bytes that the disk has room for, less what this request has brought since it was asked.
    pub(crate) free: Mutex<Option<u64>>,
}

impl SessionBlobs<'_> {
    /// Refuses what the quota or the disk has no room for, before a byte is written.
    fn check_room(&self, size: u64) -> Result<(), Error> {
        let config = &self.server.config;
        if size > config.max_blob {
            return Err(Error::Quota(format!(
                "a file of {size} bytes is larger than the {} bytes that are taken",
                config.max_blob
            )));
        }
        self.check_disk(size)?;
        let Some(quota) = config.quota else {
            return Ok(());
        };
        let mut used = lock(&self.used);
        let before = match *used {
            Some(before) => before,
            None => {
                let (usage, kept) = self.server.home.usage_of(self.caller.uid)?;
                let brought = lock(self.session.brought);
                let pending: u64 = brought.difference(&kept).map(|digest| digest.size).sum();
                usage.unique_bytes + usage.released_bytes + pending
            }
        };
        let after = before.saturating_add(size);
        *used = Some(after);
        if after > quota {
            return Err(Error::Quota(format!(
                "{after} bytes would be kept, and {quota} may be; `vrift forget` and `vrift gc` make room"
            )));
        }
        Ok(())
    }

    fn check_disk(&self, size: u64) -> Result<(), Error> {
        let mut free = lock(&self.free);
        let before = match *free {
            Some(free) => free,
            None => {
                let space = rustix::fs::statvfs(self.server.home.path()).map_err(|errno| {
                    Error::Refused(format!("the store cannot be looked at: {errno}"))
                })?;
                space.f_bavail.saturating_mul(space.f_frsize)
            }
        };
        if before < self.server.config.min_free.saturating_add(size) {
            return Err(Error::Put(vrift_store::PutError::NoSpace {
                subject: "the content of a file".to_owned(),
                needed: size,
                quota: false,
                source: ErrorKind::StorageFull.into(),
            }));
        }
        *free = Some(before - size);
        Ok(())
    }

    /// Writes the content of a file; one that cannot be read is the inner error.
    fn put_one(&self, opened: io::Result<Source<'_>>) -> Result<io::Result<Put>, Error> {
        let source = match opened {
            Ok(source) => source,
            Err(error) => return Ok(Err(error)),
        };
        self.check_room(source.size)?;
        let digest = match self.session.batch.add(source)? {
            Ok(digest) => digest,
            Err(error) => return Ok(Err(error)),
        };
        Metrics::add(&self.server.metrics.files, 1);
        Metrics::add(&self.server.metrics.bytes, digest.size);
        Ok(Ok(self.brought(digest)?))
    }

    fn brought(&self, digest: Digest) -> Result<Put, Error> {
        // What others have is nobody's business, so only what is new to the caller counts as new.
        let kept = self.session.kept.get(&self.server.home, self.caller.uid)?;
        let known = kept.contains(&digest);
        let first = lock(self.session.brought).insert(digest);
        Ok(Put {
            digest,
            new: first && !known,
        })
    }
}

impl Blobs for SessionBlobs<'_> {
    fn id(&self) -> [u8; 16] {
        self.server.home.id()
    }

    fn name(&self) -> String {
        self.server.home.name()
    }

    fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error> {
        let count = files.count();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        let threads = threads.min(count / FILES_PER_THREAD).max(1);
        let next = AtomicUsize::new(0);
        let take = || -> Result<Vec<(usize, io::Result<Put>)>, Error> {
            let mut answers = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(answers);
                }
                let put = self.put_one(files.open(index));
                // The others need not go on when nothing more can be stored.
                let put = put.inspect_err(|_| next.store(count, Ordering::Relaxed))?;
                answers.push((index, put));
            }
        };
        let parts = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
            let mut parts = vec![take()];
            for other in others {
                match other.join() {
                    Ok(part) => parts.push(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts
        });
        let mut answers = Vec::with_capacity(count);
        for part in parts {
            // What was brought may be what could not be made durable; it has to be brought again.
            answers.extend(part.inspect_err(|_| lock(self.session.brought).clear())?);
        }
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, put)| put).collect())
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error> {
        self.check_room(bytes.len() as u64)?;
        self.brought(self.server.home.put_bytes(bytes)?.digest)
    }

    fn register(&self, request: &RootRequest) -> Result<(), Error> {
        let home = &self.server.home;
        let uid = self.caller.uid;
        // What cannot be made durable is not registered; it has to be brought again.
        if let Err(error) = self.session.batch.commit() {
            lock(self.session.brought).clear();
            return Err(error);
        }
        let _turn = lock(&self.server.registering);
        let kept = home.kept_by(uid)?;
        let not_shown: Vec<Digest> = {
            let brought = lock(self.session.brought);
            let shown = |digest: &Digest| {
                digest.is_empty() || brought.contains(digest) || kept.contains(digest)
            };
            if !shown(&request.manifest) {
                return Err(Error::Missing(vec![request.manifest]));
            }
            let manifest = home.manifest(&request.manifest)?;
            let digests = manifest.digests();
            self.check_quota(request, &manifest)?;
            digests.into_iter().filter(|d| !shown(d)).collect()
        };
        if !not_shown.is_empty() {
            return Err(Error::Missing(not_shown));
        }
        let result = home.register_for(uid, request);
        self.session.kept.forget();
        result
    }

    fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error> {
        self.server
            .home
            .has_root_for(self.caller.uid, path, manifest)
    }

    fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error> {
        let root = self.server.home.root_of(self.caller.uid, path)?;
        Ok(root.map(|root| root.request.manifest))
    }

    fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error> {
        self.server.home.open(digests)
    }

    fn projection(&self) -> Projection {
        Projection::Refused {
            why: "content is private to those who have it".to_owned(),
        }
    }

    fn blob_path(&self, _digest: &Digest, _executable: bool) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    fn digest_of(&self, _target: &Path) -> Option<(Digest, bool)> {
        None
    }
}

impl SessionBlobs<'_> {
    /// What all roots would keep, the new one in the place of its predecessor.
    fn check_quota(&self, request: &RootRequest, manifest: &Manifest) -> Result<(), Error> {
        let Some(quota) = self.server.config.quota else {
            return Ok(());
        };
        let home = &self.server.home;
        let mut digests = manifest.digests();
        for root in home.roots_of(self.caller.uid)? {
            if root.request.path != request.path {
                match home.manifest(&root.request.manifest) {
                    Err(Error::Absent { .. }) => {}
                    manifest => digests.extend(manifest?.digests()),
                }
            }
        }
        let bytes: u64 = digests.iter().map(|digest| digest.size).sum();
        if bytes > quota {
            return Err(Error::Quota(format!(
                "{bytes} bytes would be kept, and {quota} may be"
            )));
        }
        Ok(())
    }
}
