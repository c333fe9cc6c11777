//! What a directory contained: paths, modes, times, links, and the digest of each file.
//!
//! Pure data and bytes; it knows nothing of file systems or stores.
//! The format is described in `MANIFEST.md`; whoever reads a manifest trusts nobody who wrote it.

mod bytes;
mod check;

use std::collections::HashSet;

use vx_digest::Digest;

use check::check;

/// The bytes with which every manifest of this version begins.
pub const MAGIC: &[u8; 8] = b"vriftm1\n";
/// Entries that a manifest may have.
pub const MAX_ENTRIES: usize = 4_000_000;
/// Bytes that a manifest may have.
pub const MAX_BYTES: usize = 1 << 30;
/// Bytes that a path or the target of a symbolic link may have.
pub const MAX_PATH: usize = 4095;

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
}
