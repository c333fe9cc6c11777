//! Why a release could not be installed.

use std::io;
use std::path::PathBuf;

use super::openpgp::SignatureError;
use super::unpack::UnpackError;
use crate::find::{FindError, OLDEST};
use crate::trees::TreesError;

/// Why a release could not be installed. Nothing of it is left then, but for archives that were downloaded whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistError {
    /// The server has no such release.
    #[error("the distribution server has no toolchain `{name}`: there is no `{url}`")]
    NoRelease {
        /// What was asked for.
        name: String,
        /// The file that is not there.
        url: String,
    },
    /// Something could not be downloaded.
    #[error("cannot download {what}")]
    Download {
        /// What it is.
        what: String,
        /// Why not.
        source: Box<vx_download::Error>,
    },
    /// The file with the hash of a manifest has none.
    #[error("`{url}` does not begin with a SHA-256")]
    NoHash {
        /// The file.
        url: String,
    },
    /// A manifest that cannot be used.
    #[error("cannot understand the channel manifest `{url}`")]
    Manifest {
        /// Where it came from.
        url: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody vouches for a manifest.
    #[error("the channel manifest is not signed: there is no `{url}`")]
    Unsigned {
        /// The signature that is not there.
        url: String,
    },
    /// Nobody who may vouches for a manifest.
    #[error("cannot accept the channel manifest with the signature `{url}`")]
    Signature {
        /// Where the signature came from.
        url: String,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// The release is older than what builds can use.
    #[error("Rust {release} is too old: at least 1.{OLDEST} is needed")]
    TooOld {
        /// The release.
        release: String,
    },
    /// The release has nothing of this name.
    #[error("Rust {release} has no component `{component}`")]
    NoComponent {
        /// The release.
        release: String,
        /// What was asked for.
        component: String,
    },
    /// The release has it, but not for this platform.
    #[error("`{component}` of Rust {release} is not available for `{target}`")]
    NotAvailable {
        /// The release.
        release: String,
        /// The component.
        component: String,
        /// The platform.
        target: String,
    },
    /// The name means another kind of machine.
    #[error("toolchain `{name}` is for another machine than this one, which is `{host}`")]
    OtherHost {
        /// What was asked for.
        name: String,
        /// The triple of this machine.
        host: String,
    },
    /// The network was forbidden, and these are not on this machine.
    #[error("toolchain `{name}` is not complete on this machine, and the network is not to be used; missing: {}", missing.join(", "))]
    Offline {
        /// What was asked for.
        name: String,
        /// Files that would have to be downloaded.
        missing: Vec<String>,
    },
    /// An archive that cannot be unpacked.
    #[error("cannot unpack `{archive}`")]
    Unpack {
        /// Where the archive came from.
        archive: String,
        /// Why not.
        source: UnpackError,
    },
    /// What was unpacked does not run.
    #[error("the toolchain `{name}` from `{server}` does not work")]
    Broken {
        /// What was asked for.
        name: String,
        /// Where it came from.
        server: String,
        /// Why not.
        source: FindError,
    },
    /// What was unpacked is something else.
    #[error(
        "the toolchain `{name}` from `{server}` says `{found}`, but its manifest says `{expected}`"
    )]
    WrongVersion {
        /// What was asked for.
        name: String,
        /// Where it came from.
        server: String,
        /// The version in the manifest.
        expected: String,
        /// What the program prints.
        found: String,
    },
    /// It could not be hashed.
    #[error(transparent)]
    Trees(#[from] TreesError),
    /// Somebody else uses it.
    #[error("the toolchain at `{}` is used by a build at this moment", path.display())]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// A file of the store cannot be used.
    #[error("cannot {action} `{}`", path.display())]
    Store {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A task ended early.
    #[error("a background task ended early")]
    CutOff,
}

impl DistError {
    /// Whether this is how it looks when a channel moves on while its files are read.
    pub(crate) fn may_have_moved(&self) -> bool {
        match self {
            DistError::Download { source, .. } => {
                matches!(**source, vx_download::Error::WrongDigest { .. })
            }
            DistError::Signature { source, .. } => matches!(source, SignatureError::Wrong(_)),
            _ => false,
        }
    }

    /// For `map_err` at a file of the store.
    pub(crate) fn store(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> DistError {
        let path = path.into();
        move |source| DistError::Store {
            action,
            path,
            source,
        }
    }
}
