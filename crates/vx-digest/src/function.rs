//! What makes the hashes, of bytes at once or in pieces.

use sha2::Digest as _;

use crate::Digest;

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
}
