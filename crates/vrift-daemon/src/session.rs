//! One connection: reads requests, answers them one after another, and remembers what its caller proved to have.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use vrift_store::manifest::Manifest;
use vrift_store::{Batch, Blobs, Error, Home, Projection, Put, RootRequest, Source, Sources};
use vx_proto::Digest;

use crate::caller::Caller;
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::methods;
use crate::metrics::Metrics;
use crate::rpc::{self, Incoming, Request};
use crate::wire::{Channel, MAX_FDS};

/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A caller who does not take the answers for so long is gone.
const SLOW: Duration = Duration::from_secs(60);

/// Fewer files than this are not worth a thread.
const FILES_PER_THREAD: usize = 16;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) home: Home,
    pub(crate) config: Config,
    /// Held while a root is checked against a quota and written.
    pub(crate) registering: Mutex<()>,
    pub(crate) metrics: Arc<Metrics>,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) server: Arc<Server>,
    pub(crate) caller: Caller,
    channel: Mutex<Channel>,
    /// What the caller stored over this connection.
    brought: Mutex<HashSet<Digest>>,
    /// What the caller's roots keep, once it was needed.
    kept: Mutex<Option<Arc<HashSet<Digest>>>>,
    /// What was brought and is not durable yet.
    batch: Batch,
}

/// The result of a method, and the descriptors that go with it.
pub(crate) type Outcome = Result<(Value, Vec<OwnedFd>), Fault>;

impl Session {
    pub(crate) fn new(server: Arc<Server>, caller: Caller, channel: Channel) -> Session {
        Session {
            batch: server.home.batch_of_blobs(),
            server,
            caller,
            channel: Mutex::new(channel),
            brought: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Serves until the caller closes the connection or breaks the protocol beyond repair.
    pub(crate) fn run(&self) -> io::Result<()> {
        {
            let channel = lock(&self.channel);
            channel.stream().set_read_timeout(Some(IDLE))?;
            channel.stream().set_write_timeout(Some(SLOW))?;
        }
        let result = self.converse();
        self.release();
        result
    }

    fn converse(&self) -> io::Result<()> {
        loop {
            let received = lock(&self.channel).receive();
            let line = match received {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let fault = match error.kind() {
                        ErrorKind::FileTooLarge => {
                            Fault::new(Code::Request, "the line is too long")
                        }
                        ErrorKind::InvalidData => Fault::new(Code::Request, error.to_string()),
                        // Idle, or gone in the middle of a line.
                        _ => return Ok(()),
                    };
                    return self.reply(&rpc::answer(&Value::Null, Err(fault)), &[]);
                }
            };
            self.handle(&line)?;
            lock(&self.channel).drop_unannounced();
        }
    }

    fn handle(&self, line: &[u8]) -> io::Result<()> {
        match rpc::parse(line) {
            Incoming::Nothing(fault) => self.reply(&rpc::answer(&Value::Null, Err(fault)), &[]),
            Incoming::One(Err(bad)) => self.reply(&rpc::answer(&bad.id, Err(bad.fault)), &[]),
            Incoming::One(Ok(request)) => {
                let outcome = self.call(&request);
                let Some(id) = &request.id else {
                    return Ok(());
                };
                let (outcome, fds) = split(outcome);
                self.reply(&rpc::answer(id, outcome), &fds)
            }
            Incoming::Batch(items) => {
                let mut answers = Vec::new();
                let mut fds = Vec::new();
                for item in items {
                    match item {
                        Err(bad) => answers.push(rpc::answer(&bad.id, Err(bad.fault))),
                        Ok(request) => {
                            let (mut outcome, new) = split(self.call(&request));
                            if fds.len() + new.len() > MAX_FDS {
                                outcome =
                                    Err(Fault::params("more descriptors than an answer may have"));
                            } else {
                                fds.extend(new);
                            }
                            answers.extend(request.id.as_ref().map(|id| rpc::answer(id, outcome)));
                        }
                    }
                }
                if answers.is_empty() {
                    return Ok(());
                }
                self.reply(&Value::Array(answers), &fds)
            }
        }
    }

    fn call(&self, request: &Request) -> Outcome {
        let metrics = &self.server.metrics;
        Metrics::add(&metrics.requests, 1);
        self.call_uncounted(request)
            .inspect_err(|_| Metrics::add(&metrics.faults, 1))
    }

    fn call_uncounted(&self, request: &Request) -> Outcome {
        let announced = match request.params.get("fds") {
            None => 0,
            Some(count) => count
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| *count <= MAX_FDS)
                .ok_or_else(|| Fault::params(format!("`fds` is no number up to {MAX_FDS}")))?,
        };
        let fds = lock(&self.channel).take_fds(announced);
        if fds.len() != announced {
            return Err(Fault::params(format!(
                "{announced} descriptors were announced and {} came",
                fds.len()
            )));
        }
        methods::dispatch(self, request, fds)
    }

    fn reply(&self, answer: &Value, fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        lock(&self.channel).send(answer.to_string().as_bytes(), &fds)
    }

    /// Tells how far a request is.
    pub(crate) fn notify(&self, id: &Value, files: u64, bytes: u64) {
        let line = json!({
            "jsonrpc": "2.0",
            "method": "progress",
            "params": { "id": id, "files": files, "bytes": bytes },
        });
        // A caller who is gone is noticed where the work asks for it.
        let _gone = self.reply(&line, &[]);
    }

    /// Whether the caller has closed the connection.
    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.channel).is_gone()
    }

    /// Whether the caller administers the store.
    pub(crate) fn is_admin(&self) -> bool {
        let uid = self.caller.uid;
        uid == 0
            || uid == rustix::process::geteuid().as_raw()
            || self.server.config.admin.contains(&uid)
    }

    /// What the caller's roots keep.
    pub(crate) fn kept(&self) -> Result<Arc<HashSet<Digest>>, Error> {
        let mut kept = lock(&self.kept);
        if let Some(kept) = &*kept {
            return Ok(Arc::clone(kept));
        }
        let fresh = Arc::new(self.server.home.kept_by(self.caller.uid)?);
        *kept = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Roots have changed.
    pub(crate) fn forget_kept(&self) {
        *lock(&self.kept) = None;
    }

    /// Whether the caller has shown that it has this content.
    pub(crate) fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(digest.is_empty()
            || self.server.config.public_digests
            || lock(&self.brought).contains(digest)
            || self.kept()?.contains(digest))
    }

    /// What this caller brought and no root keeps may go when the caller collects.
    fn release(&self) {
        // What is not visible yet goes by itself.
        self.batch.give_up();
        let brought = std::mem::take(&mut *lock(&self.brought));
        if brought.is_empty() {
            return;
        }
        let uid = self.caller.uid;
        let released = self.server.home.kept_by(uid).and_then(|kept| {
            let mut released = Vec::new();
            for digest in brought.difference(&kept) {
                if self.server.home.store().has_file(digest)? {
                    released.push(*digest);
                }
            }
            if released.is_empty() {
                return Ok(());
            }
            self.server.home.release_digests(uid, released)
        });
        if let Err(error) = released {
            crate::audit::note(&json!({ "error": error.to_string(), "uid": uid }));
        }
    }

    /// A store in which the caller brings and registers content.
    pub(crate) fn blobs(&self) -> SessionBlobs<'_> {
        SessionBlobs {
            server: &self.server,
            caller: self.caller,
            session: Brought {
                brought: &self.brought,
                kept: &self.kept,
                batch: &self.batch,
            },
            used: Mutex::new(None),
        }
    }
}

fn split(outcome: Outcome) -> (Result<Value, Fault>, Vec<OwnedFd>) {
    match outcome {
        Ok((mut result, fds)) => {
            if !fds.is_empty() {
                result["fds"] = json!(fds.len());
            }
            (Ok(result), fds)
        }
        Err(fault) => (Err(fault), Vec::new()),
    }
}

/// The tables are whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a caller brought and keeps.
struct Brought<'a> {
    brought: &'a Mutex<HashSet<Digest>>,
    kept: &'a Mutex<Option<Arc<HashSet<Digest>>>>,
    batch: &'a Batch,
}

/// The daemon's store as one caller may use it: with quotas, and for what the caller has shown to have.
pub(crate) struct SessionBlobs<'a> {
    server: &'a Server,
    caller: Caller,
    session: Brought<'a>,
    /// Bytes that count against the quota before this request.
    used: Mutex<Option<u64>>,
}

impl SessionBlobs<'_> {
    fn kept(&self) -> Result<Arc<HashSet<Digest>>, Error> {
        let mut kept = lock(self.session.kept);
        if let Some(kept) = &*kept {
            return Ok(Arc::clone(kept));
        }
        let fresh = Arc::new(self.server.home.kept_by(self.caller.uid)?);
        *kept = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Refuses what the quota or the disk has no room for, before a byte is written.
    fn check_room(&self, size: u64) -> Result<(), Error> {
        let config = &self.server.config;
        if size > config.max_blob {
            return Err(Error::Quota(format!(
                "a file of {size} bytes is larger than the {} bytes that are taken",
                config.max_blob
            )));
        }
        let space = rustix::fs::statvfs(self.server.home.path())
            .map_err(|errno| Error::Refused(format!("the store cannot be looked at: {errno}")))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < config.min_free.saturating_add(size) {
            return Err(Error::Put(vrift_store::PutError::NoSpace {
                subject: "the content of a file".to_owned(),
                needed: size,
                quota: false,
                source: ErrorKind::StorageFull.into(),
            }));
        }
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
        let known = self.kept()?.contains(&digest);
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
        let kept = Arc::new(home.kept_by(uid)?);
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
        *lock(self.session.kept) = None;
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
                digests.extend(home.manifest(&root.request.manifest)?.digests());
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
