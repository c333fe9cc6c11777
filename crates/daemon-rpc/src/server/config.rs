//! The limits of a server, and what it says about itself.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use daemon_contract::ServiceVersion;

use crate::build::BuildInfo;
use crate::frame::{DEFAULT_MAX_FRAME, HANDSHAKE_LIMIT, Kind, put};
use crate::message::{HelloAck, WIRE_VERSION, encode};

/// How a server presents itself and what it allows.
#[derive(Clone)]
pub struct ServerConfig {
    /// The name of the service.
    pub service: String,
    /// The version of the program.
    pub version: String,
    /// The application's protocol; clients must speak the same.
    pub protocol: u32,
    /// The build of the program; clients may replace a daemon of another one.
    pub build: BuildInfo,
    /// Further facts for clients; together with the names they must fit into the
    /// handshake (4 KiB).
    pub properties: BTreeMap<String, String>,
    /// What clients on TCP must show. Unix sockets check the user instead.
    pub token: Option<[u8; 32]>,
    /// The largest command, in bytes.
    pub max_command: u32,
    /// The largest frame that is sent, in bytes; a client may want less.
    pub max_frame: u32,
    /// Commands that run at the same time; one more is refused as busy.
    pub max_concurrent: usize,
    /// Connections that are open at the same time; one more waits in the kernel.
    pub max_connections: usize,
    /// How long a client may take to say who it is.
    pub handshake_timeout: Duration,
    /// How long a client that was let in may take to send its command.
    pub command_timeout: Duration,
    /// How long commands may go on after the service was asked to end.
    pub drain: Duration,
    /// How long a cancelled command may take before it is dropped.
    pub grace: Duration,
    /// How long a command may take to go when it was dropped: one that blocks its
    /// thread does not notice. Then it is reported as stuck and counts no more.
    pub stuck_after: Duration,
    /// The service ends when no command has run and nobody was connected for this
    /// long; `None`: never. For the first client it waits 10 s at least.
    pub idle_exit: Option<Duration>,
}

impl ServerConfig {
    /// Without a token and with limits for a handful of clients of one user.
    pub fn new(service: impl Into<String>, version: impl Into<String>, protocol: u32) -> Self {
        ServerConfig {
            service: service.into(),
            version: version.into(),
            protocol,
            build: BuildInfo::default(),
            properties: BTreeMap::new(),
            token: None,
            max_command: 16 << 20,
            max_frame: DEFAULT_MAX_FRAME,
            max_concurrent: 16,
            max_connections: 1024,
            handshake_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
            grace: Duration::from_secs(5),
            stuck_after: Duration::from_secs(5),
            idle_exit: None,
        }
    }

    pub(super) fn service_version(&self) -> ServiceVersion {
        ServiceVersion {
            service: self.service.clone(),
            crate_version: self.version.clone(),
            protocol: self.protocol,
            pid: std::process::id(),
            properties: self.properties.clone(),
        }
    }

    fn hello_ack(&self, client_max_frame: u32) -> HelloAck {
        HelloAck {
            wire: WIRE_VERSION,
            version: self.service_version(),
            // Every client can take what it must take during the handshake.
            max_frame: client_max_frame.min(self.max_frame).max(HANDSHAKE_LIMIT),
            max_command: self.max_command,
            build: self.build.clone(),
        }
    }

    /// The frame that lets a client in, and the largest one that it will be sent.
    pub(super) fn acknowledge(&self, client_max_frame: u32) -> (Vec<u8>, u32) {
        let ack = self.hello_ack(client_max_frame);
        let mut frame = Vec::new();
        put(&mut frame, Kind::HelloAck, &encode(&ack));
        (frame, ack.max_frame)
    }

    /// Whether the answer to a Hello fits into its frame; a refusal is shorter.
    pub(super) fn check(&self) -> Result<(), ServeError> {
        let length = encode(&self.hello_ack(u32::MAX)).len() + 1;
        if length > HANDSHAKE_LIMIT as usize {
            return Err(ServeError::Properties { length });
        }
        Ok(())
    }
}

impl std::fmt::Debug for ServerConfig {
    /// All but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("service", &self.service)
            .field("version", &self.version)
            .field("protocol", &self.protocol)
            .field("build", &self.build)
            .field("max_command", &self.max_command)
            .field("max_concurrent", &self.max_concurrent)
            .finish_non_exhaustive()
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody on this machine could come in.
    #[error("a TCP port is not served without a token")]
    NoToken,
    /// Other machines could come in, and nothing here is encrypted.
    #[error("refused to serve `{address}`: it is not an address of this machine alone")]
    NotLocal {
        /// The address.
        address: String,
    },
    /// What the service says about itself is too long for the handshake.
    #[error("the properties of the service take {length} bytes, {HANDSHAKE_LIMIT} fit")]
    Properties {
        /// Their length in bytes.
        length: usize,
    },
    /// What every server needs is not to be had.
    #[error("could not get the threads and descriptors to serve with")]
    Resources {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The listener cannot be used.
    #[error("could not use the listener")]
    Listener {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}
