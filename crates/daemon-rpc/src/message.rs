//! What the control frames say. `PROTOCOL.md`, section "Messages".
//!
//! All are postcard; the Hello begins with a magic number, so that anything else
//! is told apart by its first bytes. Fields are only ever added at the end:
//! readers ignore what they do not know.

use daemon_contract::ServiceVersion;
use serde::{Deserialize, Serialize};

use crate::build::BuildInfo;

/// The version of frames and messages that this crate speaks.
pub const WIRE_VERSION: u16 = 2;

/// The first bytes of a Hello's payload.
pub(crate) const MAGIC: [u8; 8] = *b"dmnrpc\r\n";
/// Names and build ids are cut at this many bytes, so that a Hello always fits.
const MAX_NAME: usize = 512;

/// The client's first words.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) wire_min: u16,
    pub(crate) wire_max: u16,
    /// The application's protocol.
    pub(crate) protocol: u32,
    /// The largest frame that the client takes, in bytes of type and payload.
    pub(crate) max_frame: u32,
    /// The build of the client's program; information only.
    pub(crate) build: String,
    pub(crate) token: Option<[u8; 32]>,
    /// When that was built, in seconds since 1970; information only. Version 1
    /// ends before it.
    #[serde(skip)]
    pub(crate) build_time: Option<u64>,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(encode(self));
        out.extend(encode(&self.build_time));
        out
    }

    /// `None` if this is no Hello.
    pub(crate) fn decode(payload: &[u8]) -> Option<Hello> {
        let (mut hello, rest) = take::<Hello>(payload.strip_prefix(&MAGIC)?)?;
        hello.build_time = decode(rest).flatten();
        Some(hello)
    }
}

/// The server knows the client and is ready for its command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloAck {
    pub(crate) wire: u16,
    pub(crate) version: ServiceVersion,
    /// The largest frame that the server will send.
    pub(crate) max_frame: u32,
    /// The largest command that it takes, in bytes.
    pub(crate) max_command: u32,
    /// The build of the server's program.
    pub(crate) build: BuildInfo,
}

/// The server will not run the command; nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It speaks another protocol.
    Version {
        wire_min: u16,
        wire_max: u16,
        version: ServiceVersion,
        /// Unknown in version 1, which ends before it.
        #[serde(skip)]
        build: BuildInfo,
    },
    /// It is about to end.
    Draining,
    /// It runs as many commands as it may.
    Busy,
    /// The token is missing or wrong, or the client belongs to another user.
    Denied,
    /// The command is longer than `max_command`.
    CommandTooLong { limit: u32 },
    /// The command is none that its handler could read.
    Unreadable,
}

impl Refusal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = encode(self);
        if let Refusal::Version { build, .. } = self {
            out.extend(encode(build));
        }
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Refusal> {
        let (mut refusal, rest) = take::<Refusal>(payload)?;
        if let Refusal::Version { build, .. } = &mut refusal {
            *build = decode(rest).unwrap_or_default();
        }
        Some(refusal)
    }
}

/// What may be asked of a server without a command, in every version the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Who are you, and what do you do?
    Status = 0,
    /// End: running commands get the time that the server gives them.
    Stop = 1,
    /// End as soon as the running commands have ended, however long they take.
    Retire = 2,
    /// As Status, and the connection stays open until the server has ended.
    Wait = 3,
}

impl Ask {
    pub(crate) fn encode(self, token: Option<[u8; 32]>) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self as u8);
        out.extend(encode(&token));
        out
    }

    /// `None` if this is no question. One of a later version is answered with the
    /// status, so that whoever asks sees whom it asked.
    pub(crate) fn decode(payload: &[u8]) -> Option<(Ask, Option<[u8; 32]>)> {
        let (what, rest) = payload.strip_prefix(&MAGIC)?.split_first()?;
        let ask = [Ask::Stop, Ask::Retire, Ask::Wait]
            .into_iter()
            .find(|ask| *ask as u8 == *what)
            .unwrap_or(Ask::Status);
        Some((ask, decode(rest)?))
    }
}

/// What a server says about itself to whoever may ask, whatever the versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The oldest wire version that it speaks.
    pub wire_min: u16,
    /// The newest wire version that it speaks.
    pub wire_max: u16,
    /// Who it is; the process id is for people to read.
    pub version: ServiceVersion,
    /// Its build.
    pub build: BuildInfo,
    /// Whether it lets nobody in any more since it is about to end.
    pub is_draining: bool,
    /// Open connections, with the one that asks.
    pub connections: u32,
    /// Seconds since it began to serve.
    pub uptime_secs: u64,
    /// How many commands run, those that are stuck included.
    pub running: u32,
    /// The oldest of these, at most 16.
    pub commands: Vec<CommandStatus>,
}

/// A command that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    /// Its number in this server.
    pub id: u64,
    /// Its name, at most 64 bytes of it.
    pub name: String,
    /// For how long it has run, in seconds.
    pub secs: u64,
    /// The process of its client, if the socket tells.
    pub client_pid: Option<u32>,
    /// Whether it was told to end, had its time, and still runs.
    pub is_stuck: bool,
}

/// How the input of a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdinEnd {
    /// All of it was sent.
    Complete = 0,
    /// The client could not read the rest.
    Broken = 1,
}

impl StdinEnd {
    pub(crate) fn from_payload(payload: &[u8]) -> Option<StdinEnd> {
        match payload {
            [0] => Some(StdinEnd::Complete),
            [1] => Some(StdinEnd::Broken),
            _ => None,
        }
    }
}

/// Further bytes of input that a client may send: four bytes, big endian.
pub(crate) fn credit_from_payload(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?))
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndStatus {
    /// It ended by itself, with this exit code.
    Exit(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It was cancelled.
    Cancelled,
    /// The server could not carry it out.
    Failed {
        /// Why, for people.
        message: String,
    },
}

impl EndStatus {
    /// The server could not carry the command out, for this reason.
    pub fn failed(reason: impl std::fmt::Display) -> EndStatus {
        EndStatus::Failed {
            message: reason.to_string(),
        }
    }
}

/// How much a client wants its command to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelMode {
    /// Finish in order: what was begun is put away.
    Soft,
    /// End now.
    Hard,
}

impl CancelMode {
    pub(crate) fn byte(self) -> u8 {
        match self {
            CancelMode::Soft => 0,
            CancelMode::Hard => 1,
        }
    }

    pub(crate) fn from_payload(payload: &[u8]) -> Option<CancelMode> {
        match payload {
            [0] => Some(CancelMode::Soft),
            [1] => Some(CancelMode::Hard),
            _ => None,
        }
    }
}

/// How many bytes of each kind a stream carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
    pub(crate) events: u64,
}

/// The last frame of every stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) status: EndStatus,
    pub(crate) counts: Counts,
}

/// Encodes a message; the types here have nothing that cannot be encoded.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).unwrap_or_default()
}

/// Decodes a message, ignoring fields that a later version has added.
pub(crate) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    postcard::from_bytes(payload).ok()
}

/// Decodes a message, and what stands behind it.
pub(crate) fn take<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<(T, &'a [u8])> {
    postcard::take_from_bytes(payload).ok()
}

/// A name that surely fits.
pub(crate) fn clip(text: &str) -> String {
    clip_to(text, MAX_NAME)
}

/// `text`, or as much of it as fits into `bytes`.
pub(crate) fn clip_to(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
