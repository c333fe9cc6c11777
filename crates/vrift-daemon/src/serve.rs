//! Listens and starts a thread for each connection, within limits.
//!
//! Threads and not an event loop: all work is on files, which block, and each connection does one thing at a time.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vrift_store::{Home, HomeOptions, lock_file};

use crate::audit;
use crate::caller::Caller;
use crate::config::Config;
use crate::fault::{Code, Fault};
use crate::metrics::{self, Metrics};
use crate::platform;
use crate::rpc;
use crate::session::{Server, Session};
use crate::wire::Channel;

/// Enough for listing directories as deep as they are listed.
const STACK: usize = 1 << 20;

/// Why the daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] vrift_store::Error),
    /// Another daemon has the store.
    #[error("another daemon serves `{0}`")]
    Taken(PathBuf),
    /// What the service manager handed over is no Unix socket.
    #[error("the socket that was handed over cannot be used")]
    Inherited(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The socket cannot be made.
    #[error("could not listen on `{path}`")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Connections by user.
type Counts = Arc<Mutex<HashMap<u32, usize>>>;

/// Serves until the process is asked to end by SIGTERM or SIGINT.
///
/// # Errors
/// When the store or the socket cannot be used.
pub fn serve(config: Config) -> Result<(), ServeError> {
    let inherited = platform::inherited().map_err(ServeError::Inherited)?;
    let failed = |source| ServeError::Listen {
        path: config.socket.clone(),
        source,
    };
    // Before there is a socket: whoever ends us as soon as it appears must not leave it behind.
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let options = HomeOptions::own();
    let home = Home::open(&config.home, options)?;
    let _only = only_one(home.path())?;
    let (listener, bound) = match inherited {
        Some(listener) => (listener, None),
        None => {
            let listener = bind(&config.socket, config.private)?;
            (listener, Some(config.socket.clone()))
        }
    };
    let metrics = Arc::new(Metrics::default());
    let mut bound: Vec<PathBuf> = bound.into_iter().collect();
    if let Some(path) = &config.metrics {
        let listener = bind(path, true)?;
        bound.push(path.clone());
        metrics::serve(listener, Arc::clone(&metrics)).map_err(|source| ServeError::Listen {
            path: path.clone(),
            source,
        })?;
    }
    listener.set_nonblocking(false).map_err(failed)?;
    let server = Arc::new(Server {
        home,
        config: config.clone(),
        registering: Mutex::default(),
        metrics,
    });
    let stop = Arc::new(AtomicBool::new(false));
    watch(signals, &stop, bound).map_err(failed)?;
    audit::note(&json!({
        "started": "vrift-daemon",
        "version": env!("CARGO_PKG_VERSION"),
        "home": config.home,
        "pid": std::process::id(),
    }));
    if let Err(error) = platform::notify("READY=1") {
        audit::note(&json!({ "error": format!("the service manager cannot be told: {error}") }));
    }
    accept(&listener, &server, &stop);
    Ok(())
}

/// Two daemons would count quotas and leases apart.
fn only_one(home: &Path) -> Result<File, ServeError> {
    match lock_file(
        &home.join("daemon.lock"),
        FlockOperation::NonBlockingLockExclusive,
    ) {
        Err(vrift_store::Error::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock => {
            Err(ServeError::Taken(home.to_owned()))
        }
        result => Ok(result?),
    }
}

fn bind(path: &Path, private: bool) -> Result<UnixListener, ServeError> {
    let mode = if private { 0o700 } else { 0o755 };
    let bind = || -> io::Result<UnixListener> {
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(mode).create(dir)?;
        }
        remove_stale(path)?;
        // The mode is right from the first moment; no other thread makes files yet.
        let mask = if private { 0o177 } else { 0o111 };
        let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        listener
    };
    bind().map_err(|source| ServeError::Listen {
        path: path.to_owned(),
        source,
    })
}

/// Removes a socket on which nobody listens; anything else stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something that is no socket is there",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

/// Ends the process on SIGTERM and SIGINT: what is under way is as safe as after a crash, so nobody waits for it.
fn watch(mut signals: Signals, stop: &Arc<AtomicBool>, bound: Vec<PathBuf>) -> io::Result<()> {
    let stop = Arc::clone(stop);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(128 << 10)
        .spawn(move || {
            if signals.forever().next().is_some() {
                stop.store(true, Ordering::SeqCst);
                let _told = platform::notify("STOPPING=1");
                for path in &bound {
                    let _gone = fs::remove_file(path);
                }
                std::process::exit(0);
            }
        })
        .map(drop)
}

fn accept(listener: &UnixListener, server: &Arc<Server>, stop: &AtomicBool) {
    let counts = Counts::default();
    while !stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, server, &counts),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                audit::note(&json!({ "error": format!("could not accept: {error}") }));
                // Usually there are no descriptors left: others have to end first.
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
        }
    }
}

/// A connection that is counted as long as this lives.
struct Admitted {
    counts: Counts,
    uid: u32,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

fn admit(stream: UnixStream, server: &Arc<Server>, counts: &Counts) {
    let caller = match Caller::of(&stream) {
        Ok(caller) => caller,
        Err(error) => return refuse(stream, Code::Denied, &error.to_string()),
    };
    if server.config.private && caller.uid != rustix::process::geteuid().as_raw() {
        return refuse(stream, Code::Denied, "this store is another user's");
    }
    let admitted = {
        let mut counts_now = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts_now.values().sum();
        let own = counts_now.entry(caller.uid).or_default();
        if all >= server.config.max_connections || *own >= server.config.max_connections_per_user {
            None
        } else {
            *own += 1;
            Some(Admitted {
                counts: Arc::clone(counts),
                uid: caller.uid,
            })
        }
    };
    let Some(admitted) = admitted else {
        Metrics::add(&server.metrics.refused, 1);
        return refuse(
            stream,
            Code::Busy,
            "too many connections at once; try again later",
        );
    };
    Metrics::add(&server.metrics.connections, 1);
    let server = Arc::clone(server);
    let started = std::thread::Builder::new()
        .name(format!("uid {}", caller.uid))
        .stack_size(STACK)
        .spawn(move || {
            // Counted until the thread ends, however it does.
            let _admitted = admitted;
            let session = Session::new(server, caller, Channel::new(stream));
            // A caller who broke the connection is not waiting for a word.
            let _gone = session.run();
        });
    if let Err(error) = started {
        audit::note(&json!({ "error": format!("could not start a thread: {error}") }));
    }
}

fn refuse(stream: UnixStream, code: Code, why: &str) {
    let answer = rpc::answer(&Value::Null, Err(Fault::new(code, why)));
    let _gone = stream.set_nonblocking(true);
    let _gone = Channel::new(stream).send(answer.to_string().as_bytes(), &[]);
}
