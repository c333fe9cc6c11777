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
mod tests {
    use super::*;

    fn version() -> ServiceVersion {
        ServiceVersion {
            service: "svc".into(),
            crate_version: "0.1".into(),
            protocol: 7,
            pid: 300,
            properties: [("k".to_owned(), "v".to_owned())].into(),
        }
    }

    fn build() -> BuildInfo {
        BuildInfo {
            id: "b2".into(),
            time: Some(5),
        }
    }

    #[test]
    fn hello_golden() {
        let hello = Hello {
            wire_min: 1,
            wire_max: 1,
            protocol: 7,
            max_frame: 1 << 20,
            build: "b1".into(),
            token: Some([9; 32]),
            build_time: Some(300),
        };
        let mut bytes = b"dmnrpc\r\n".to_vec();
        bytes.extend([1, 1, 7, 0x80, 0x80, 0x40, 2, b'b', b'1', 1]);
        bytes.extend([9; 32]);
        // Version 1 ends here.
        let first = Hello::decode(&bytes).unwrap();
        assert!(first.build_time.is_none() && first.token == hello.token);
        bytes.extend([1, 0xac, 2]);
        assert_eq!(hello.encode(), bytes);
        assert!(Hello::decode(&bytes).unwrap() == hello);
        bytes.extend(b"a field of a later version");
        assert!(Hello::decode(&bytes).unwrap() == hello);
        bytes[0] = b'D';
        assert!(Hello::decode(&bytes).is_none());
    }

    #[test]
    fn hello_ack_golden() {
        let ack = HelloAck {
            wire: 1,
            version: version(),
            max_frame: 128,
            max_command: 1,
            build: build(),
        };
        let bytes = [
            &[1][..],
            &[3, b's', b'v', b'c', 3, b'0', b'.', b'1', 7, 0xac, 2],
            &[1, 1, b'k', 1, b'v'],
            &[0x80, 1, 1],
            &[2, b'b', b'2', 1, 5],
        ]
        .concat();
        assert_eq!(encode(&ack), bytes);
        assert_eq!(decode::<HelloAck>(&bytes).unwrap(), ack);
    }

    #[test]
    fn refused_golden() {
        for (refusal, bytes) in [
            (Refusal::Draining, &[1][..]),
            (Refusal::Busy, &[2]),
            (Refusal::Denied, &[3]),
            (Refusal::CommandTooLong { limit: 5 }, &[4, 5]),
            (Refusal::Unreadable, &[5]),
        ] {
            assert_eq!(refusal.encode(), bytes);
            assert_eq!(Refusal::decode(bytes), Some(refusal));
        }
        let refusal = Refusal::Version {
            wire_min: 1,
            wire_max: 2,
            version: version(),
            build: build(),
        };
        let bytes = refusal.encode();
        assert_eq!(bytes[..4], [0, 1, 2, 3]);
        assert_eq!(bytes[bytes.len() - 5..], [2, b'b', b'2', 1, 5]);
        assert_eq!(Refusal::decode(&bytes), Some(refusal));
        // Version 1 ends before the build.
        let first = Refusal::decode(&bytes[..bytes.len() - 5]).unwrap();
        assert!(matches!(first, Refusal::Version { build, .. } if build.id.is_empty()));
    }

    #[test]
    fn ask_golden() {
        for (ask, number) in [
            (Ask::Status, 0),
            (Ask::Stop, 1),
            (Ask::Retire, 2),
            (Ask::Wait, 3),
        ] {
            let mut bytes = b"dmnrpc\r\n".to_vec();
            bytes.extend([number, 0]);
            assert_eq!(ask.encode(None), bytes);
            assert_eq!(Ask::decode(&bytes), Some((ask, None)));
            bytes.pop();
            assert_eq!(Ask::decode(&bytes), None);
            bytes.push(1);
            bytes.extend([9; 32]);
            assert_eq!(ask.encode(Some([9; 32])), bytes);
            bytes.extend(b"a field of a later version");
            assert_eq!(Ask::decode(&bytes), Some((ask, Some([9; 32]))));
            bytes[8] = 99;
            assert_eq!(Ask::decode(&bytes).unwrap().0, Ask::Status);
            bytes[0] = b'D';
            assert_eq!(Ask::decode(&bytes), None);
        }
    }

    #[test]
    fn status_golden() {
        let status = Status {
            wire_min: 2,
            wire_max: 2,
            version: version(),
            build: build(),
            is_draining: true,
            connections: 3,
            uptime_secs: 300,
            running: 1,
            commands: vec![CommandStatus {
                id: 4,
                name: "wc".into(),
                secs: 6,
                client_pid: Some(7),
                is_stuck: true,
            }],
        };
        let bytes = [
            &[2, 2][..],
            &[3, b's', b'v', b'c', 3, b'0', b'.', b'1', 7, 0xac, 2],
            &[1, 1, b'k', 1, b'v'],
            &[2, b'b', b'2', 1, 5],
            &[1, 3, 0xac, 2, 1],
            &[1, 4, 2, b'w', b'c', 6, 1, 7, 1],
        ]
        .concat();
        assert_eq!(encode(&status), bytes);
        assert_eq!(decode::<Status>(&bytes).unwrap(), status);
    }

    #[test]
    fn stdin_golden() {
        assert_eq!(StdinEnd::from_payload(&[0]), Some(StdinEnd::Complete));
        assert_eq!(StdinEnd::from_payload(&[1]), Some(StdinEnd::Broken));
        assert_eq!(StdinEnd::from_payload(&[2]), None);
        assert_eq!(credit_from_payload(&[0, 1, 0, 0]), Some(65536));
        assert_eq!(credit_from_payload(&[0, 1, 0]), None);
        let size = crate::command::WindowSize {
            columns: 200,
            rows: 50,
        };
        assert_eq!(encode(&size), [0xc8, 1, 50]);
    }

    #[test]
    fn cancel_golden() {
        for (mode, byte) in [(CancelMode::Soft, 0), (CancelMode::Hard, 1)] {
            assert_eq!(mode.byte(), byte);
            assert_eq!(CancelMode::from_payload(&[byte]), Some(mode));
        }
        assert_eq!(CancelMode::from_payload(&[2]), None);
        assert_eq!(CancelMode::from_payload(&[]), None);
    }

    #[test]
    fn end_golden() {
        let end = |status| {
            encode(&End {
                status,
                counts: Counts {
                    stdout: 1,
                    stderr: 2,
                    events: 300,
                },
            })
        };
        assert_eq!(end(EndStatus::Exit(0)), [0, 0, 1, 2, 0xac, 2]);
        assert_eq!(end(EndStatus::Exit(101)), [0, 0xca, 1, 1, 2, 0xac, 2]);
        assert_eq!(end(EndStatus::Signal(9)), [1, 18, 1, 2, 0xac, 2]);
        assert_eq!(end(EndStatus::Cancelled), [2, 1, 2, 0xac, 2]);
        let failed = EndStatus::Failed {
            message: "no".into(),
        };
        assert_eq!(end(failed), [3, 2, b'n', b'o', 1, 2, 0xac, 2]);
    }

    #[test]
    fn names_are_cut_between_characters() {
        assert_eq!(clip_to("aé", 2), "a");
        assert_eq!(clip_to("aé", 3), "aé");
        assert_eq!(clip(&"x".repeat(9999)).len(), MAX_NAME);
    }
}
