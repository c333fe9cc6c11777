//! Connecting, and finding out who is there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, ServiceVersion};

use super::cancel::{Canceller, Shared, Window};
use super::error::{ConnectError, Foreign};
use super::read::{FrameReader, ReadError, Received};
use super::stream::Stream;
use crate::build::BuildInfo;
use crate::command::Command;
use crate::failpoint;
use crate::frame::{DEFAULT_MAX_FRAME, HANDSHAKE_LIMIT, Kind, put};
use crate::message::{Hello, HelloAck, Refusal, WIRE_VERSION, clip, decode};

/// A server that ends closes the connections that it had not yet accepted. Who
/// does so this many times in a row is no server of ours.
const ATTEMPTS: u32 = 3;

/// What a client expects and brings.
#[derive(Clone)]
pub struct ClientConfig {
    /// The name of the service that must answer.
    pub service: String,
    /// The application's protocol; the server must speak the same.
    pub protocol: u32,
    /// The token, required on TCP.
    pub token: Option<[u8; 32]>,
    /// The build of this program; information for the server.
    pub build: BuildInfo,
    /// How long to wait for the server to say who it is. Longer for a server
    /// that was just started.
    pub handshake_timeout: Duration,
    /// The largest frame that the server may send, in bytes.
    pub max_frame: u32,
}

impl ClientConfig {
    /// Without a token, with a timeout of two seconds.
    pub fn new(service: impl Into<String>, protocol: u32) -> ClientConfig {
        ClientConfig {
            service: service.into(),
            protocol,
            token: None,
            build: BuildInfo::default(),
            handshake_timeout: Duration::from_secs(2),
            max_frame: DEFAULT_MAX_FRAME,
        }
    }
}

impl std::fmt::Debug for ClientConfig {
    /// All but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("service", &self.service)
            .field("protocol", &self.protocol)
            .field("build", &self.build)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("max_frame", &self.max_frame)
            .finish_non_exhaustive()
    }
}

/// A connection to the service, ready for one command.
#[derive(Debug)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: FrameReader,
    pub(super) ack: HelloAck,
    /// The largest frame that is taken from the server.
    pub(super) limit: u32,
}

/// A command that is on its way; see [`Client::start`].
#[derive(Debug)]
pub struct Pending(pub(super) Client);

impl Client {
    /// Connects and checks who is there. Nothing but this program's version and
    /// token is sent.
    ///
    /// # Errors
    /// Each kind of stranger and refusal has its own variant.
    pub fn connect(endpoint: &Endpoint, config: ClientConfig) -> Result<Client, ConnectError> {
        connect(endpoint, &config, None)
    }

    /// Connects and sends the command in the same write, which saves a round
    /// trip. Whoever listens at the endpoint reads the command, so this is for
    /// commands without secrets and for Unix sockets (whose listener is checked
    /// to belong to the same user before anything is sent).
    ///
    /// # Errors
    /// As [`Client::connect`]; the command has not run then.
    pub fn start(
        endpoint: &Endpoint,
        config: ClientConfig,
        command: &Command,
    ) -> Result<Pending, ConnectError> {
        connect(endpoint, &config, Some(command.frame(false))).map(Pending)
    }

    /// Talks to a server at the other end of a connection that is there already.
    pub(crate) fn over(stream: Stream, config: &ClientConfig) -> Result<Client, ConnectError> {
        let endpoint = Endpoint::Unix("/".into());
        let deadline = Instant::now() + config.handshake_timeout;
        let first = hello(config);
        handshake(stream, &endpoint, config, &first, false, deadline)?
            .ok_or_else(|| foreign(&endpoint, config, Foreign::Closes))
    }

    /// Who is there.
    pub fn server_version(&self) -> &ServiceVersion {
        &self.ack.version
    }

    /// The build of who is there.
    pub fn server_build(&self) -> &BuildInfo {
        &self.ack.build
    }

    /// Ends the command of this client from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared))
    }

    /// Tells the command of this client, from another thread, that the size of the
    /// window has changed.
    pub fn window(&self) -> Window {
        Window(Arc::clone(&self.shared))
    }
}

impl Pending {
    /// Who runs it.
    pub fn server_version(&self) -> &ServiceVersion {
        self.0.server_version()
    }

    /// Ends it from another thread.
    pub fn canceller(&self) -> Canceller {
        self.0.canceller()
    }
}

/// The frame with which every client begins.
fn hello(config: &ClientConfig) -> Vec<u8> {
    let mut first = Vec::new();
    let hello = Hello {
        wire_min: WIRE_VERSION,
        wire_max: WIRE_VERSION,
        protocol: config.protocol,
        max_frame: config.max_frame,
        build: clip(&config.build.id),
        token: config.token,
        build_time: config.build.time,
    };
    put(&mut first, Kind::Hello, &hello.encode());
    first
}

fn connect(
    endpoint: &Endpoint,
    config: &ClientConfig,
    command: Option<Vec<u8>>,
) -> Result<Client, ConnectError> {
    let mut first = hello(config);
    let has_command = command.is_some();
    first.extend(command.unwrap_or_default());
    let deadline = Instant::now() + config.handshake_timeout;
    for _ in 0..ATTEMPTS {
        let stream = open(endpoint, config, deadline)?;
        failpoint::hit("client-connected");
        if let Some(client) = handshake(stream, endpoint, config, &first, has_command, deadline)? {
            return Ok(client);
        }
    }
    Err(foreign(endpoint, config, Foreign::Closes))
}

fn silent(endpoint: &Endpoint, config: &ClientConfig) -> ConnectError {
    let millis = config.handshake_timeout.as_millis();
    foreign(endpoint, config, Foreign::Silent { millis })
}

fn time_left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

/// A connection to somebody of this user.
pub(super) fn open(
    endpoint: &Endpoint,
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Stream, ConnectError> {
    let failed = |source| ConnectError::Io {
        endpoint: endpoint.clone(),
        source,
    };
    let stream =
        Stream::connect(endpoint, time_left(deadline)).map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                ConnectError::NotRunning {
                    endpoint: endpoint.clone(),
                    source,
                }
            }
            io::ErrorKind::TimedOut => silent(endpoint, config),
            _ => failed(source),
        })?;
    if let Some(uid) = stream.peer_uid().map_err(failed)?
        && uid != 0
        && uid != rustix::process::geteuid().as_raw()
    {
        return Err(foreign(endpoint, config, Foreign::OtherUser { uid }));
    }
    Ok(stream)
}

/// What a server says first; `None` if it closed without a word, or in the middle of
/// one.
pub(super) fn first_answer(
    stream: &Stream,
    reader: &mut FrameReader,
    endpoint: &Endpoint,
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Option<Received>, ConnectError> {
    match reader.next(stream, HANDSHAKE_LIMIT, Some(deadline)) {
        Ok(frame) => Ok(Some(frame)),
        Err(ReadError::Closed { clean: true } | ReadError::Cut) => Ok(None),
        Err(ReadError::Closed { clean: false } | ReadError::Frame(_)) => {
            Err(foreign(endpoint, config, Foreign::Garbage))
        }
        Err(ReadError::TimedOut) => Err(silent(endpoint, config)),
        Err(ReadError::Io(source)) => Err(ConnectError::Io {
            endpoint: endpoint.clone(),
            source,
        }),
    }
}

/// One connection; `None` if it was closed without a whole word.
fn handshake(
    stream: Stream,
    endpoint: &Endpoint,
    config: &ClientConfig,
    first: &[u8],
    has_command: bool,
    deadline: Instant,
) -> Result<Option<Client>, ConnectError> {
    let failed = |source| ConnectError::Io {
        endpoint: endpoint.clone(),
        source,
    };
    let shared = Arc::new(Shared::new(stream));
    let stream = &shared.stream;
    // If this fails, an answer that says why may be there nevertheless.
    let written = if has_command {
        shared.send_command(first).map(drop)
    } else {
        stream.write_all(first, "client-inside-hello")
    };
    failpoint::hit("client-after-hello");
    let mut reader = FrameReader::new();
    let Some(frame) = first_answer(stream, &mut reader, endpoint, config, deadline)? else {
        return Ok(None);
    };
    let ack = match frame.kind {
        Kind::HelloAck => decode::<HelloAck>(reader.payload(&frame)),
        Kind::Refused => {
            return Err(match Refusal::decode(reader.payload(&frame)) {
                Some(refusal) => refused(endpoint, config, refusal),
                None => foreign(endpoint, config, Foreign::Garbage),
            });
        }
        _ => None,
    };
    let Some(ack) = ack else {
        return Err(foreign(endpoint, config, Foreign::Garbage));
    };
    check(endpoint, config, &ack.version)?;
    // Half a command would be waited for by both sides.
    written.map_err(failed)?;
    // What the server promises is no reason to take more than was asked for.
    let limit = ack.max_frame.min(config.max_frame).max(HANDSHAKE_LIMIT);
    Ok(Some(Client {
        limit,
        shared,
        reader,
        ack,
    }))
}

pub(super) fn foreign(endpoint: &Endpoint, config: &ClientConfig, why: Foreign) -> ConnectError {
    ConnectError::Foreign {
        endpoint: endpoint.clone(),
        service: config.service.clone(),
        why,
    }
}

/// Whether the right service speaks the right protocol.
fn check(
    endpoint: &Endpoint,
    config: &ClientConfig,
    version: &ServiceVersion,
) -> Result<(), ConnectError> {
    if version.service != config.service {
        let service = version.service.clone();
        return Err(foreign(endpoint, config, Foreign::OtherService { service }));
    }
    if version.protocol != config.protocol {
        return Err(ConnectError::VersionMismatch {
            endpoint: endpoint.clone(),
            ours: config.protocol,
            theirs: version.clone(),
        });
    }
    Ok(())
}

fn refused(endpoint: &Endpoint, config: &ClientConfig, refusal: Refusal) -> ConnectError {
    let endpoint = endpoint.clone();
    match refusal {
        Refusal::Version {
            wire_min,
            wire_max,
            version,
            ..
        } => match check(&endpoint, config, &version) {
            Err(error) => error,
            Ok(()) => ConnectError::WireMismatch {
                endpoint,
                ours: WIRE_VERSION,
                min: wire_min,
                max: wire_max,
                theirs: version,
            },
        },
        Refusal::Draining => ConnectError::Draining { endpoint },
        Refusal::Busy => ConnectError::Busy { endpoint },
        Refusal::Denied => ConnectError::Denied { endpoint },
        Refusal::CommandTooLong { limit } => ConnectError::CommandTooLong { endpoint, limit },
        // No command was looked at before the handshake was over.
        Refusal::Unreadable => foreign(&endpoint, config, Foreign::Garbage),
    }
}
