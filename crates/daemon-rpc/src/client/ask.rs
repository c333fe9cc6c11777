//! Asking a server about itself, and asking it to end, whatever its version.

use std::time::{Duration, Instant};

use daemon_contract::Endpoint;

use super::connect::{ClientConfig, first_answer, foreign, open};
use super::error::{ConnectError, Foreign};
use super::read::FrameReader;
use super::stream::Stream;
use crate::frame::{HANDSHAKE_LIMIT, Kind, put};
use crate::message::{Ask, Refusal, Status, decode};

/// An answer, and the connection, which ends when the server does.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) status: Status,
    stream: Stream,
    reader: FrameReader,
}

/// Asks. The server is the right one: its name was checked, on a connection of its
/// own if the question changes anything.
pub(super) fn ask(
    endpoint: &Endpoint,
    config: &ClientConfig,
    what: Ask,
) -> Result<Asked, ConnectError> {
    if matches!(what, Ask::Stop | Ask::Retire) {
        ask_one(endpoint, config, Ask::Status)?;
    }
    ask_one(endpoint, config, what)
}

fn ask_one(endpoint: &Endpoint, config: &ClientConfig, what: Ask) -> Result<Asked, ConnectError> {
    let deadline = Instant::now() + config.handshake_timeout;
    let garbage = || foreign(endpoint, config, Foreign::Garbage);
    let stream = open(endpoint, config, deadline)?;
    let mut frame = Vec::new();
    put(&mut frame, Kind::Ask, &what.encode(config.token));
    // If this fails, an answer that says why may be there nevertheless.
    let _written = stream.write_all(&frame, "client-inside-question");
    let mut reader = FrameReader::new();
    let frame = first_answer(&stream, &mut reader, endpoint, config, deadline)?
        .ok_or_else(|| foreign(endpoint, config, Foreign::Closes))?;
    let payload = reader.payload(&frame);
    let status = match frame.kind {
        Kind::Status => decode::<Status>(payload).ok_or_else(garbage)?,
        Kind::Refused if Refusal::decode(payload) == Some(Refusal::Denied) => {
            return Err(ConnectError::Denied {
                endpoint: endpoint.clone(),
            });
        }
        _ => return Err(garbage()),
    };
    if status.version.service != config.service {
        let service = status.version.service;
        return Err(foreign(endpoint, config, Foreign::OtherService { service }));
    }
    Ok(Asked {
        status,
        stream,
        reader,
    })
}

impl Asked {
    /// Waits until the server has ended, or at most for `patience`; says whether
    /// it has.
    pub(super) fn wait(mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .reader
                .next(&self.stream, HANDSHAKE_LIMIT, Some(deadline))
            {
                // Nothing more is said; a later version may see that otherwise.
                Ok(_) => {}
                Err(super::read::ReadError::TimedOut) => return false,
                Err(_) => return true,
            }
        }
    }
}
