//! Somebody with a key of OpenPGP, who signs manifests as those who run a server do.

#![allow(dead_code, reason = "each test uses a part of it")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA512, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

/// A key pair of Ed25519, version 4, of the older kind that GnuPG makes.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The signer whose secret is `seed`.
    pub(crate) fn new(seed: u8) -> Signer {
        Signer {
            pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(),
        }
    }

    /// The public key, as a file.
    pub(crate) fn key(&self) -> String {
        armored("PUBLIC KEY BLOCK", 6, &self.packet())
    }

    /// A signature of `content`, as a file.
    pub(crate) fn sign(&self, content: &[u8]) -> String {
        let mut body = begin(22, 10, &self.name());
        let hashed = u32::try_from(body.len()).unwrap().to_be_bytes();
        let digest = digest(&SHA512, &[content, &body, &[4, 0xff], &hashed].concat());
        let signature = self.pair.sign(digest.as_ref());
        body.extend([0, 0]);
        body.extend(&digest.as_ref()[..2]);
        for half in signature.as_ref().chunks(32) {
            body.extend(number(half));
        }
        armored("SIGNATURE", 2, &body)
    }

    /// A signature over SHA-1, of nothing in particular: nobody looks that far.
    pub(crate) fn weak(&self) -> String {
        weak(&self.name())
    }

    /// The short name of the key.
    fn name(&self) -> Vec<u8> {
        let packet = self.packet();
        let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
        let whole = [&[0x99][..], &length, &packet].concat();
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref()[12..].to_vec()
    }

    fn packet(&self) -> Vec<u8> {
        let curve = [9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1];
        let point = [&[0x40][..], self.pair.public_key().as_ref()].concat();
        [&[4, 0, 0, 0, 1, 22][..], &curve, &number(&point)].concat()
    }
}

/// A signature over SHA-1 that names the key `name` and is of nothing in particular.
pub(crate) fn weak(name: &[u8]) -> String {
    let rest = [&[0, 0, 0, 0][..], &number(&[1])].concat();
    armored("SIGNATURE", 2, &[begin(1, 2, name), rest].concat())
}

/// The part of a signature that is hashed, with what those of the Rust project have in it: the time, and the short name of the key.
fn begin(algorithm: u8, hash: u8, name: &[u8]) -> Vec<u8> {
    let subpackets = [&[5, 2, 0, 0, 0, 1, 9, 16][..], name].concat();
    let length = u16::try_from(subpackets.len()).unwrap();
    let mut body = vec![4, 0, algorithm, hash];
    body.extend(length.to_be_bytes());
    body.extend(subpackets);
    body
}

fn number(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    let unused = bytes.first().map_or(0, |byte| byte.leading_zeros());
    let bits = u16::try_from(bytes.len() * 8).unwrap() - u16::try_from(unused).unwrap();
    [&bits.to_be_bytes()[..], bytes].concat()
}

fn armored(kind: &str, tag: u8, body: &[u8]) -> String {
    let length = u8::try_from(body.len()).unwrap();
    assert!(length < 192);
    let packet = STANDARD.encode([&[0xc0 | tag, length][..], body].concat());
    format!("-----BEGIN PGP {kind}-----\n\n{packet}\n-----END PGP {kind}-----\n")
}
