//! What can go wrong: what was being done, on what, and why.

use std::io;
use std::path::{Path, PathBuf};

use vx_digest::Digest;

use crate::manifest::ManifestError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("could not {task} `{path}`")]
    Io {
        /// What was being done, e.g. `read`.
        task: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A manifest that cannot be used.
    #[error("manifest `{path}` cannot be read")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] cas_store::OpenError),
    /// The store cannot take a blob.
    #[error(transparent)]
    Put(#[from] cas_store::PutError),
    /// The store cannot give a blob.
    #[error(transparent)]
    Read(#[from] cas_store::ReadError),
    /// The store cannot be walked.
    #[error(transparent)]
    Sweep(#[from] cas_store::SweepError),
    /// A blob that is needed is not there.
    #[error("blob `{digest}` of `{path}` is not in the store")]
    Absent {
        /// The blob.
        digest: Digest,
        /// What it is needed for.
        path: String,
    },
    /// Blobs went while they were to be registered; they have to be stored again.
    #[error("{} blobs are not in the store", .0.len())]
    Missing(Vec<Digest>),
    /// Another process works on the same project.
    #[error("`{path}` is being worked on by another process")]
    Busy {
        /// The project or store.
        path: PathBuf,
    },
    /// What was asked for cannot be done here.
    #[error("{0}")]
    Refused(String),
    /// Clones were asked for, and cannot be made.
    #[error("the file system of `{}` has no clones of files in the store", .0.display())]
    NoClones(PathBuf),
    /// More than the caller may have.
    #[error("{0}")]
    Quota(String),
    /// The caller went away or asked to stop.
    #[error("stopped as asked")]
    Cancelled,
    /// A store elsewhere did not do what it was asked for.
    #[error("{message}")]
    Remote {
        /// What it said.
        message: String,
        /// The transport's error, if it was that.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Error {
    pub(crate) fn io(
        task: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { task, path, source }
    }

    /// As [`Error::io`], for what rustix says.
    pub(crate) fn os(
        task: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rustix::io::Errno) -> Error {
        let io = Error::io(task, path);
        move |errno| io(errno.into())
    }
}
