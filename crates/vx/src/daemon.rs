//! Reaching vx-daemon, and starting it when it is not there.
//!
//! Nothing polls: the endpoint is bound here and handed to the daemon, so that
//! the connection waits in the kernel until the daemon gets to it. Only a daemon
//! that is just leaving is waited for, a bounded number of times.

use std::ffi::OsString;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use daemon_lifecycle::{DetachedChild, ServiceSpec, StartError, Started, start_once};
use daemon_rpc::{Client, ClientConfig, ConnectError};
use vx_proto::env::Settings;
use vx_proto::token::{self, Token};
use vx_proto::{Digest, PROTOCOL_VERSION};

use crate::exit::{self, Failure, Kind};
use crate::programs;

/// The service's name, and that of its program.
pub(crate) const SERVICE: &str = "vx-daemon";

/// How long a service may take to say who it is. One that has just been started
/// answers within milliseconds; what is silent for longer is something else.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long to wait for others who start the same daemon.
const BATON: Duration = Duration::from_secs(20);
/// How long a daemon that broke the connection off may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How often a daemon is tried that takes no commands at the moment.
const ATTEMPTS: u32 = 40;
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Variables that the daemon gets besides those of vx: what a process needs to
/// find programs and directories, and how it reaches servers of toolchains. All
/// else travels with each request.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "RUST_BACKTRACE",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Connects to a daemon that runs; `None` when there is none. Starts nothing and
/// creates nothing.
pub(crate) fn connect_existing(settings: &Settings) -> Result<Option<Client>, Failure> {
    let token = token::load(&settings.home).ok();
    match connect(settings, token.as_ref(), PROTOCOL_VERSION) {
        Ok(client) => Ok(Some(client)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(exit::not_connected(&settings.daemon, &error)),
    }
}

/// Connects to a daemon that runs, whichever protocol it speaks. Only for the
/// request to end, which is the same in all of them.
pub(crate) fn connect_to_end(settings: &Settings) -> Result<Option<Client>, Failure> {
    let token = token::load(&settings.home).ok();
    let client = match connect(settings, token.as_ref(), PROTOCOL_VERSION) {
        Err(error) => match *error {
            ConnectError::VersionMismatch { theirs, .. } => {
                connect(settings, token.as_ref(), theirs.protocol)
            }
            other => Err(Box::new(other)),
        },
        connected => connected,
    };
    match client {
        Ok(client) => Ok(Some(client)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(exit::not_connected(&settings.daemon, &error)),
    }
}

/// Connects to the daemon, and starts it first when it is on this machine and
/// does not run.
pub(crate) fn connect_or_start(settings: &Settings) -> Result<Client, Failure> {
    let token = token::load_or_create(&settings.home)?;
    let mut child: Option<DetachedChild> = None;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match connect(settings, Some(&token), PROTOCOL_VERSION) {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if let Some(child) = &mut child
            && let Some(died) = last_words(child)
        {
            return Err(died);
        }
        let endpoint = &settings.daemon;
        if attempt >= ATTEMPTS {
            return Err(exit::not_connected(endpoint, &error));
        }
        if is_absent(&error) && endpoint.is_local() {
            if let Started::Here(started) = start(settings)? {
                child = Some(started);
            }
        } else if is_leaving(&error) {
            thread::sleep(pause(attempt));
        } else {
            return Err(exit::not_connected(endpoint, &error));
        }
    }
}

/// Whether this is what connecting to a place where nobody listens looks like.
pub(crate) fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

/// The pause before the next attempt: short at first, since most daemons are
/// gone within milliseconds.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(10 << attempt.min(6)).min(PAUSE)
}

/// Starts the daemon, unless somebody else does so at this moment.
fn start(settings: &Settings) -> Result<Started, Failure> {
    let program = programs::find(SERVICE).ok_or_else(|| {
        Failure::new(
            Kind::Service,
            "`vx-daemon` is neither beside vx nor on PATH",
        )
        .hint("install all programs of vx into one directory")
    })?;
    let passed_on = PASSED_ON
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let spec = ServiceSpec {
        program,
        args: Vec::new(),
        env: passed_on.chain(settings.to_env()).collect(),
        log: settings.home.join("log/vx-daemon.log"),
        lifeline: false,
    };
    let name = Digest::of(settings.daemon.to_string().as_bytes()).hex();
    let lock = settings
        .home
        .join(format!("run/daemon-{}.lock", &name[..16]));
    start_once(&settings.daemon, lock, Instant::now() + BATON, &spec)
        .map_err(|error| not_started(settings, &error))
}

fn not_started(settings: &Settings, error: &StartError) -> Failure {
    let mut failure = Failure::new(
        Kind::Service,
        format!("cannot start vx-daemon at {}", settings.daemon),
    )
    .because(error.to_string());
    failure.causes.extend(exit::causes(error));
    match error {
        StartError::Lock(_) => failure.hint("another `vx` is starting it; run the command again"),
        StartError::Bind(_) => failure.hint("set VX_DAEMON to another endpoint"),
        StartError::Spawn(_) => failure.hint("`vx doctor` looks at all that vx needs"),
    }
}

/// Why a daemon that was started here is gone, if it is.
fn last_words(child: &mut DetachedChild) -> Option<Failure> {
    let died = child.exited_within(LAST_BREATH).ok()??;
    Some(Failure::new(Kind::Service, "vx-daemon ended at its start").because(died.to_string()))
}

fn connect(
    settings: &Settings,
    token: Option<&Token>,
    protocol: u32,
) -> Result<Client, Box<ConnectError>> {
    let mut config = ClientConfig::new(SERVICE, protocol);
    env!("CARGO_PKG_VERSION").clone_into(&mut config.build.id);
    config.token = token.map(|token| *token.as_bytes());
    config.handshake_timeout = HANDSHAKE;
    Client::connect(&settings.daemon, config).map_err(Box::new)
}

/// Nobody is there, so that one may be started.
fn is_absent(error: &ConnectError) -> bool {
    matches!(error, ConnectError::NotRunning { .. })
}

/// Trying again soon finds it gone.
fn is_leaving(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Draining { .. })
}
