//! The hash by which a file is asked for.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::Digest as _;

/// How much of a file is hashed at once.
const CHUNK: usize = 1 << 18;

/// The hash of a file's content: `sha256:<64 hex digits>` or `blake3:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256, as most publishers give it.
    Sha256([u8; 32]),
    /// BLAKE3.
    Blake3([u8; 32]),
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest; expected `sha256:` or `blake3:` and 64 hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The SHA-256 of these bytes.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::Sha256(sha2::Sha256::digest(bytes).into())
    }

    /// The BLAKE3 of these bytes.
    #[must_use]
    pub fn blake3(bytes: &[u8]) -> Digest {
        Digest::Blake3(*blake3::hash(bytes).as_bytes())
    }

    /// `sha256` or `blake3`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Digest::Sha256(_) => "sha256",
            Digest::Blake3(_) => "blake3",
        }
    }

    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let (Digest::Sha256(bytes) | Digest::Blake3(bytes)) = self;
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }

    /// An empty hash of the same kind.
    pub(crate) fn hasher(&self) -> Hasher {
        match self {
            Digest::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Digest::Blake3(_) => Hasher::Blake3(Box::new(blake3::Hasher::new())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let parse = || {
            let (algorithm, hex) = text.split_once(':')?;
            if hex.len() != 64 || !hex.is_ascii() {
                return None;
            }
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
                let high = char::from(pair[0]).to_digit(16)?;
                let low = char::from(pair[1]).to_digit(16)?;
                *byte = u8::try_from(high << 4 | low).ok()?;
            }
            match algorithm {
                "sha256" => Some(Digest::Sha256(bytes)),
                "blake3" => Some(Digest::Blake3(bytes)),
                _ => None,
            }
        };
        parse().ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// A hash in the making.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// Takes in all that the reader has; returns how much that was.
    pub(crate) fn update_from(&mut self, mut reader: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(length) => {
                    self.update(&buffer[..length]);
                    total += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn finish(&self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.clone().finalize().into()),
            Hasher::Blake3(hasher) => Digest::Blake3(*hasher.finalize().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_digests_of_nothing() {
        let sha256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let blake3 = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::sha256(b"").to_string(), sha256);
        assert_eq!(Digest::blake3(b"").to_string(), blake3);
        assert_eq!(sha256.parse(), Ok(Digest::sha256(b"")));
        assert_eq!(blake3.parse(), Ok(Digest::blake3(b"")));
    }

    #[test]
    fn what_is_not_a_digest_is_named() {
        let zeros = "0".repeat(64);
        for text in [
            String::new(),
            zeros.clone(),
            format!("md5:{zeros}"),
            format!("sha256:{}", &zeros[1..]),
            format!("sha256:+{}", &zeros[1..]),
            format!("sha256:{}é", &zeros[2..]),
        ] {
            let error = text.parse::<Digest>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
