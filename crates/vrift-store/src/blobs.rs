//! Where blobs are kept and roots registered: in a [`Home`](crate::Home) of one's own, or behind a daemon.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cas_store::Sources;
use vx_digest::Digest;

use crate::error::Error;

/// What became of a file that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its digest.
    pub digest: Digest,
    /// Whether the store had nothing of this content before.
    pub new: bool,
}

/// A manifest to be kept, with everything it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRequest {
    /// The directory it is of, absolute; one root for each.
    pub path: PathBuf,
    /// The manifest, which is a blob itself.
    pub manifest: Digest,
    /// The device that the directory is on.
    pub device: u64,
    /// Whether files there are projections, so that these blobs are the only copy.
    pub phantom: bool,
}

/// Whether symbolic links may lead into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    /// They may: whoever follows one can read the blob and cannot write to it.
    Allowed,
    /// They may not.
    Refused {
        /// Why not, for the user.
        why: String,
    },
}

/// Blobs and roots of one user.
pub trait Blobs: Sync {
    /// Sixteen bytes that no other store has.
    fn id(&self) -> [u8; 16];

    /// How the store is called in messages.
    fn name(&self) -> String;

    /// The directory that the store is in, if it could lie in a directory of this user.
    fn place(&self) -> Option<&Path> {
        None
    }

    /// Stores the content of files and answers for each, in their order; what was answered is durable.
    ///
    /// A file that cannot be read is an inner error and keeps no other file out.
    ///
    /// # Errors
    /// When the store takes nothing more, e.g. since the disk is full.
    fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error>;

    /// Stores some bytes.
    ///
    /// # Errors
    /// When the store cannot take them.
    fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error>;

    /// Keeps a manifest and its blobs until the root is replaced or forgotten.
    ///
    /// # Errors
    /// [`Error::Missing`] names blobs that have to be stored again first.
    fn register(&self, request: &RootRequest) -> Result<(), Error>;

    /// Keeps collections waiting until what is returned is dropped; `None` where that is not in one's power.
    ///
    /// # Errors
    /// When the store refuses.
    fn hold(&self) -> Result<Option<File>, Error> {
        Ok(None)
    }

    /// Whether this manifest is registered for this directory, and nothing was found damaged since.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error>;

    /// The manifest that is registered for a directory.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error>;

    /// Opens blobs for reading, in their order; `None` for those that are absent or that this user may not have.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error>;

    /// Whether symbolic links into the store may be made.
    fn projection(&self) -> Projection;

    /// The path of a blob in the store, executable if asked for; `None` when it is absent.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn blob_path(&self, digest: &Digest, executable: bool) -> Result<Option<PathBuf>, Error>;

    /// The digest of the blob that the target of a symbolic link names, if it is one of this store.
    fn digest_of(&self, target: &Path) -> Option<(Digest, bool)>;
}
