//! What can go wrong, one type per family of operations.
//!
//! Absence is never an error here, and neither is damage: a damaged blob is quarantined and absent.
//! What remains are the caller's own mistakes, a full disk, and the file system refusing.

use std::io;
use std::path::{Path, PathBuf};

use vx_digest::Digest;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory holds something that is not a store.
    #[error("`{path}` is not a store: it contains `{name}`")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// The first name that no store has.
        name: String,
    },
    /// The format file says something this version does not understand.
    #[error("format file `{path}` is not understood: {why}")]
    Format {
        /// The format file.
        path: PathBuf,
        /// The offending line.
        why: String,
    },
    /// The options ask for something no store has.
    #[error("a store has 1 or 2 directory levels, not `{0}`")]
    Levels(u8),
    /// The file system refused.
    #[error("cannot open store `{path}`")]
    Io {
        /// The store's root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why something cannot be stored; nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The content does not have the size that was promised.
    #[error("blob `{expected}` has {actual} bytes instead")]
    SizeMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: u64,
    },
    /// The content does not have the hash that was promised.
    #[error("content of blob `{expected}` is that of `{actual}`")]
    HashMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// An action result beyond what the store keeps.
    #[error("action result `{key}` of {size} bytes is larger than {limit} bytes")]
    TooLarge {
        /// The action's digest.
        key: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk or the user's quota is full.
    #[error("no space left for {subject}: {needed} bytes needed")]
    NoSpace {
        /// What was to be stored.
        subject: String,
        /// Its size in bytes, as far as it is known.
        needed: u64,
        /// Whether it is a quota that is exhausted, not the disk.
        quota: bool,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The file to ingest cannot be read.
    #[error("cannot ingest `{path}`")]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system refused.
    #[error("cannot store {subject}")]
    Io {
        /// What was to be stored.
        subject: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PutError {
    /// Tells a full disk and a full quota from everything else.
    pub(crate) fn storing(subject: impl Into<String>, needed: u64, source: io::Error) -> PutError {
        let subject = subject.into();
        match source.kind() {
            io::ErrorKind::StorageFull => PutError::NoSpace {
                subject,
                needed,
                quota: false,
                source,
            },
            io::ErrorKind::QuotaExceeded => PutError::NoSpace {
                subject,
                needed,
                quota: true,
                source,
            },
            _ => PutError::Io { subject, source },
        }
    }

    pub(crate) fn source_file(path: &Path, source: io::Error) -> PutError {
        PutError::Source {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why something cannot be read that may well be there.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {subject}")]
pub struct ReadError {
    /// What was to be read.
    pub subject: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ReadError {
    pub(crate) fn blob(digest: &Digest, source: io::Error) -> ReadError {
        ReadError {
            subject: format!("blob `{digest}`"),
            source,
        }
    }

    pub(crate) fn action(key: &Digest, source: io::Error) -> ReadError {
        ReadError {
            subject: format!("action result `{key}`"),
            source,
        }
    }
}

/// Why a blob cannot be given out as a file.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The blob cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its executable twin cannot be made.
    #[error(transparent)]
    Twin(#[from] PutError),
    /// The destination cannot be written, or exists.
    #[error("cannot place blob `{digest}` at `{path}`")]
    Destination {
        /// The blob.
        digest: Digest,
        /// Where it should have gone.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why the whole store cannot be walked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {task} store `{path}`")]
pub struct SweepError {
    /// What was being done: `verify`, `collect garbage of`, `measure`.
    pub task: &'static str,
    /// The store's root.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}
