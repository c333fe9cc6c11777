//! What the control frames say. `PROTOCOL.md`, section "Messages".
//!
//! All are postcard; the Hello begins with a magic number, so that anything else
//! is told apart by its first bytes. Fields are only ever added at the end:
//! readers ignore what they do not know.

use daemon_contract::ServiceVersion;
use serde::{Deserialize, Serialize};

/// The version of frames and messages that this crate speaks.
pub const WIRE_VERSION: u16 = 1;

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
    /// Version or build id of the client's program; information only.
    pub(crate) build: String,
    pub(crate) token: Option<[u8; 32]>,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(encode(self));
        out
    }

    /// `None` if this is no Hello.
    pub(crate) fn decode(payload: &[u8]) -> Option<Hello> {
        decode(payload.strip_prefix(&MAGIC)?)
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
}

/// The server will not run the command; nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// It speaks another protocol.
    Version {
        wire_min: u16,
        wire_max: u16,
        version: ServiceVersion,
    },
    /// It is about to end.
    Draining,
    /// It runs as many commands as it may.
    Busy,
    /// The token is missing or wrong, or the client belongs to another user.
    Denied,
    /// The command is longer than `max_command`.
    CommandTooLong { limit: u32 },
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

    #[test]
    fn hello_golden() {
        let hello = Hello {
            wire_min: 1,
            wire_max: 1,
            protocol: 7,
            max_frame: 1 << 20,
            build: "b1".into(),
            token: Some([9; 32]),
        };
        let mut bytes = b"dmnrpc\r\n".to_vec();
        bytes.extend([1, 1, 7, 0x80, 0x80, 0x40, 2, b'b', b'1', 1]);
        bytes.extend([9; 32]);
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
        };
        let bytes = [
            &[1][..],
            &[3, b's', b'v', b'c', 3, b'0', b'.', b'1', 7, 0xac, 2],
            &[1, 1, b'k', 1, b'v'],
            &[0x80, 1, 1],
        ]
        .concat();
        assert_eq!(encode(&ack), bytes);
        assert_eq!(decode::<HelloAck>(&bytes).unwrap(), ack);
    }

    #[test]
    fn refused_golden() {
        assert_eq!(encode(&Refusal::Draining), [1]);
        assert_eq!(encode(&Refusal::Busy), [2]);
        assert_eq!(encode(&Refusal::Denied), [3]);
        assert_eq!(encode(&Refusal::CommandTooLong { limit: 5 }), [4, 5]);
        let refusal = Refusal::Version {
            wire_min: 1,
            wire_max: 2,
            version: version(),
        };
        assert_eq!(encode(&refusal)[..4], [0, 1, 2, 3]);
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
