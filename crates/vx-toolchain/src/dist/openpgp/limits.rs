//! How long the keys of a file are good: what their owners have signed about that.
//!
//! An owner may let a key expire, and put that off; may give it up; or may say that it was stolen (5.2.1, 5.2.3.13, 5.2.3.31).
//! Whoever else signs a key has no say in it, and neither has a signature that is not right.

use super::packet::{self, Packet};
use super::{Fingerprint, Key, Signature, SignatureError};

/// Reasons of a revocation that leave what was signed before as good as it was: superseded, and retired.
const GIVEN_UP: [u8; 2] = [1, 3];

/// What bounds the trust in a key. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// What the owner said last: when, and after how many seconds of its life the key expires.
    expiry: Option<(u32, Option<u32>)>,
    /// When it expires.
    expires: Option<u64>,
    /// From when on its signatures are worth nothing.
    revoked: Option<u32>,
}

/// What the signatures that follow are about (5.2.4).
struct Subject {
    /// What is hashed of it.
    content: Vec<u8>,
    /// The kinds of signatures that its owner makes about it.
    kinds: &'static [u8],
    /// The key whose trust they bound.
    key: Option<usize>,
}

impl Subject {
    const PRIMARY: &'static [u8] = &[0x1f, 0x20];
    const USER: &'static [u8] = &[0x10, 0x11, 0x12, 0x13];
    const SUBKEY: &'static [u8] = &[0x18, 0x28];
}

const REVOCATIONS: [u8; 2] = [0x20, 0x28];

/// The keys of a file that can be used, with their limits.
pub(super) fn keys(packets: &[Packet]) -> Result<Vec<Key>, SignatureError> {
    let mut keys: Vec<Key> = Vec::new();
    // The key that the ones below it belong to, and what is hashed of it.
    let mut owner: (Option<usize>, Vec<u8>) = (None, Vec::new());
    let mut owned = Vec::new();
    let mut subject = None;
    for packet in packets {
        match packet.tag {
            packet::PUBLIC_KEY | packet::PUBLIC_SUBKEY => {
                let at = Key::parse(packet)?.map(|key| {
                    keys.push(key);
                    keys.len() - 1
                });
                let own = packet.framed_key()?;
                let is_primary = packet.tag == packet::PUBLIC_KEY;
                let (kinds, content) = match is_primary {
                    true => (Subject::PRIMARY, own.clone()),
                    false => (Subject::SUBKEY, [owner.1.as_slice(), &own].concat()),
                };
                match (is_primary, at, owner.0) {
                    (true, ..) => owner = (at, own),
                    (false, Some(at), Some(owner)) => owned.push((at, owner)),
                    _ => {}
                }
                subject = Some(Subject {
                    content,
                    kinds,
                    key: at,
                });
            }
            packet::USER_ID => {
                let length = u32::try_from(packet.body.len())
                    .map_err(|_| SignatureError::Malformed("a name is too long"))?;
                let name = [&[0xb4][..], &length.to_be_bytes(), &packet.body].concat();
                subject = Some(Subject {
                    content: [owner.1.as_slice(), &name].concat(),
                    kinds: Subject::USER,
                    key: owner.0,
                });
            }
            packet::SIGNATURE => {
                if let (Some(subject), Some(owner)) = (&subject, owner.0)
                    && let Some(at) = subject.key
                    && let Some(said) = said_by(&keys[owner], subject, packet)
                {
                    keys[at].limit(&said);
                }
            }
            // Pictures, and whatever else is not about a key.
            _ => subject = None,
        }
    }
    for (key, owner) in owned {
        keys[key].limits = keys[key].limits.and(keys[owner].limits);
    }
    Ok(keys)
}

/// What a signature says, if it is the owner's.
fn said_by(owner: &Key, subject: &Subject, packet: &Packet) -> Option<Signature> {
    let made = Signature::parse(packet).ok()?;
    let is_owners = subject.kinds.contains(&made.kind)
        && made.issuer.as_ref().is_some_and(|name| name.is_of(owner))
        && owner.material.made(&subject.content, &made).ok()?;
    is_owners.then_some(made)
}

impl Key {
    fn limit(&mut self, said: &Signature) {
        let limits = &mut self.limits;
        if REVOCATIONS.contains(&said.kind) {
            let is_given_up = said.reason.is_some_and(|reason| GIVEN_UP.contains(&reason));
            let from = if is_given_up { said.created } else { 0 };
            limits.revoked = earlier(limits.revoked, Some(from));
            return;
        }
        if limits.expiry.is_none_or(|(when, _)| when <= said.created) {
            limits.expiry = Some((said.created, said.key_expires));
            limits.expires = said
                .key_expires
                .map(|seconds| u64::from(self.created) + u64::from(seconds));
        }
    }
}

impl Limits {
    /// The stricter ones of both.
    fn and(self, other: Limits) -> Limits {
        Limits {
            expiry: self.expiry,
            expires: earlier(self.expires, other.expires),
            revoked: earlier(self.revoked, other.revoked),
        }
    }

    /// Whether nothing that the key signed is worth anything.
    pub(super) fn is_void(&self) -> bool {
        self.revoked == Some(0)
    }

    /// Whether the key `name` was good when it signed, `created` seconds after 1970.
    ///
    /// Whoever has the key can write any time; that is what a revocation is for.
    pub(super) fn allow(&self, created: u32, name: &Fingerprint) -> Result<(), SignatureError> {
        if self.revoked.is_some_and(|from| created >= from) {
            return Err(SignatureError::Revoked(name.clone()));
        }
        if self.expires.is_some_and(|end| u64::from(created) >= end) {
            return Err(SignatureError::Expired(name.clone()));
        }
        Ok(())
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MESSAGE, armored};
    use super::super::{KeyRing, SignatureError, packet};

    const EXPIRING: &str = include_str!("validity/expiring.key.asc");
    const EXTENDED: &str = include_str!("validity/extended.key.asc");
    const REVOKED: &str = include_str!("validity/revoked.key.asc");
    const IN_TIME: &str = include_str!("validity/in_time.sig.asc");
    const LATE: &str = include_str!("validity/late.sig.asc");
    const SUBKEY: &str = include_str!("validity/subkey.key.asc");
    const SUBKEY_REVOKED: &str = include_str!("validity/subkey_revoked.key.asc");
    const BY_SUBKEY: &str = include_str!("validity/subkey.sig.asc");

    fn verify(key: &str, signature: &str) -> Result<String, SignatureError> {
        let by = KeyRing::parse(key)?.verify(MESSAGE, signature)?;
        Ok(by.to_string())
    }

    fn bytes(key: &str) -> Vec<u8> {
        packet::unarmor(key, "PUBLIC KEY BLOCK").unwrap()
    }

    #[test]
    fn what_was_signed_after_the_key_had_expired_is_refused_until_it_is_extended() {
        verify(EXPIRING, IN_TIME).unwrap();
        let error = verify(EXPIRING, LATE).unwrap_err();
        assert!(matches!(error, SignatureError::Expired(_)), "{error}");
        verify(EXTENDED, IN_TIME).unwrap();
        verify(EXTENDED, LATE).unwrap();
        // What was said last counts, wherever it stands.
        let (old, new) = (bytes(EXPIRING), bytes(EXTENDED));
        let signature = |bytes: &[u8]| bytes[86..].to_vec();
        for (first, last) in [(&old, &new), (&new, &old)] {
            let both = [first.clone(), signature(last)].concat();
            verify(&armored("PUBLIC KEY BLOCK", &both), LATE).unwrap();
        }
    }

    #[test]
    fn a_key_that_was_revoked_signs_nothing() {
        for signature in [IN_TIME, LATE] {
            let error = verify(REVOKED, signature).unwrap_err();
            assert!(matches!(error, SignatureError::Revoked(_)), "{error}");
        }
        let ring = KeyRing::parse(REVOKED).unwrap();
        let name = verify(EXPIRING, IN_TIME).unwrap();
        assert!(!ring.has(&name) && KeyRing::parse(EXPIRING).unwrap().has(&name));
    }

    #[test]
    fn a_subkey_that_was_given_up_leaves_what_it_signed_before() {
        let name = verify(SUBKEY, BY_SUBKEY).unwrap();
        assert_eq!(verify(SUBKEY_REVOKED, BY_SUBKEY).unwrap(), name);
        let ring = KeyRing::parse(SUBKEY_REVOKED).unwrap();
        let key = ring
            .keys
            .iter()
            .find(|key| key.fingerprint.to_string() == name);
        let (key, september) = (key.unwrap(), 1_598_961_600);
        let allow = |created| key.limits.allow(created, &key.fingerprint);
        assert_eq!(allow(september - 1), Ok(()));
        let revoked = SignatureError::Revoked(key.fingerprint.clone());
        assert_eq!(allow(september), Err(revoked));
        // It would have expired as well, and the key above it would not.
        let ring = KeyRing::parse(SUBKEY).unwrap();
        let expired = |created: u32| {
            let keys = ring.keys.iter();
            let found = keys.map(|key| key.limits.allow(created, &key.fingerprint).is_err());
            found.collect::<Vec<_>>()
        };
        let year = 1_577_880_000 + 365 * 24 * 3600;
        assert_eq!(expired(year - 1), [false, false]);
        assert_eq!(expired(year), [false, true]);
    }

    #[test]
    fn nobody_but_the_owner_can_let_a_key_end() {
        // The revocation of one key behind another one, and one whose signature is wrong.
        let (key, revoked) = (bytes(EXPIRING), bytes(REVOKED));
        let revocation = &revoked[53..175];
        let other = bytes(SUBKEY);
        let strange = [&other[..53], revocation, &other[53..]].concat();
        verify(&armored("PUBLIC KEY BLOCK", &strange), BY_SUBKEY).unwrap();
        let mut wrong = revocation.to_vec();
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        let forged = [&key[..53], &wrong, &key[53..]].concat();
        verify(&armored("PUBLIC KEY BLOCK", &forged), IN_TIME).unwrap();
        let right = [&key[..53], revocation, &key[53..]].concat();
        verify(&armored("PUBLIC KEY BLOCK", &right), IN_TIME).unwrap_err();
    }
}
