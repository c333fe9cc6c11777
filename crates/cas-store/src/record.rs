//! Small files that say of themselves whether they are whole: action results and the SHA-256 index.
//!
//! Their names are not the hash of their bytes, so they carry one.
//! The key is hashed along, so that a record under another name is no record.
//! It knows nothing of what the payload means.

/// The first bytes of every record.
const MAGIC: &[u8; 8] = b"casrec1\n";

/// Bytes before the payload.
pub(crate) const OVERHEAD: usize = MAGIC.len() + 32;

/// The largest payload: an action result names its outputs, it does not contain them.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

/// The bytes on disk.
pub(crate) fn encode(key: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OVERHEAD + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&checksum(key, payload));
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload; `None` when the record is not whole or is another key's.
pub(crate) fn decode<'a>(key: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, payload) = bytes.strip_prefix(MAGIC)?.split_at_checked(32)?;
    (sum == checksum(key, payload)).then_some(payload)
}

fn checksum(key: &str, payload: &[u8]) -> [u8; 32] {
    let mut hasher = vx_digest::DigestFunction::Blake3.hasher();
    // No key contains a newline, so no key and payload look like another pair.
    hasher.update(key.as_bytes());
    hasher.update(b"\n");
    hasher.update(payload);
    hasher.finish().hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_under_its_key_only() {
        let bytes = encode("key", b"payload");
        assert_eq!(decode("key", &bytes), Some(&b"payload"[..]));
        assert_eq!(decode("other", &bytes), None);
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let bytes = encode("key", b"payload");
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert_eq!(decode("key", &damaged), None, "flipped byte {position}");
            assert_eq!(decode("key", &bytes[..position]), None, "cut at {position}");
        }
    }
}
