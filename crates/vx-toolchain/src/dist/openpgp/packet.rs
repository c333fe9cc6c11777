//! Armor, packets and numbers of OpenPGP. Nothing here knows what they mean.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::SignatureError;

pub(super) const SIGNATURE: u8 = 2;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ID: u8 = 13;

/// A packet, or a subpacket of a signature.
pub(super) struct Packet {
    pub(super) tag: u8,
    /// Of subpackets only: whoever does not know the type must not accept the whole.
    pub(super) is_critical: bool,
    pub(super) body: Vec<u8>,
}

impl Packet {
    /// What is hashed of a key of version 4 (5.2.4).
    pub(super) fn framed_key(&self) -> Result<Vec<u8>, SignatureError> {
        let length = u16::try_from(self.body.len())
            .map_err(|_| SignatureError::Malformed("a key is too long"))?;
        Ok([&[0x99][..], &length.to_be_bytes(), &self.body].concat())
    }
}

/// The bytes of text between lines that say `kind` (6.2); the checksum is not looked at, as 6.1 advises.
pub(super) fn unarmor(text: &str, kind: &'static str) -> Result<Vec<u8>, SignatureError> {
    let wrong = || SignatureError::Armor(kind);
    let (begin, end) = (
        format!("-----BEGIN PGP {kind}-----"),
        format!("-----END PGP {kind}-----"),
    );
    let mut lines = text.lines().map(str::trim);
    if !lines.any(|line| line == begin) {
        return Err(wrong());
    }
    // Headers, and an empty line behind them.
    if !lines.any(str::is_empty) {
        return Err(wrong());
    }
    let mut encoded = String::new();
    for line in lines {
        if line == end {
            return STANDARD.decode(encoded).map_err(|_| wrong());
        }
        if !line.starts_with('=') {
            encoded.push_str(line);
        }
    }
    Err(wrong())
}

/// All packets (4.2).
pub(super) fn all(bytes: &[u8]) -> Result<Vec<Packet>, SignatureError> {
    let mut reader = Reader::new(bytes);
    let mut packets = Vec::new();
    while !reader.rest().is_empty() {
        let first = reader.byte()?;
        let (tag, length) = match first & 0xc0 {
            0xc0 => (first & 0x3f, reader.length()?),
            0x80 => {
                let size = match first & 3 {
                    0 => 1,
                    1 => 2,
                    2 => 4,
                    _ => return Err(SignatureError::Malformed("a packet has no length")),
                };
                let bytes = reader.take(size)?.iter();
                let length = bytes.fold(0, |length, byte| length << 8 | u64::from(*byte));
                ((first & 0x3c) >> 2, length)
            }
            _ => return Err(SignatureError::Malformed("a packet has no tag")),
        };
        packets.push(Packet {
            tag,
            is_critical: false,
            body: reader.take(length)?.to_vec(),
        });
    }
    Ok(packets)
}

/// The subpackets of a signature (5.2.3.7).
pub(super) fn subpackets(bytes: &[u8]) -> Result<Vec<Packet>, SignatureError> {
    let mut reader = Reader::new(bytes);
    let mut packets = Vec::new();
    while !reader.rest().is_empty() {
        let length = reader.length()?;
        let Some((first, body)) = reader.take(length)?.split_first() else {
            return Err(SignatureError::Malformed("a subpacket has no type"));
        };
        packets.push(Packet {
            tag: first & 0x7f,
            is_critical: first & 0x80 != 0,
            body: body.to_vec(),
        });
    }
    Ok(packets)
}

/// Takes bytes off their beginning.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], SignatureError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let taken = self.0.split_at_checked(length);
        let (taken, rest) = taken.ok_or(SignatureError::Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, SignatureError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn short(&mut self) -> Result<u16, SignatureError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn long(&mut self) -> Result<u32, SignatureError> {
        let bytes = self.take(4)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// The length of a packet of the newer kind, or of a subpacket (4.2.1).
    fn length(&mut self) -> Result<u64, SignatureError> {
        Ok(match self.byte()? {
            first @ ..192 => first.into(),
            first @ 192..224 => (u64::from(first) - 192) * 256 + u64::from(self.byte()?) + 192,
            255 => {
                let bytes = self.take(4)?.iter();
                bytes.fold(0, |length, byte| length << 8 | u64::from(*byte))
            }
            _ => return Err(SignatureError::Malformed("a packet comes in parts")),
        })
    }

    /// A number with its length in bits before it (3.2), without leading zeros.
    pub(super) fn number(&mut self) -> Result<&'a [u8], SignatureError> {
        let bits = self.short()?;
        let bytes = self.take(u64::from(bits).div_ceil(8))?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(&bytes[zeros..])
    }
}
