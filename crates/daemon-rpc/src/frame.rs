//! Frames: a length, a type, a payload. `PROTOCOL.md`, section "Frames".
//!
//! Nothing here does I/O. A length is checked against the limit of the moment
//! before anything is allocated for it.

use bytes::{Buf, Bytes, BytesMut};

/// The largest frame before the handshake is over, in bytes of type and payload.
pub const HANDSHAKE_LIMIT: u32 = 4096;
/// The largest frame afterwards unless the two sides agree on another size.
pub const DEFAULT_MAX_FRAME: u32 = 1 << 20;
/// The payload of one data frame at most, in bytes.
pub const DATA_CHUNK: usize = 64 << 10;
/// The largest event, put together from its parts, in bytes.
pub(crate) const MAX_EVENT: usize = 64 << 20;
/// Length and type.
pub(crate) const HEADER: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 0x01,
    Command = 0x02,
    Cancel = 0x03,
    Stdin = 0x04,
    StdinEnd = 0x05,
    Resize = 0x06,
    Ask = 0x07,
    HelloAck = 0x11,
    Refused = 0x12,
    Accepted = 0x13,
    Stdout = 0x14,
    Stderr = 0x15,
    Event = 0x16,
    EventPart = 0x17,
    End = 0x18,
    StdinCredit = 0x19,
    Status = 0x1a,
}

/// All of them.
const KINDS: [Kind; 17] = {
    use Kind::*;
    [
        Hello,
        Command,
        Cancel,
        Stdin,
        StdinEnd,
        Resize,
        Ask,
        HelloAck,
        Refused,
        Accepted,
        Stdout,
        Stderr,
        Event,
        EventPart,
        End,
        StdinCredit,
        Status,
    ]
};

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes, at most {limit} are allowed here")]
    TooLong { length: u32, limit: u32 },
    #[error("a frame without a type")]
    Empty,
    #[error("a frame of the unknown type {0:#04x}")]
    UnknownType(u8),
}

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// `None`: a type of a later version that may be skipped.
    pub(crate) kind: Option<Kind>,
    /// Bytes of payload.
    pub(crate) payload: usize,
}

impl Header {
    /// Reads a header; `limit` counts type and payload.
    pub(crate) fn parse(bytes: [u8; HEADER], limit: u32) -> Result<Header, FrameError> {
        let [a, b, c, d, kind] = bytes;
        let length = u32::from_be_bytes([a, b, c, d]);
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > limit {
            return Err(FrameError::TooLong { length, limit });
        }
        let known = Kind::from_byte(kind);
        if known.is_none() && kind & 0x80 == 0 {
            return Err(FrameError::UnknownType(kind));
        }
        Ok(Header {
            kind: known,
            payload: length as usize - 1,
        })
    }

    /// Writes the header of a frame with `payload` bytes of payload.
    pub(crate) fn write(kind: Kind, payload: usize) -> [u8; HEADER] {
        // Callers split or check what they send; a frame that cannot be told is
        // refused by the other side as too long.
        let length = u32::try_from(payload + 1).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        [a, b, c, d, kind as u8]
    }
}

/// Appends a frame to `out`.
pub(crate) fn put(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    out.extend_from_slice(&Header::write(kind, payload.len()));
    out.extend_from_slice(payload);
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Bytes that are not yet cut. Empty and without memory on an idle connection.
    pub(crate) buffer: BytesMut,
}

impl Decoder {
    /// Whether a whole frame is there, of whatever type and length.
    pub(crate) fn has_frame(&self) -> bool {
        let header = self.buffer.first_chunk::<HEADER>();
        header
            .and_then(|header| Header::parse(*header, u32::MAX).ok())
            .is_some_and(|header| self.buffer.len() >= HEADER + header.payload)
    }

    /// The next complete frame of a known type; `None`: more bytes are needed.
    pub(crate) fn next(&mut self, limit: u32) -> Result<Option<(Kind, Bytes)>, FrameError> {
        while let Some(header) = self.buffer.first_chunk::<HEADER>() {
            let header = Header::parse(*header, limit)?;
            let whole = HEADER + header.payload;
            if self.buffer.len() < whole {
                return Ok(None);
            }
            let mut frame = self.buffer.split_to(whole);
            if let Some(kind) = header.kind {
                frame.advance(HEADER);
                return Ok(Some((kind, frame.freeze())));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_golden() {
        let mut out = Vec::new();
        put(&mut out, Kind::Stdout, b"hi");
        put(&mut out, Kind::Accepted, b"");
        assert_eq!(out, [0, 0, 0, 3, 0x14, b'h', b'i', 0, 0, 0, 1, 0x13]);
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(&out);
        let first = decoder.next(3).unwrap().unwrap();
        assert_eq!(first, (Kind::Stdout, Bytes::from_static(b"hi")));
        let second = decoder.next(3).unwrap().unwrap();
        assert_eq!(second, (Kind::Accepted, Bytes::new()));
        assert_eq!(decoder.next(3).unwrap(), None);
    }

    #[test]
    fn bytes_arrive_one_by_one() {
        let mut out = Vec::new();
        put(&mut out, Kind::Event, b"12345");
        let mut decoder = Decoder::default();
        let (last, first) = out.split_last().unwrap();
        for byte in first {
            decoder.buffer.extend_from_slice(&[*byte]);
            assert!(!decoder.has_frame());
            assert_eq!(decoder.next(100).unwrap(), None);
        }
        decoder.buffer.extend_from_slice(&[*last]);
        assert!(decoder.has_frame());
        assert!(decoder.next(100).unwrap().is_some());
    }

    #[test]
    fn lengths_are_refused_before_anything_is_allocated() {
        let mut decoder = Decoder::default();
        decoder
            .buffer
            .extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x14]);
        let error = decoder.next(HANDSHAKE_LIMIT).unwrap_err();
        assert_eq!(
            error,
            FrameError::TooLong {
                length: u32::MAX,
                limit: 4096
            }
        );
        assert!(decoder.buffer.capacity() < 4096);
        assert_eq!(Header::parse([0; 5], 10), Err(FrameError::Empty));
        // At the limit, and one more.
        assert!(Header::parse([0, 0, 0, 10, 0x14], 10).is_ok());
        assert!(Header::parse([0, 0, 0, 11, 0x14], 10).is_err());
    }

    #[test]
    fn later_types_are_skipped_if_they_say_so() {
        let mut decoder = Decoder::default();
        decoder
            .buffer
            .extend_from_slice(&[0, 0, 0, 2, 0x99, 7, 0, 0, 0, 1, 0x13]);
        assert_eq!(
            decoder.next(10).unwrap(),
            Some((Kind::Accepted, Bytes::new()))
        );
        decoder.buffer.extend_from_slice(&[0, 0, 0, 1, 0x55]);
        assert_eq!(decoder.next(10), Err(FrameError::UnknownType(0x55)));
    }

    #[test]
    fn what_other_programs_say_first_is_no_frame() {
        for text in [&b"HTTP/"[..], b"GET /", b"SSH-2", b"PRI *", b"220 m"] {
            let header = *text.first_chunk().unwrap();
            assert!(Header::parse(header, HANDSHAKE_LIMIT).is_err());
        }
        // A TLS client hello.
        assert!(Header::parse([0x16, 3, 1, 2, 0], HANDSHAKE_LIMIT).is_err());
    }
}
