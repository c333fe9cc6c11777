//! The method `ingest`: a directory that the caller has open, or may read by its path.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use serde_json::{Value, json};
use vrift_store::{Beneath, Progress, ingest_beneath};

use crate::fault::{Code, Fault};
use crate::params::absolute;
use crate::rpc::Request;
use crate::session::Session;

/// Progress is told at most this often.
const PACE: Duration = Duration::from_millis(100);

/// Tells the caller how far a request is, and stops it when the caller is gone.
struct Told<'a> {
    session: &'a Session,
    /// `None` when nobody wants to know.
    id: Option<&'a Value>,
    state: Mutex<(u64, u64, Option<Instant>)>,
}

impl Progress for Told<'_> {
    fn expect(&self, _files: u64, _bytes: u64) {}

    fn advance(&self, files: u64, bytes: u64) {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 += files;
        state.1 += bytes;
        if let Some(id) = self.id
            && state.2.is_none_or(|last| last.elapsed() >= PACE)
        {
            state.2 = Some(Instant::now());
            self.session.notify(id, state.0, state.1);
        }
    }

    fn cancelled(&self) -> bool {
        self.session.is_gone()
    }
}

pub(crate) fn ingest(
    session: &Session,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Result<Value, Fault> {
    let params = &request.params;
    let path = absolute(params)?;
    match params.get("tier").map_or(Some("tier2"), Value::as_str) {
        Some("tier1" | "tier2") => {}
        _ => return Err(Fault::params("`tier` is neither \"tier1\" nor \"tier2\"")),
    }
    match params.get("mode").map_or(Some("solid"), Value::as_str) {
        Some("solid") => {}
        Some("phantom") => {
            return Err(Fault::params(
                "the daemon writes to no project: files are replaced by the client",
            ));
        }
        _ => return Err(Fault::params("`mode` is neither \"solid\" nor \"phantom\"")),
    }
    let dir = match fds.into_iter().next() {
        Some(fd) => fd,
        None => open_for(session, &path)?,
    };
    let stat = rustix::fs::fstat(&dir)
        .map_err(io::Error::from)
        .map_err(unusable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Fault::params("the descriptor is no directory"));
    }
    let told = Told {
        session,
        id: request
            .id
            .as_ref()
            .filter(|_| params.get("progress") == Some(&json!(true))),
        // The first step is told at once.
        state: Mutex::new((0, 0, None)),
    };
    let beneath = Beneath {
        dir: dir.as_fd(),
        reader: &session.caller,
    };
    let report = ingest_beneath(beneath, &path, &session.blobs(), &told)?;
    session.forget_kept();
    Ok(json!({
        "files": report.files,
        "bytes": report.bytes,
        "unique": report.unique,
        "new": report.new,
        "manifest": report.manifest.map(|digest| digest.to_string()),
        // The daemon writes nothing into projects; the manifest is a blob to be fetched.
        "manifest_path": Value::Null,
        "skipped": report.skipped.len(),
        "changed": report.changed,
    }))
}

fn unusable(error: io::Error) -> Fault {
    let code = if error.kind() == io::ErrorKind::PermissionDenied {
        Code::Denied
    } else {
        Code::Params
    };
    Fault::new(code, error.to_string())
}

/// Opens a path from the root, asking at each step whether the caller may.
fn open_for(session: &Session, path: &Path) -> Result<OwnedFd, Fault> {
    use vrift_store::Reader;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |error: rustix::io::Errno| {
        let mut fault = unusable(error.into());
        fault.message = format!(
            "the daemon cannot open `{}` by its path ({error}); send a descriptor",
            path.display()
        );
        fault
    };
    let mut dir = rustix::fs::open("/", flags, Mode::empty()).map_err(failed)?;
    for name in path.components().skip(1) {
        dir = rustix::fs::openat(&dir, name.as_os_str(), flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&dir).map_err(failed)?;
        session
            .caller
            .directory(dir.as_fd(), &stat)
            .map_err(unusable)?;
    }
    Ok(dir)
}
