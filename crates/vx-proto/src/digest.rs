//! The name of a blob: the hash of its bytes, and their number.
//!
//! BLAKE3 is the default, SHA-256 is there for peers that know nothing else.
//! Both have 32 bytes, so a [`Digest`] does not say which function made it; the
//! requests of the Remote Execution API do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::reapi;

/// Hash and size of a blob.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// The hash of the bytes.
    pub hash: [u8; 32],
    /// Their number.
    pub size: u64,
}

/// Why something is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The hash is not 64 lower-case hex digits.
    #[error("`{0}` is not a hash of 64 lower-case hex digits")]
    Hash(String),
    /// The size is no number of bytes.
    #[error("`{0}` is not a size in bytes")]
    Size(String),
    /// There is no `/` between hash and size.
    #[error("`{0}` is not a digest, expected `hash/size`")]
    Form(String),
    /// A message has no digest where it needs one.
    #[error("a digest is missing")]
    Missing,
    /// A digest function that is not served here.
    #[error("digest function `{0}` is not supported, only BLAKE3 and SHA256 are")]
    Function(String),
}

impl Digest {
    /// The BLAKE3 digest of no bytes.
    pub const EMPTY: Digest = Digest {
        hash: [
            0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc,
            0xc9, 0x49, 0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca,
            0xe4, 0x1f, 0x32, 0x62,
        ],
        size: 0,
    };

    /// The BLAKE3 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest {
            hash: *blake3::hash(bytes).as_bytes(),
            size: bytes.len() as u64,
        }
    }

    /// The BLAKE3 digest of an encoded message.
    pub fn of_message(message: &impl prost::Message) -> Digest {
        Digest::of(&message.encode_to_vec())
    }

    /// The hash as 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        to_hex(&self.hash)
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
}

/// `bytes` as lower-case hex digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The 32 bytes that 64 lower-case hex digits stand for.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hex(), self.size)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (hash, size) = text
            .split_once('/')
            .ok_or_else(|| DigestError::Form(text.to_owned()))?;
        Ok(Digest {
            hash: from_hex(hash).ok_or_else(|| DigestError::Hash(hash.to_owned()))?,
            size: parse_size(size)?,
        })
    }
}

/// Sizes go over the wire as signed numbers, so larger ones are refused.
fn parse_size(text: &str) -> Result<u64, DigestError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<i64>() {
        Ok(size) if digits => Ok(size.unsigned_abs()),
        _ => Err(DigestError::Size(text.to_owned())),
    }
}

impl TryFrom<&reapi::Digest> for Digest {
    type Error = DigestError;

    fn try_from(digest: &reapi::Digest) -> Result<Self, DigestError> {
        Ok(Digest {
            hash: from_hex(&digest.hash).ok_or_else(|| DigestError::Hash(digest.hash.clone()))?,
            size: u64::try_from(digest.size_bytes)
                .map_err(|_| DigestError::Size(digest.size_bytes.to_string()))?,
        })
    }
}

impl TryFrom<Option<&reapi::Digest>> for Digest {
    type Error = DigestError;

    fn try_from(digest: Option<&reapi::Digest>) -> Result<Self, DigestError> {
        digest.ok_or(DigestError::Missing)?.try_into()
    }
}

impl From<Digest> for reapi::Digest {
    fn from(digest: Digest) -> reapi::Digest {
        reapi::Digest {
            hash: digest.hex(),
            // No file reaches the sign bit.
            size_bytes: i64::try_from(digest.size).unwrap_or(i64::MAX),
        }
    }
}

impl From<&Digest> for reapi::Digest {
    fn from(digest: &Digest) -> reapi::Digest {
        (*digest).into()
    }
}

/// The function that makes the hashes of a conversation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum DigestFunction {
    /// Our own choice: fast, and hashes large blobs in parallel.
    #[default]
    Blake3,
    /// For peers that know nothing else.
    Sha256,
}

impl DigestFunction {
    /// The digest of some bytes.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            DigestFunction::Blake3 => Digest::of(bytes),
            DigestFunction::Sha256 => Digest {
                hash: sha2::Sha256::digest(bytes).into(),
                size: bytes.len() as u64,
            },
        }
    }

    /// A hasher for a stream.
    pub fn hasher(self) -> Hasher {
        Hasher {
            size: 0,
            state: match self {
                DigestFunction::Blake3 => State::Blake3(Box::default()),
                DigestFunction::Sha256 => State::Sha256(sha2::Sha256::new()),
            },
        }
    }

    /// The number in requests.
    pub fn wire(self) -> i32 {
        match self {
            DigestFunction::Blake3 => reapi::digest_function::Value::Blake3 as i32,
            DigestFunction::Sha256 => reapi::digest_function::Value::Sha256 as i32,
        }
    }

    /// What a number in a request means.
    ///
    /// 0 (not said) is SHA-256: the API wants every client with another function
    /// of the same length to name it.
    pub fn from_wire(number: i32) -> Result<DigestFunction, DigestError> {
        use reapi::digest_function::Value;
        match Value::try_from(number) {
            Ok(Value::Blake3) => Ok(DigestFunction::Blake3),
            Ok(Value::Sha256 | Value::Unknown) => Ok(DigestFunction::Sha256),
            Ok(other) => Err(DigestError::Function(other.as_str_name().to_owned())),
            Err(_) => Err(DigestError::Function(number.to_string())),
        }
    }

    /// What stands before the hash in a resource name; SHA-256 is never named.
    pub fn resource_prefix(self) -> &'static str {
        match self {
            DigestFunction::Blake3 => "blake3/",
            DigestFunction::Sha256 => "",
        }
    }
}

/// Computes the digest of bytes that come in pieces.
#[derive(Clone, Debug)]
pub struct Hasher {
    size: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    // Nearly two KiB, hence the box.
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        match &mut self.state {
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
            State::Sha256(hasher) => hasher.update(bytes),
        }
    }

    /// The number of bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Digest {
        Digest {
            size: self.size,
            hash: match self.state {
                State::Blake3(hasher) => *hasher.finalize().as_bytes(),
                State::Sha256(hasher) => hasher.finalize().into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_the_digest_of_nothing() {
        assert_eq!(Digest::of(b""), Digest::EMPTY);
        assert_eq!(DigestFunction::Blake3.hasher().finish(), Digest::EMPTY);
    }

    #[test]
    fn known_hashes() {
        // The published test vectors for "abc".
        assert_eq!(
            DigestFunction::Sha256.digest(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/3"
        );
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85/3"
        );
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let bytes = vec![7; 100_000];
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            let mut hasher = function.hasher();
            for piece in bytes.chunks(1777) {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), function.digest(&bytes));
        }
    }

    #[test]
    fn text_and_message_round_trip() {
        let digest = Digest::of(b"round trip");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let message: reapi::Digest = digest.into();
        assert_eq!(Digest::try_from(&message).unwrap(), digest);
    }

    #[test]
    fn bad_digests_are_refused() {
        let hash = "a".repeat(64);
        for bad in [
            String::new(),
            hash.clone(),
            format!("{hash}/"),
            format!("{hash}/-1"),
            format!("{hash}/+1"),
            format!("{hash}/99999999999999999999"),
            format!("{}/1", hash.to_uppercase()),
            format!("{}/1", &hash[1..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let negative = reapi::Digest {
            hash,
            size_bytes: -1,
        };
        assert_eq!(
            Digest::try_from(&negative),
            Err(DigestError::Size("-1".into()))
        );
    }

    #[test]
    fn functions_that_are_not_served_are_named() {
        assert_eq!(
            DigestFunction::from_wire(2),
            Err(DigestError::Function("SHA1".into()))
        );
        for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
            assert_eq!(DigestFunction::from_wire(function.wire()), Ok(function));
        }
    }
}
