//! Detached signatures in the format of OpenPGP, as far as distribution servers have them.
//!
//! The format is that of RFC 9580 (<https://www.rfc-editor.org/rfc/rfc9580>); its sections are named below.
//! What is understood is version 4, binary documents, RSA and Ed25519, SHA-256 to SHA-512; everything else is refused.
//! Every key of a [`KeyRing`] is trusted with signatures, as long as it is in there: whoever gives the ring says so.
//! What its owner says of a key counts: that it expires, and that it was revoked. The web of trust is not looked at.

mod limits;
mod packet;

use std::fmt;

use ring::digest::{self, digest};
use ring::signature;

use limits::Limits;
use packet::{Packet, Reader};

/// The key of the Rust project for releases, from <https://static.rust-lang.org/rust-key.gpg.ascii>, without the part that cannot sign.
const RUST_KEY: &str = include_str!("rust-key.asc");

/// Why a key or a signature cannot be used, or says something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// It is not text of the right kind.
    #[error("it is no OpenPGP {0} in text form")]
    Armor(&'static str),
    /// It ends early or contradicts itself.
    #[error("it is damaged: {0}")]
    Malformed(&'static str),
    /// It is of a kind that nobody makes for releases any more, or yet.
    #[error("it has {0}, which is not supported")]
    Unsupported(String),
    /// There is no key to check anything with.
    #[error("it has no RSA or Ed25519 key of version 4")]
    NoKey,
    /// The signature is by somebody else.
    #[error("it was made with the key {0}, which is not among those that may sign releases")]
    UnknownKey(Fingerprint),
    /// It is over a hash that can be made to fit something else, so that it proves nothing about the content.
    #[error("it was made over {0}, which proves nothing any more")]
    Weak(&'static str),
    /// The signature is younger than its key was to become.
    #[error("it was made with the key {0} after that had expired")]
    Expired(Fingerprint),
    /// The owner of the key has taken it back.
    #[error("it was made with the key {0}, which its owner has revoked")]
    Revoked(Fingerprint),
    /// The signature is one of something else.
    #[error("it is not a signature of this content by the key {0}")]
    Wrong(Fingerprint),
}

/// What a key is called: SHA-1 of its packet (5.5.4.2), or the last 8 bytes of that.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    fn is_of(&self, key: &Key) -> bool {
        key.fingerprint.0.ends_with(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The keys that may sign releases.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    fingerprint: Fingerprint,
    /// When it was made, in seconds since 1970.
    created: u32,
    material: Material,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519(Vec<u8>),
}

/// A signature (5.2.3), not yet checked.
struct Signature {
    /// What it is about (5.2.1).
    kind: u8,
    /// When it was made, in seconds since 1970.
    created: u32,
    /// Of a signature about a key: after how many seconds of its life that expires.
    key_expires: Option<u32>,
    /// Of a revocation: what for.
    reason: Option<u8>,
    algorithm: u8,
    hash: u8,
    /// What is hashed behind the content (5.2.4).
    trailer: Vec<u8>,
    issuer: Option<Fingerprint>,
    values: Vec<u8>,
}

const RSA: [u8; 2] = [1, 3];
const EDDSA_LEGACY: u8 = 22;
const ED25519: u8 = 27;
/// The object identifier of Ed25519 in keys of the older kind (9.2).
const ED25519_CURVE: &[u8] = &[0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1];

impl KeyRing {
    /// The keys of the Rust project.
    ///
    /// # Errors
    ///
    /// None, unless the program itself is damaged.
    pub fn of_rust() -> Result<KeyRing, SignatureError> {
        KeyRing::parse(RUST_KEY)
    }

    /// The keys in `text`, as `gpg --armor --export` writes them; those of other kinds are left out.
    ///
    /// # Errors
    ///
    /// Text without keys that can be used.
    pub fn parse(text: &str) -> Result<KeyRing, SignatureError> {
        let keys = limits::keys(&packet::all(&packet::unarmor(text, "PUBLIC KEY BLOCK")?)?)?;
        match keys.is_empty() {
            true => Err(SignatureError::NoKey),
            false => Ok(KeyRing { keys }),
        }
    }

    /// Whether the key with this fingerprint is in the ring, and was not taken back with all that it signed.
    pub fn has(&self, fingerprint: &str) -> bool {
        let mut keys = self.keys.iter().filter(|key| !key.limits.is_void());
        keys.any(|key| key.fingerprint.to_string() == fingerprint)
    }

    /// Checks that `text`, a detached signature as `gpg --armor --detach-sign` writes it, is one of `content` by a key of the ring. Returns which key it is.
    ///
    /// # Errors
    ///
    /// Anything else. Where there are several signatures, the error is that of the last one that is not [weak](SignatureError::Weak), if there is one.
    pub fn verify(&self, content: &[u8], text: &str) -> Result<Fingerprint, SignatureError> {
        let mut result = Err(SignatureError::Malformed("there is no signature in it"));
        let mut is_wrong = false;
        for packet in packet::all(&packet::unarmor(text, "SIGNATURE")?)? {
            if packet.tag == packet::SIGNATURE {
                match Signature::parse(&packet).and_then(|made| self.check(content, &made)) {
                    Ok(key) => return Ok(key),
                    // A weak one beside a wrong one must not excuse it.
                    Err(SignatureError::Weak(_)) if is_wrong => {}
                    Err(error) => {
                        is_wrong = !matches!(error, SignatureError::Weak(_));
                        result = Err(error);
                    }
                }
            }
        }
        result
    }

    fn check(&self, content: &[u8], made: &Signature) -> Result<Fingerprint, SignatureError> {
        if made.kind != 0 {
            let text = format!("a signature of kind {:#04x}", made.kind);
            return Err(SignatureError::Unsupported(text));
        }
        if made.created == 0 {
            return Err(SignatureError::Malformed(
                "it does not say when it was made",
            ));
        }
        let Some(issuer) = &made.issuer else {
            return Err(SignatureError::Unsupported(
                "a signature that does not name its key".to_owned(),
            ));
        };
        let Some(key) = self.keys.iter().find(|key| issuer.is_of(key)) else {
            return Err(SignatureError::UnknownKey(issuer.clone()));
        };
        if let Some(hash) = weak_hash(made.hash) {
            return Err(SignatureError::Weak(hash));
        }
        match key.material.made(content, made)? {
            true => {
                key.limits.allow(made.created, &key.fingerprint)?;
                Ok(key.fingerprint.clone())
            }
            false => Err(SignatureError::Wrong(key.fingerprint.clone())),
        }
    }
}

impl Key {
    /// A key of version 4 (5.5.2.2); `None` for one that is of no use here.
    fn parse(packet: &Packet) -> Result<Option<Key>, SignatureError> {
        let mut reader = Reader::new(&packet.body);
        if reader.byte()? != 4 {
            return Ok(None);
        }
        let created = reader.long()?;
        let material = match reader.byte()? {
            algorithm if RSA.contains(&algorithm) => Material::Rsa {
                n: reader.number()?.to_vec(),
                e: reader.number()?.to_vec(),
            },
            EDDSA_LEGACY => {
                let length = reader.byte()?;
                if reader.take(length.into())? != ED25519_CURVE {
                    return Ok(None);
                }
                match reader.number()?.split_first() {
                    Some((0x40, point)) if point.len() == 32 => Material::Ed25519(point.to_vec()),
                    _ => return Err(SignatureError::Malformed("a point is none")),
                }
            }
            ED25519 => Material::Ed25519(reader.take(32)?.to_vec()),
            _ => return Ok(None),
        };
        // Names keys and nothing else; a second key of the same name would have to be in the same ring.
        let name = digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &packet.framed_key()?);
        Ok(Some(Key {
            fingerprint: Fingerprint(name.as_ref().to_vec()),
            created,
            material,
            limits: Limits::default(),
        }))
    }
}

impl Material {
    /// Whether the key made the signature of `content`.
    fn made(&self, content: &[u8], made: &Signature) -> Result<bool, SignatureError> {
        let hashed = [content, &made.trailer].concat();
        let mut values = Reader::new(&made.values);
        match self {
            Material::Rsa { n, e } if RSA.contains(&made.algorithm) => {
                let parameters = match made.hash {
                    // What owners say of their keys is as old as these are, and bounds the trust in them only.
                    2 => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
                    8 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    9 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    10 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    hash => return Err(unsupported_hash(hash)),
                };
                let value = padded(values.number()?, n.len())?;
                let key = signature::RsaPublicKeyComponents { n, e };
                Ok(key.verify(parameters, &hashed, &value).is_ok())
            }
            Material::Ed25519(point) => {
                let value = match made.algorithm {
                    EDDSA_LEGACY => {
                        let (r, s) = (values.number()?, values.number()?);
                        [padded(r, 32)?, padded(s, 32)?].concat()
                    }
                    ED25519 => values.take(64)?.to_vec(),
                    _ => return Ok(false),
                };
                let algorithm = match made.hash {
                    8 => &digest::SHA256,
                    9 => &digest::SHA384,
                    10 => &digest::SHA512,
                    hash => return Err(unsupported_hash(hash)),
                };
                // It is the digest that is signed (5.2.3.3).
                let signed = digest(algorithm, &hashed);
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, point);
                Ok(key.verify(signed.as_ref(), &value).is_ok())
            }
            Material::Rsa { .. } => Ok(false),
        }
    }
}

/// The name of a hash (9.5) that two contents can be made to have in common.
fn weak_hash(number: u8) -> Option<&'static str> {
    match number {
        1 => Some("MD5"),
        2 => Some("SHA-1"),
        _ => None,
    }
}

fn unsupported_hash(number: u8) -> SignatureError {
    SignatureError::Unsupported(format!("the hash algorithm {number}"))
}

/// A number without leading zeros, with them.
fn padded(number: &[u8], length: usize) -> Result<Vec<u8>, SignatureError> {
    let missing = length
        .checked_sub(number.len())
        .ok_or(SignatureError::Malformed("a number is too long"))?;
    Ok([&vec![0; missing], number].concat())
}

impl Signature {
    /// A signature of version 4 (5.2.3).
    fn parse(packet: &Packet) -> Result<Signature, SignatureError> {
        let mut reader = Reader::new(&packet.body);
        let version = reader.byte()?;
        if version != 4 {
            let text = format!("a signature of version {version}");
            return Err(SignatureError::Unsupported(text));
        }
        let kind = reader.byte()?;
        let (algorithm, hash) = (reader.byte()?, reader.byte()?);
        let length = reader.short()?;
        let hashed = reader.take(length.into())?;
        let mut trailer = packet.body[..6 + usize::from(length)].to_vec();
        let end = 6 + u32::from(length);
        trailer.extend([4, 0xff]);
        trailer.extend(end.to_be_bytes());
        let length = reader.short()?;
        let unhashed = reader.take(length.into())?;
        let (mut created, mut key_expires, mut reason, mut issuer) = (0, None, None, None);
        // What is not hashed may be changed by anybody, and is good for nothing but finding the key.
        for (area, is_hashed) in [(hashed, true), (unhashed, false)] {
            for part in packet::subpackets(area)? {
                match part.tag {
                    2 if is_hashed => created = Reader::new(&part.body).long()?,
                    // None is none, and so is 0.
                    9 if is_hashed => {
                        key_expires = Some(Reader::new(&part.body).long()?).filter(|s| *s > 0);
                    }
                    29 if is_hashed => reason = part.body.first().copied(),
                    // A fingerprint with its version, which is longer and preferred, or an id.
                    33 => issuer = part.body.get(1..).map(|name| Fingerprint(name.to_vec())),
                    16 => issuer = issuer.or_else(|| Some(Fingerprint(part.body.clone()))),
                    // Notations, preferences, and who signed in whose name.
                    2..=35 => {}
                    tag if part.is_critical && is_hashed => {
                        let text = format!("a critical subpacket of type {tag}");
                        return Err(SignatureError::Unsupported(text));
                    }
                    _ => {}
                }
            }
        }
        let _first_bytes_of_the_hash = reader.take(2)?;
        Ok(Signature {
            kind,
            created,
            key_expires,
            reason,
            algorithm,
            hash,
            trailer,
            issuer: issuer.filter(|name| name.0.len() >= 8),
            values: reader.rest().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
