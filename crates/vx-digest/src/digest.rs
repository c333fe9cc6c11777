//! Hash and size, and their text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

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

    /// The hash as 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        hex::encode(&self.hash)
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }
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
            hash: hex::decode(hash).ok_or_else(|| DigestError::Hash(hash.to_owned()))?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let digest = Digest::of(b"round trip");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
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
    }
}
