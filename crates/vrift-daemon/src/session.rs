//! One connection: reads requests, answers them one after another, and remembers what its caller proved to have.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use vrift_store::{Batch, Error, Home};
use vx_digest::Digest;

use crate::caller::Caller;
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::kept::Kept;
use crate::lent::{Brought, SessionBlobs};
use crate::methods;
use crate::metrics::Metrics;
use crate::platform;
use crate::rpc::{self, Incoming, Request};
use crate::wire::{Channel, MAX_FDS};

/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A caller who does not take the answers for so long is gone.
const SLOW: Duration = Duration::from_secs(60);

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
    kept: Kept,
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
            kept: Kept::default(),
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
        self.kept.forget();
        platform::give_back();
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

    /// Roots have changed.
    pub(crate) fn forget_kept(&self) {
        self.kept.forget();
    }

    /// Whether the caller has shown that it has this content.
    pub(crate) fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(digest.is_empty()
            || self.server.config.public_digests
            || lock(&self.brought).contains(digest)
            || self
                .kept
                .get(&self.server.home, self.caller.uid)?
                .contains(digest))
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
            used: Mutex::default(),
            free: Mutex::default(),
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
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
