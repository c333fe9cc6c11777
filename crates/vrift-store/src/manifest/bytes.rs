//! The bytes of a manifest, as `MANIFEST.md` describes them.

use vx_digest::Digest;

use super::check::check;
use super::{Entry, Kind, MAGIC, MAX_BYTES, MAX_ENTRIES, Manifest, ManifestError, Time};

const HEADER: usize = 8 + 32 + 4;

impl Manifest {
    /// The bytes of this manifest; equal manifests have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.entries.len() * 96);
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        body.extend(count.to_le_bytes());
        for entry in &self.entries {
            let (tag, rest): (u8, &[u8]) = match &entry.kind {
                Kind::Directory => (0, &[]),
                Kind::File(_) => (1, &[]),
                Kind::Symlink(target) => (2, target),
            };
            body.push(tag);
            put_text(&mut body, &entry.path);
            body.extend(entry.mode.to_le_bytes());
            body.extend(entry.mtime.seconds.to_le_bytes());
            body.extend(entry.mtime.nanoseconds.to_le_bytes());
            match &entry.kind {
                Kind::Directory => {}
                Kind::File(digest) => {
                    body.extend(digest.hash);
                    body.extend(digest.size.to_le_bytes());
                }
                Kind::Symlink(_) => put_text(&mut body, rest),
            }
        }
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(MAGIC);
        bytes.extend(blake3::hash(&body).as_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads a manifest; every byte is accounted for.
    ///
    /// # Errors
    /// What is wrong with it; nothing is allocated for what the bytes only promise.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let body = bytes.strip_prefix(MAGIC).ok_or(ManifestError::Magic)?;
        let (checksum, body) = body
            .split_at_checked(32)
            .ok_or(ManifestError::Length("header"))?;
        if blake3::hash(body).as_bytes() != checksum {
            return Err(ManifestError::Checksum);
        }
        let mut reader = Reader { rest: body };
        let count = u32::from_le_bytes(reader.array()?) as usize;
        if count > MAX_ENTRIES {
            return Err(ManifestError::TooLarge);
        }
        // An entry has at least 17 bytes.
        let mut entries = Vec::with_capacity(count.min(body.len() / 17));
        for _ in 0..count {
            entries.push(reader.entry()?);
        }
        if !reader.rest.is_empty() {
            return Err(ManifestError::Length("entries"));
        }
        check(&entries)?;
        Ok(Manifest { entries })
    }
}

/// A length and so many bytes; longer ones were refused by [`check`].
fn put_text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(text);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ManifestError::Length("entry"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn text(&mut self) -> Result<Vec<u8>, ManifestError> {
        let length = u16::from_le_bytes(self.array()?);
        Ok(self.take(usize::from(length))?.to_vec())
    }

    fn entry(&mut self) -> Result<Entry, ManifestError> {
        let [tag] = self.array()?;
        let path = self.text()?;
        let mode = u16::from_le_bytes(self.array()?);
        let mtime = Time {
            seconds: i64::from_le_bytes(self.array()?),
            nanoseconds: u32::from_le_bytes(self.array()?),
        };
        let kind = match tag {
            0 => Kind::Directory,
            1 => Kind::File(Digest {
                hash: self.array()?,
                size: u64::from_le_bytes(self.array()?),
            }),
            2 => Kind::Symlink(self.text()?),
            _ => return Err(ManifestError::Length("kind of an entry")),
        };
        Ok(Entry {
            path,
            mode,
            mtime,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.into(),
            mode: 0o644,
            mtime: Time {
                seconds: -1,
                nanoseconds: 999_999_999,
            },
            kind,
        }
    }

    fn small() -> Manifest {
        Manifest::new(vec![
            entry("", Kind::Directory),
            entry("a", Kind::Directory),
            entry("a/file", Kind::File(Digest::of(b"abc"))),
            entry("a.b", Kind::Symlink(b"../nowhere".to_vec())),
        ])
        .unwrap()
    }

    /// `MANIFEST.md`, sections "Header" and "Entries".
    #[test]
    fn golden_bytes() {
        let manifest = Manifest::new(vec![
            entry("", Kind::Directory),
            entry("f", Kind::File(Digest::of(b"abc"))),
        ])
        .unwrap();
        let bytes = manifest.encode();
        let mut body = vec![2, 0, 0, 0];
        let common = |body: &mut Vec<u8>| {
            body.extend([0xa4, 0x01]);
            body.extend([0xff; 8]);
            body.extend([0xff, 0xc9, 0x9a, 0x3b]);
        };
        body.extend([0, 0, 0]);
        common(&mut body);
        body.extend([1, 1, 0, b'f']);
        common(&mut body);
        body.extend(Digest::of(b"abc").hash);
        body.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[..8], b"vriftm1\n");
        assert_eq!(&bytes[8..40], blake3::hash(&body).as_bytes());
        assert_eq!(&bytes[40..], body);
    }

    #[test]
    fn a_manifest_reads_back() {
        assert_eq!(Manifest::parse(&small().encode()), Ok(small()));
        assert_eq!(small().totals(), (1, 3));
    }

    /// Recomputes the checksum, so that the parser behind it is reached.
    fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() >= 40 {
            let checksum = blake3::hash(&bytes[40..]);
            bytes[8..40].copy_from_slice(checksum.as_bytes());
        }
        bytes
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let good = small().encode();
        for length in 0..good.len() {
            assert!(Manifest::parse(&good[..length]).is_err(), "{length}");
            assert!(Manifest::parse(&resealed(good[..length].to_vec())).is_err());
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn arbitrary_changes_behind_a_right_checksum_never_panic_or_escape() {
        let good = small().encode();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut read = 0;
        for _ in 0..50_000 {
            let mut bad = good.clone();
            for _ in 0..1 + random() % 4 {
                let at = 40 + random() as usize % (bad.len() - 40);
                bad[at] = random() as u8;
            }
            if let Ok(manifest) = Manifest::parse(&resealed(bad)) {
                read += 1;
                for entry in manifest.entries() {
                    assert!(!entry.path.starts_with(b"/"));
                    assert!(!entry.path.split(|b| *b == b'/').any(|name| name == b".."));
                }
            }
        }
        assert!(read > 0, "changed times and modes are still manifests");
    }

    #[test]
    fn paths_that_leave_are_refused() {
        for path in ["..", "a/../b", "/a", "a//b", "a/", "./a", "a\0b"] {
            let manifest = Manifest::new(vec![
                entry("", Kind::Directory),
                entry("a", Kind::Directory),
                entry(path, Kind::Directory),
            ]);
            assert!(manifest.is_err(), "{path}");
        }
    }

    #[test]
    fn nothing_lies_below_a_link_or_a_file() {
        for kind in [Kind::Symlink(b"/etc".to_vec()), Kind::File(Digest::EMPTY)] {
            let manifest = Manifest::new(vec![
                entry("", Kind::Directory),
                entry("a", kind),
                entry("a/passwd", Kind::File(Digest::EMPTY)),
            ]);
            assert!(
                matches!(manifest, Err(ManifestError::Entry { index: 2, .. })),
                "{manifest:?}"
            );
        }
    }

    #[test]
    fn a_count_that_lies_allocates_nothing() {
        let mut bytes = small().encode();
        bytes[40..44].copy_from_slice(&3_999_999u32.to_le_bytes());
        assert_eq!(
            Manifest::parse(&resealed(bytes)),
            Err(ManifestError::Length("entry"))
        );
    }
}
