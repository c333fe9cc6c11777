//! Keys and signatures that GnuPG made, and what becomes of them when they are changed.

use super::*;

pub(super) const MESSAGE: &[u8] = include_bytes!("message.txt");
const RSA_KEY: &str = include_str!("rsa3072.key.asc");
const RSA_SIGNATURE: &str = include_str!("rsa3072.sig.asc");
const RSA_NAME: &str = "64EFC38FD25A513224258C76EC358F37129519DE";
const ED_KEY: &str = include_str!("ed25519.key.asc");
const ED_SIGNATURE: &str = include_str!("ed25519.sig.asc");
const ED_NAME: &str = "3133A6A6CA1AB47FC7AB2E98F24B1D9B75045EE6";

pub(super) fn armored(kind: &str, bytes: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("-----BEGIN PGP {kind}-----\n\n{text}\n-----END PGP {kind}-----\n")
}

fn names(ring: &KeyRing) -> Vec<String> {
    let keys = ring.keys.iter();
    keys.map(|key| key.fingerprint.to_string()).collect()
}

#[test]
fn the_key_of_the_rust_project_is_the_one_that_is_known_everywhere() {
    assert_eq!(
        names(&KeyRing::of_rust().unwrap()),
        [
            "108F66205EAEB0AAA8DD5E1C85AB96E6FA1BE5FE",
            "C13466B7E169A085188632165CB4A9347B3B09DC"
        ]
    );
}

#[test]
fn signatures_that_gnupg_made_are_good_and_say_by_which_key() {
    for (key, signature, name) in [
        (RSA_KEY, RSA_SIGNATURE, RSA_NAME),
        (ED_KEY, ED_SIGNATURE, ED_NAME),
    ] {
        let ring = KeyRing::parse(key).unwrap();
        let by = ring.verify(MESSAGE, signature).unwrap();
        assert_eq!(by.to_string(), name);
        // Headers and other line ends are no part of it.
        let other = signature.replace('\n', "\r\n").replacen(
            "-----\r\n",
            "-----\r\nComment: from a mirror\r\n",
            1,
        );
        assert!(ring.verify(MESSAGE, &other).is_ok(), "{other}");
    }
}

#[test]
fn signatures_of_something_else_and_by_somebody_else_are_told_apart() {
    let rsa = KeyRing::parse(RSA_KEY).unwrap();
    let ed = KeyRing::parse(ED_KEY).unwrap();
    for (ring, signature, name) in [
        (&rsa, RSA_SIGNATURE, RSA_NAME),
        (&ed, ED_SIGNATURE, ED_NAME),
    ] {
        let error = ring.verify(b"manifest", signature).unwrap_err();
        assert!(matches!(&error, SignatureError::Wrong(by) if by.to_string() == name));
    }
    let error = ed.verify(MESSAGE, RSA_SIGNATURE).unwrap_err();
    assert!(matches!(&error, SignatureError::UnknownKey(by) if by.to_string() == RSA_NAME));
    let rust = KeyRing::of_rust().unwrap();
    assert!(matches!(
        rust.verify(MESSAGE, ED_SIGNATURE),
        Err(SignatureError::UnknownKey(_))
    ));
}

#[test]
fn a_signature_over_sha1_proves_nothing_and_excuses_nothing() {
    let rsa = KeyRing::parse(RSA_KEY).unwrap();
    let weak = include_str!("sha1.sig.asc");
    let error = rsa.verify(MESSAGE, weak).unwrap_err();
    assert_eq!(error, SignatureError::Weak("SHA-1"));
    assert_eq!(
        error.to_string(),
        "it was made over SHA-1, which proves nothing any more"
    );
    // Several in one file, in any order.
    let bytes = |text| packet::unarmor(text, "SIGNATURE").unwrap();
    for (one, other) in [(weak, RSA_SIGNATURE), (RSA_SIGNATURE, weak)] {
        let both = armored("SIGNATURE", &[bytes(one), bytes(other)].concat());
        assert!(rsa.verify(MESSAGE, &both).is_ok());
        let error = rsa.verify(b"manifest", &both).unwrap_err();
        assert!(matches!(error, SignatureError::Wrong(_)), "{error}");
    }
}

#[test]
fn a_signature_has_to_say_when_it_was_made_and_of_what() {
    // Of version 4, over SHA-512, with the name of the key where anybody may put it.
    let signature = |kind: u8, hashed: &[u8]| {
        let name = [&[9, 16][..], &[7; 8]].concat();
        let lengths = [
            &[4, kind, 22, 10, 0, hashed.len() as u8][..],
            hashed,
            &[0, 10],
        ]
        .concat();
        let body = [lengths, name, vec![0, 0]].concat();
        let packet = [&[0xc2, body.len() as u8][..], &body].concat();
        armored("SIGNATURE", &packet)
    };
    let ring = KeyRing::parse(ED_KEY).unwrap();
    let error = |text: &str| ring.verify(MESSAGE, text).unwrap_err();
    let time = [5, 2, 0, 0, 0, 1];
    assert!(matches!(
        error(&signature(0, &time)),
        SignatureError::UnknownKey(_)
    ));
    assert_eq!(
        error(&signature(0, &[])),
        SignatureError::Malformed("it does not say when it was made")
    );
    let other = error(&signature(0x10, &time)).to_string();
    assert!(other.contains("a signature of kind 0x10"), "{other}");
}

#[test]
fn no_bit_of_a_signature_can_be_changed() {
    for (key, signature) in [(RSA_KEY, RSA_SIGNATURE), (ED_KEY, ED_SIGNATURE)] {
        let ring = KeyRing::parse(key).unwrap();
        let bytes = packet::unarmor(signature, "SIGNATURE").unwrap();
        let parsed = &packet::all(&bytes).unwrap()[0];
        let start = bytes.len() - parsed.body.len();
        let made = Signature::parse(parsed).unwrap();
        let hashed = start + made.trailer.len() - 6;
        let values = bytes.len() - made.values.len();
        // The lengths of numbers are in bits, and the last bits of them say nothing.
        let mut reader = Reader::new(&made.values);
        let mut lengths = Vec::new();
        while !reader.rest().is_empty() {
            let at = bytes.len() - reader.rest().len();
            lengths.extend([at, at + 1]);
            reader.number().unwrap();
        }
        let all = (start..hashed).chain(values..bytes.len());
        for at in all.filter(|at| !lengths.contains(at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let text = armored("SIGNATURE", &changed);
            assert!(ring.verify(MESSAGE, &text).is_err(), "byte {at}");
        }
    }
}

#[test]
fn what_is_cut_or_garbled_is_refused() {
    let ring = KeyRing::parse(ED_KEY).unwrap();
    for text in ["", "nothing", ED_KEY, "-----BEGIN PGP SIGNATURE-----\n\n"] {
        assert!(ring.verify(MESSAGE, text).is_err(), "{text}");
    }
    assert!(KeyRing::parse(ED_SIGNATURE).is_err());
    for (whole, kind) in [(ED_KEY, "PUBLIC KEY BLOCK"), (ED_SIGNATURE, "SIGNATURE")] {
        let bytes = packet::unarmor(whole, kind).unwrap();
        for length in 0..bytes.len() {
            let text = armored(kind, &bytes[..length]);
            if kind == "SIGNATURE" {
                assert!(ring.verify(MESSAGE, &text).is_err(), "{length}");
            } else {
                // A key may be whole without what stands behind it.
                let _either = KeyRing::parse(&text);
            }
        }
    }
}
