//! Running a command: what arrives, and what became of it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::connect::{Client, Pending};
use super::read::ReadError;
use super::stdin::{Input, Pump};
use crate::command::Command;
use crate::failpoint;
use crate::frame::{HEADER, Kind, MAX_EVENT};
use crate::message::{Counts, End, EndStatus, Refusal, credit_from_payload, decode};

/// How long the server may take to read a command.
const SENDING: Duration = Duration::from_secs(30);

/// Something that the command produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputChunk<'a> {
    /// Bytes of its standard output.
    Stdout(&'a [u8]),
    /// Bytes of its standard error.
    Stderr(&'a [u8]),
    /// A whole event of the application.
    Event(&'a [u8]),
}

/// What goes in and where what comes out goes.
pub struct Streams<'a> {
    /// The input, read as far as the command wants it.
    pub stdin: Option<Input>,
    /// Standard output.
    pub stdout: &'a mut dyn Write,
    /// Standard error.
    pub stderr: &'a mut dyn Write,
    /// Takes the events of the application.
    pub on_event: &'a mut dyn FnMut(&[u8]),
}

impl std::fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams")
            .field("has_stdin", &self.stdin.is_some())
            .finish_non_exhaustive()
    }
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
    /// The handler takes no command of this kind.
    #[error("the server cannot read the command")]
    Unreadable,
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
    /// What the command produced could not be written; the command was told.
    #[error("cannot write to standard {stream}: {kind}")]
    Output {
        /// `output` or `error`.
        stream: &'static str,
        /// The system's answer.
        kind: io::ErrorKind,
    },
    /// The connection broke in another way.
    #[error("the connection broke: {reason}")]
    Broken {
        /// The system's answer.
        reason: String,
    },
}

impl Client {
    /// Runs the command without input, calls `on_chunk` with everything it
    /// produces, in order, and says what became of it.
    ///
    /// Blocks until the server sends the End, however long that takes; use a
    /// [`Canceller`](crate::Canceller) to end it from another thread.
    pub fn run(self, command: &Command, mut on_chunk: impl FnMut(OutputChunk<'_>)) -> Outcome {
        self.send_and_follow(command, &mut None, |chunk, _| {
            on_chunk(chunk);
            Ok(())
        })
    }

    /// Runs the command with these streams, and says what became of it.
    ///
    /// Blocks as [`Client::run`] does. The input is taken out of `streams` when the
    /// command begins to read it, and only then.
    pub fn run_with(self, command: &Command, streams: &mut Streams<'_>) -> Outcome {
        let Streams {
            stdin,
            stdout,
            stderr,
            on_event,
        } = streams;
        self.send_and_follow(command, stdin, |chunk, is_last| match chunk {
            OutputChunk::Stdout(bytes) => write("output", *stdout, bytes, is_last),
            OutputChunk::Stderr(bytes) => write("error", *stderr, bytes, is_last),
            OutputChunk::Event(event) => {
                on_event(event);
                Ok(())
            }
        })
    }

    fn send_and_follow(
        self,
        command: &Command,
        stdin: &mut Option<Input>,
        on_chunk: impl FnMut(OutputChunk<'_>, bool) -> Result<(), Interruption>,
    ) -> Outcome {
        let not_admitted = |reason| Outcome::NotAdmitted { reason };
        let frame = command.frame(stdin.is_some());
        let limit = self.ack.max_command;
        if frame.len() - HEADER > limit as usize {
            return not_admitted(Refused::CommandTooLong { limit });
        }
        let stream = &self.shared.stream;
        if stream.set_write_timeout(Some(SENDING)).is_err() {
            return not_admitted(Refused::Closed);
        }
        match self.shared.send_command(&frame) {
            Ok(true) => {}
            Ok(false) => return not_admitted(Refused::Cancelled),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Half a command can never be accepted.
                stream.shutdown();
                return not_admitted(Refused::Stalled);
            }
            // The server may have said why before it closed.
            Err(_) => {}
        }
        // Input may wait as long as the server was stopped. A connection that is
        // gone refuses this, and is found out by reading.
        let _gone = stream.set_write_timeout(None);
        follow(self, stdin, on_chunk)
    }
}

/// Writes, and flushes unless more is about to come.
fn write(
    stream: &'static str,
    to: &mut dyn Write,
    bytes: &[u8],
    is_last: bool,
) -> Result<(), Interruption> {
    let written = to.write_all(bytes);
    let written = written.and_then(|()| if is_last { to.flush() } else { Ok(()) });
    written.map_err(|error| Interruption::Output {
        stream,
        kind: error.kind(),
    })
}

impl Pending {
    /// As [`Client::run`], for a command that was sent already.
    pub fn finish(self, mut on_chunk: impl FnMut(OutputChunk<'_>)) -> Outcome {
        follow(self.0, &mut None, |chunk, _| {
            on_chunk(chunk);
            Ok(())
        })
    }
}

/// Reads the answer to a command that was sent, and ends the connection: also if
/// a canceller is still around and keeps the socket.
fn follow(
    mut client: Client,
    stdin: &mut Option<Input>,
    on_chunk: impl FnMut(OutputChunk<'_>, bool) -> Result<(), Interruption>,
) -> Outcome {
    failpoint::hit("client-after-command");
    let mut pump = Pump::new(&client.shared);
    let outcome = read_answer(&mut client, &mut pump, stdin, on_chunk);
    failpoint::hit("client-after-end");
    drop(pump);
    if Arc::strong_count(&client.shared) > 1 {
        client.shared.stream.shutdown();
    }
    outcome
}

fn read_answer(
    client: &mut Client,
    pump: &mut Pump,
    stdin: &mut Option<Input>,
    mut on_chunk: impl FnMut(OutputChunk<'_>, bool) -> Result<(), Interruption>,
) -> Outcome {
    let limit = client.limit;
    let mut admitted = false;
    let mut counts = Counts::default();
    let mut parts: Vec<u8> = Vec::new();
    client.reader.grow();
    loop {
        pump.feed(!client.reader.is_empty());
        let frame = match client.reader.next(&client.shared.stream, limit, None) {
            Ok(frame) => frame,
            Err(error) => return ended_early(error, admitted, client.shared.is_abandoned()),
        };
        let payload = client.reader.payload(&frame);
        let length = payload.len() as u64;
        let chunk = match (frame.kind, admitted) {
            (Kind::Accepted, false) => {
                admitted = true;
                failpoint::hit("client-after-accepted");
                None
            }
            (Kind::Refused, false) => return refused(Refusal::decode(payload)),
            (Kind::Stdout, true) => {
                counts.stdout += length;
                Some(OutputChunk::Stdout(payload))
            }
            (Kind::Stderr, true) => {
                counts.stderr += length;
                Some(OutputChunk::Stderr(payload))
            }
            (Kind::Event, true) if parts.is_empty() => {
                counts.events += length;
                Some(OutputChunk::Event(payload))
            }
            (Kind::Event | Kind::EventPart, true) => {
                counts.events += length;
                if parts.len() + payload.len() > MAX_EVENT {
                    return protocol("an event is too long");
                }
                parts.extend_from_slice(payload);
                (frame.kind == Kind::Event).then_some(OutputChunk::Event(&parts))
            }
            (Kind::StdinCredit, true) => match credit_from_payload(payload) {
                Some(credit) => {
                    pump.grant(credit, stdin);
                    None
                }
                None => return protocol("the credit for input cannot be read"),
            },
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
        };
        if let Some(chunk) = chunk {
            if let Err(reason) = on_chunk(chunk, client.reader.is_empty()) {
                // The end of the connection tells the command.
                return Outcome::Interrupted { reason };
            }
            failpoint::hit("client-after-chunk");
            if frame.kind == Kind::Event {
                parts = Vec::new();
            }
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
        Some(Refusal::Unreadable) => Refused::Unreadable,
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
        ReadError::Closed { .. } | ReadError::Cut if !admitted => Outcome::NotAdmitted {
            reason: Refused::Closed,
        },
        ReadError::Closed { .. } | ReadError::Cut => interrupted(Interruption::Closed),
        ReadError::Frame(error) => protocol(&error.to_string()),
        ReadError::TimedOut => interrupted(Interruption::Broken {
            reason: "timed out".to_owned(),
        }),
        ReadError::Io(error) => interrupted(Interruption::Broken {
            reason: error.to_string(),
        }),
    }
}
