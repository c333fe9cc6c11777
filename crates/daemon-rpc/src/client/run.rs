//! Running a command: what arrives, and what became of it.

use std::time::Duration;

use super::connect::{Client, Command};
use super::read::ReadError;
use crate::frame::{Kind, MAX_EVENT, put};
use crate::message::{Counts, End, EndStatus, Refusal, decode};

/// How long the server may take to read a command.
const SENDING: Duration = Duration::from_secs(30);

/// Something that the command produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Bytes of its standard output.
    Stdout(&'a [u8]),
    /// Bytes of its standard error.
    Stderr(&'a [u8]),
    /// A whole event of the application.
    Event(&'a [u8]),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "whether a command succeeded is only said here"]
pub enum Outcome {
    /// It did not begin to run, and never will: trying again is safe.
    NotAdmitted {
        /// Why.
        reason: Refused,
    },
    /// It ended, and all that it produced has arrived.
    Finished(EndStatus),
    /// It began to run, and what became of it is unknown.
    Interrupted {
        /// What happened.
        reason: Interruption,
    },
    /// The server broke the rules; what became of the command is unknown.
    Protocol {
        /// How.
        what: String,
    },
}

/// Why a command was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The server runs as many commands as it may.
    #[error("the server is busy")]
    Busy,
    /// The server is about to end.
    #[error("the server is shutting down")]
    Draining,
    /// The server denied access.
    #[error("the server denied access")]
    Denied,
    /// The command is too long.
    #[error("the server takes commands of at most {limit} bytes")]
    CommandTooLong {
        /// The limit in bytes.
        limit: u32,
    },
    /// The server ended before it accepted the command.
    #[error("the server closed the connection before it accepted the command")]
    Closed,
    /// The server did not read the whole command in time.
    #[error("the server did not read the command")]
    Stalled,
    /// It was cancelled before it was sent.
    #[error("cancelled before it began")]
    Cancelled,
}

/// What ended a stream before its End.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interruption {
    /// The server ended or was killed.
    #[error("the server went away before the command ended")]
    Closed,
    /// The client itself left.
    #[error("left before the command ended")]
    Abandoned,
    /// The connection broke in another way.
    #[error("the connection broke: {reason}")]
    Broken {
        /// The system's answer.
        reason: String,
    },
}

impl Client {
    /// Runs the command, calls `on_frame` with everything it produces, in order,
    /// and says what became of it.
    ///
    /// Blocks until the server sends the End, however long that takes; use a
    /// [`Canceller`](crate::Canceller) to end it from another thread.
    pub fn run(self, payload: &[u8], on_frame: impl FnMut(Frame<'_>)) -> Outcome {
        let limit = self.ack.max_command;
        if payload.len() > limit as usize {
            let reason = Refused::CommandTooLong { limit };
            return Outcome::NotAdmitted { reason };
        }
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        put(&mut bytes, Kind::Command, payload);
        let not_admitted = |reason| Outcome::NotAdmitted { reason };
        if self.shared.stream.set_write_timeout(Some(SENDING)).is_err() {
            return not_admitted(Refused::Closed);
        }
        match self.shared.send_command(&bytes) {
            Ok(true) => {}
            Ok(false) => return not_admitted(Refused::Cancelled),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Half a command can never be accepted.
                self.shared.stream.shutdown();
                return not_admitted(Refused::Stalled);
            }
            // The server may have said why before it closed.
            Err(_) => {}
        }
        follow(self, on_frame)
    }
}

impl Command {
    /// As [`Client::run`], for a command that was sent already.
    pub fn finish(self, on_frame: impl FnMut(Frame<'_>)) -> Outcome {
        follow(self.0, on_frame)
    }
}

/// Reads the answer to a command that was sent, and ends the connection: also if
/// a canceller is still around and keeps the socket.
fn follow(mut client: Client, on_frame: impl FnMut(Frame<'_>)) -> Outcome {
    let outcome = read_answer(&mut client, on_frame);
    client.shared.stream.shutdown();
    outcome
}

fn read_answer(client: &mut Client, mut on_frame: impl FnMut(Frame<'_>)) -> Outcome {
    let limit = client.limit;
    let mut admitted = false;
    let mut counts = Counts::default();
    let mut parts: Vec<u8> = Vec::new();
    client.reader.grow();
    loop {
        let frame = match client.reader.next(&client.shared.stream, limit, None) {
            Ok(frame) => frame,
            Err(error) => return ended_early(error, admitted, client.shared.is_abandoned()),
        };
        let payload = client.reader.payload(&frame);
        let length = payload.len() as u64;
        match (frame.kind, admitted) {
            (Kind::Accepted, false) => admitted = true,
            (Kind::Refused, false) => return refused(decode(payload)),
            (Kind::Stdout, true) => {
                counts.stdout += length;
                on_frame(Frame::Stdout(payload));
            }
            (Kind::Stderr, true) => {
                counts.stderr += length;
                on_frame(Frame::Stderr(payload));
            }
            (Kind::Event | Kind::EventPart, true) => {
                counts.events += length;
                if parts.is_empty() && frame.kind == Kind::Event {
                    on_frame(Frame::Event(payload));
                    continue;
                }
                if parts.len() + payload.len() > MAX_EVENT {
                    return protocol("an event is too long");
                }
                parts.extend_from_slice(payload);
                if frame.kind == Kind::Event {
                    on_frame(Frame::Event(&parts));
                    parts = Vec::new();
                }
            }
            (Kind::End, true) => {
                return match decode::<End>(payload) {
                    None => protocol("the end cannot be read"),
                    Some(_) if !parts.is_empty() => protocol("an event is incomplete"),
                    Some(end) if end.counts != counts => {
                        protocol("bytes are missing: the counts of the end do not agree")
                    }
                    Some(end) => Outcome::Finished(end.status),
                };
            }
            (kind, _) => return protocol(&format!("a frame {kind:?} where none is expected")),
        }
    }
}

fn protocol(what: &str) -> Outcome {
    Outcome::Protocol {
        what: what.to_owned(),
    }
}

fn refused(refusal: Option<Refusal>) -> Outcome {
    let reason = match refusal {
        Some(Refusal::Busy) => Refused::Busy,
        Some(Refusal::Draining) => Refused::Draining,
        Some(Refusal::Denied) => Refused::Denied,
        Some(Refusal::CommandTooLong { limit }) => Refused::CommandTooLong { limit },
        // The version was agreed on before.
        Some(Refusal::Version { .. }) | None => return protocol("the refusal cannot be read"),
    };
    Outcome::NotAdmitted { reason }
}

fn ended_early(error: ReadError, admitted: bool, abandoned: bool) -> Outcome {
    let interrupted = |reason| Outcome::Interrupted { reason };
    match error {
        // The server may have accepted it, and nobody waited to hear it.
        _ if abandoned => interrupted(Interruption::Abandoned),
        ReadError::Closed { .. } if !admitted => Outcome::NotAdmitted {
            reason: Refused::Closed,
        },
        ReadError::Closed { .. } => interrupted(Interruption::Closed),
        ReadError::Frame(error) => protocol(&error.to_string()),
        ReadError::TimedOut => interrupted(Interruption::Broken {
            reason: "timed out".to_owned(),
        }),
        ReadError::Io(error) => interrupted(Interruption::Broken {
            reason: error.to_string(),
        }),
    }
}
