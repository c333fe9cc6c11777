//! What a directory contained: paths, modes, times, links, and the digest of each file.
//!
//! Pure data and bytes; it knows nothing of file systems or stores.
//! The format is described in `MANIFEST.md`; whoever reads a manifest trusts nobody who wrote it.

use std::collections::HashSet;

use vx_proto::Digest;

/// The bytes with which every manifest of this version begins.
pub const MAGIC: &[u8; 8] = b"vriftm1\n";
/// Entries that a manifest may have.
pub const MAX_ENTRIES: usize = 4_000_000;
/// Bytes that a manifest may have.
pub const MAX_BYTES: usize = 1 << 30;
/// Bytes that a path or the target of a symbolic link may have.
pub const MAX_PATH: usize = 4095;

const HEADER: usize = 8 + 32 + 4;

/// A moment as file systems store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds since then, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with this content.
    File(Digest),
    /// A symbolic link with this target, as bytes.
    Symlink(Vec<u8>),
}

/// One path of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the directory, components joined by `/`; empty for the directory itself.
    pub path: Vec<u8>,
    /// Permission bits, 0 to 0o7777; nothing for symbolic links.
    pub mode: u16,
    /// The modification time.
    pub mtime: Time,
    /// What is there.
    pub kind: Kind,
}

/// The content of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It begins with something else.
    #[error("it is not a manifest of version 1")]
    Magic,
    /// The checksum is that of other bytes.
    #[error("its checksum is wrong")]
    Checksum,
    /// It ends in the middle of something, or goes on after its end.
    #[error("its {0} is cut short or goes on too long")]
    Length(&'static str),
    /// More than this version reads.
    #[error("it has more than {MAX_ENTRIES} entries or {MAX_BYTES} bytes")]
    TooLarge,
    /// An entry that cannot be.
    #[error("entry {index} (`{path}`) {why}")]
    Entry {
        /// Its number, from 0.
        index: usize,
        /// Its path, as far as it is text.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Manifest {
    /// A manifest of these entries, which are sorted here.
    ///
    /// # Errors
    /// The first entry that no manifest may have, e.g. one whose parent is no directory.
    pub fn new(mut entries: Vec<Entry>) -> Result<Manifest, ManifestError> {
        // They usually come as a few sorted lists, which this sort merges.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        check(&entries)?;
        Ok(Manifest { entries })
    }

    /// The entries, sorted by path; the first one is the directory itself, and a parent stands before what is in it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The paths and digests of all regular files.
    pub fn files(&self) -> impl Iterator<Item = (&Entry, &Digest)> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::File(digest) => Some((entry, digest)),
            _ => None,
        })
    }

    /// The distinct digests of all regular files.
    pub fn digests(&self) -> HashSet<Digest> {
        self.files().map(|(_, digest)| *digest).collect()
    }

    /// The number of regular files and the sum of their sizes.
    pub fn totals(&self) -> (u64, u64) {
        self.files().fold((0, 0u64), |(files, bytes), (_, digest)| {
            (files + 1, bytes.saturating_add(digest.size))
        })
    }

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

/// What holds for every manifest, written here or by anybody.
///
/// A parent is a directory of the same manifest and stands before its children, so nothing is ever created through a symbolic link.
fn check(entries: &[Entry]) -> Result<(), ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::TooLarge);
    }
    let mut directories: HashSet<&[u8]> = HashSet::new();
    let mut previous: Option<&[u8]> = None;
    for (index, entry) in entries.iter().enumerate() {
        let wrong = |why| {
            Err(ManifestError::Entry {
                index,
                path: String::from_utf8_lossy(&entry.path).into_owned(),
                why,
            })
        };
        if let Err(why) = check_entry(entry) {
            return wrong(why);
        }
        if previous.is_some_and(|previous| previous >= entry.path.as_slice()) {
            return wrong("is out of order or there twice");
        }
        previous = Some(&entry.path);
        if entry.path.is_empty() {
            if entry.kind != Kind::Directory {
                return wrong("is the root and no directory");
            }
        } else {
            let parent = match entry.path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => &entry.path[..slash],
                None => &[][..],
            };
            if !directories.contains(parent) {
                return wrong("lies in something that is no directory");
            }
        }
        if entry.kind == Kind::Directory {
            directories.insert(&entry.path);
        }
    }
    if entries.is_empty() {
        return Err(ManifestError::Length("entries"));
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), &'static str> {
    if entry.path.len() > MAX_PATH {
        return Err("has a path that is too long");
    }
    if !entry.path.is_empty()
        && entry
            .path
            .split(|byte| *byte == b'/')
            .any(|name| matches!(name, b"" | b"." | b"..") || name.len() > 255)
    {
        return Err("has a path that is not relative and plain");
    }
    if entry.path.contains(&0) {
        return Err("has a zero byte in its path");
    }
    if entry.mode > 0o7777 {
        return Err("has a mode that is none");
    }
    if entry.mtime.nanoseconds >= 1_000_000_000 {
        return Err("has a time that is none");
    }
    match &entry.kind {
        Kind::Symlink(target) if target.is_empty() || target.len() > MAX_PATH => {
            Err("is a link with an empty or too long target")
        }
        Kind::Symlink(target) if target.contains(&0) => Err("is a link with a zero byte"),
        _ => Ok(()),
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
