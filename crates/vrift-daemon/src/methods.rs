//! The methods, as `PROTOCOL.md` describes them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use serde_json::{Map, Value, json};
use vrift_store::{Blobs, CheckOptions, CollectOptions, RootRequest, Source, Sources};
use vx_digest::Digest;

use crate::audit;
use crate::fault::{Code, Fault};
use crate::ingest::ingest;
use crate::metrics::Metrics;
use crate::params::{absolute, digest, flag, number};
use crate::platform;
use crate::rpc::Request;
use crate::session::{Outcome, Session};
use crate::status::status_of;
use crate::wire::MAX_FDS;

/// Version of the protocol; it changes when an old client would misunderstand.
const PROTOCOL: u64 = 1;
/// Calls the method.
pub(crate) fn dispatch(session: &Session, request: &Request, fds: Vec<OwnedFd>) -> Outcome {
    let params = &request.params;
    let outcome = match request.method.as_str() {
        "version" => Ok((version(session), Vec::new())),
        "status" => status(session).map(plain),
        "put" => put(session, fds).map(plain),
        "register" => register(session, params).map(plain),
        "root" => root(session, params).map(plain),
        "roots" => roots(session).map(plain),
        "forget" => forget(session, params).map(plain),
        "ingest" => ingest(session, request, fds).map(plain),
        "link" => link(session, params),
        "fetch" => fetch(session, params),
        "gc" => gc(session, params).map(plain),
        "verify" => verify(session).map(plain),
        other => Err(Fault::new(
            Code::Method,
            format!("there is no method `{}`", other.escape_debug()),
        )),
    };
    if matches!(
        request.method.as_str(),
        "put" | "register" | "forget" | "ingest" | "gc" | "verify"
    ) {
        let result = outcome
            .as_ref()
            .map(|_| ())
            .map_err(|fault| fault.code.number());
        audit::write(&session.caller, &request.method, detail(params), result);
    }
    outcome
}

fn plain(value: Value) -> (Value, Vec<OwnedFd>) {
    (value, Vec::new())
}

/// What the audit line says of the parameters.
fn detail(params: &Map<String, Value>) -> Value {
    let mut detail = Map::new();
    for name in [
        "path",
        "manifest",
        "tier",
        "mode",
        "dry_run",
        "max_size",
        "older_than",
        "fds",
    ] {
        if let Some(value) = params.get(name) {
            detail.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(detail)
}

fn version(session: &Session) -> Value {
    let home = &session.server.home;
    json!({
        "service": "vrift-daemon",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
        "store": home.store().root(),
        "store_id": vx_digest::hex::encode(&home.id()),
    })
}

fn status(session: &Session) -> Result<Value, Fault> {
    let server = &session.server;
    let own = session.caller.uid;
    let mut status = status_of(&server.home, "daemon", |user| {
        session.is_admin() || user.uid == own
    })?;
    for user in status["users"].as_array_mut().into_iter().flatten() {
        user["quota"] = json!(server.config.quota);
    }
    Ok(status)
}

/// A regular file that the caller has open for reading.
fn readable(fd: OwnedFd) -> io::Result<Source<'static>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    let stat = rustix::fs::fstat(&fd)?;
    let refused = |why: &'static str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if flags.intersects(platform::NAMES_ONLY) || flags & OFlags::RWMODE == OFlags::WRONLY {
        return refused("the descriptor is not open for reading");
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refused("the descriptor is no regular file");
    }
    Ok(Source {
        file: File::from(fd),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        name: Path::new("a descriptor"),
    })
}

/// Descriptors that came with a request.
struct Brought {
    fds: Vec<Mutex<Option<OwnedFd>>>,
}

impl Sources for Brought {
    fn count(&self) -> usize {
        self.fds.len()
    }

    fn open(&self, index: usize) -> io::Result<Source<'_>> {
        let fd = self.fds[index]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
            .ok_or(io::ErrorKind::NotFound)?;
        readable(fd)
    }
}

fn put(session: &Session, fds: Vec<OwnedFd>) -> Result<Value, Fault> {
    if fds.is_empty() {
        return Err(Fault::params("there are no descriptors of files to store"));
    }
    let brought = Brought {
        fds: fds.into_iter().map(|fd| Mutex::new(Some(fd))).collect(),
    };
    let blobs: Vec<Value> = session
        .blobs()
        .put(&brought)?
        .into_iter()
        .map(|answer| match answer {
            Ok(put) => json!({ "digest": put.digest.to_string(), "new": put.new }),
            Err(error) => json!({ "error": error.to_string() }),
        })
        .collect();
    Ok(json!({ "blobs": blobs }))
}

fn register(session: &Session, params: &Map<String, Value>) -> Result<Value, Fault> {
    let request = RootRequest {
        path: absolute(params)?,
        manifest: digest(params.get("manifest").unwrap_or(&Value::Null))?,
        device: number(params, "device")?.unwrap_or(0),
        phantom: false,
    };
    if flag(params, "phantom")? {
        return Err(Fault::params("files cannot be links into this store"));
    }
    session.blobs().register(&request)?;
    Ok(json!({}))
}

fn root(session: &Session, params: &Map<String, Value>) -> Result<Value, Fault> {
    let path = absolute(params)?;
    let blobs = session.blobs();
    let manifest = blobs.root_manifest(&path)?;
    let whole = match &manifest {
        Some(manifest) => blobs.has_root(&path, manifest)?,
        None => false,
    };
    Ok(json!({ "manifest": manifest.map(|digest| digest.to_string()), "whole": whole }))
}

fn roots(session: &Session) -> Result<Value, Fault> {
    let roots = session.server.home.roots_of(session.caller.uid)?;
    // An answer has to fit into a line.
    let mut room: usize = 900_000;
    let roots: Vec<Value> = roots
        .iter()
        .map(|root| {
            json!({
                "path": root.request.path,
                "device": root.request.device,
                "manifest": root.request.manifest.to_string(),
                "registered": root.registered,
            })
        })
        .take_while(|root| {
            let size = root.to_string().len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        })
        .collect();
    Ok(json!({ "roots": roots }))
}

fn forget(session: &Session, params: &Map<String, Value>) -> Result<Value, Fault> {
    let path = absolute(params)?;
    let kept = session.server.home.forget(session.caller.uid, &path)?;
    session.forget_kept();
    Ok(json!({ "kept": kept }))
}

/// Checks that the caller may have these blobs; what it may not have is as absent as what is not there.
fn allowed(session: &Session, params: &Map<String, Value>) -> Result<Vec<(Digest, bool)>, Fault> {
    let list = params
        .get("digests")
        .and_then(Value::as_array)
        .ok_or_else(|| Fault::params("`digests` is missing or no list"))?;
    if list.len() > MAX_FDS {
        return Err(Fault::params(format!("more than {MAX_FDS} digests")));
    }
    list.iter()
        .map(|value| {
            let digest = digest(value)?;
            Ok((digest, session.has(&digest)?))
        })
        .collect()
}

fn fetch(session: &Session, params: &Map<String, Value>) -> Outcome {
    let wanted = allowed(session, params)?;
    let mut found = Vec::with_capacity(wanted.len());
    let mut fds = Vec::new();
    for (digest, may) in wanted {
        let blob = if may {
            session
                .server
                .home
                .open(&[digest])?
                .into_iter()
                .next()
                .flatten()
        } else {
            None
        };
        found.push(blob.is_some());
        fds.extend(blob.map(OwnedFd::from));
    }
    Ok((json!({ "found": found }), fds))
}

/// The manifest to make a directory from; its files are fetched.
fn link(session: &Session, params: &Map<String, Value>) -> Outcome {
    let manifest = match params.get("manifest") {
        Some(value) => digest(value)?,
        None => {
            let path = absolute(params)?;
            session.blobs().root_manifest(&path)?.ok_or_else(|| {
                Fault::new(Code::Absent, format!("`{}` is not kept", path.display()))
            })?
        }
    };
    let absent = || Fault::new(Code::Absent, format!("there is no manifest `{manifest}`"));
    if !session.has(&manifest)? {
        return Err(absent());
    }
    let (files, bytes) = session.server.home.manifest(&manifest)?.totals();
    let blob = session
        .server
        .home
        .open(&[manifest])?
        .into_iter()
        .next()
        .flatten();
    let blob = blob.ok_or_else(absent)?;
    let result = json!({ "manifest": manifest.to_string(), "files": files, "bytes": bytes });
    Ok((result, vec![blob.into()]))
}

fn gc(session: &Session, params: &Map<String, Value>) -> Result<Value, Fault> {
    let only = if session.is_admin() && !flag(params, "own")? {
        None
    } else {
        Some(session.caller.uid)
    };
    let report = session.server.home.collect(&CollectOptions {
        only,
        max_bytes: number(params, "max_size")?,
        older_than: Duration::from_secs(number(params, "older_than")?.unwrap_or(3600)),
        dry_run: flag(params, "dry_run")?,
        stale_of: None,
        without: Some((session.caller.uid, without(params)?)),
    })?;
    if !flag(params, "dry_run")? {
        Metrics::add(&session.server.metrics.collected, report.blobs);
    }
    Ok(json!({
        "blobs": report.blobs,
        "bytes_freed": report.bytes_freed,
        "bytes_kept": report.bytes_kept,
        "in_use": report.in_use,
        "temporary": report.temporary,
        "quarantined": report.quarantined,
    }))
}

/// Roots of the caller that a dry run is to see as forgotten.
fn without(params: &Map<String, Value>) -> Result<Vec<PathBuf>, Fault> {
    match params.get("without") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(paths)) => paths
            .iter()
            .map(|path| path.as_str().map(PathBuf::from))
            .collect::<Option<_>>()
            .ok_or_else(|| Fault::params("`without` is no list of paths")),
        Some(_) => Err(Fault::params("`without` is no list of paths")),
    }
}

fn verify(session: &Session) -> Result<Value, Fault> {
    if !session.is_admin() {
        return Err(Fault::denied(
            "only root and users whom the daemon has as `--admin` may have every byte of the store read",
        ));
    }
    let report = session.server.home.check(&CheckOptions::default())?;
    Metrics::add(&session.server.metrics.damaged, report.quarantined);
    Ok(json!({
        "blobs": report.blobs,
        "bytes": report.bytes,
        "quarantined": report.quarantined,
        "names": report.names,
        "missing": report.missing_count,
    }))
}
