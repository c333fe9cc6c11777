//! Why a file could not be had, each reason a variant of its own.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be used.
    #[error("`{url}` is not a URL that can be fetched: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be made, for example for want of certificates.
    #[error("failed to set up the HTTP client: {0}")]
    Client(String),
    /// No connection came about.
    #[error("failed to connect to fetch `{url}`")]
    Connect {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server is not who it should be: its certificate is not signed by anyone
    /// this machine trusts, has expired, or is for another name.
    #[error("the certificate of the server of `{url}` is not accepted: {reason}")]
    Certificate {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A server that is asked over TLS redirects to one that would be asked without.
    #[error("`{url}` redirects to `{to}`, which is not encrypted")]
    Downgrade {
        /// The URL.
        url: String,
        /// Where it would go on.
        to: String,
    },
    /// The server answered with an error.
    #[error("the server answered {status} to `{url}`")]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// One redirect too many.
    #[error("`{url}` redirects more than {limit} times")]
    Redirects {
        /// The URL.
        url: String,
        /// How many were followed.
        limit: usize,
    },
    /// The transfer ended early.
    #[error("the transfer of `{url}` ended after {received} bytes{}", of(.expected))]
    Truncated {
        /// The URL.
        url: String,
        /// The bytes that are there, those of earlier transfers included.
        received: u64,
        /// The bytes that were announced.
        expected: Option<u64>,
    },
    /// The server went silent.
    #[error(
        "the server of `{url}` was silent for {:.1} s after {received} bytes", limit.as_secs_f32()
    )]
    Stalled {
        /// The URL.
        url: String,
        /// The silence that is allowed.
        limit: Duration,
        /// The bytes that are there.
        received: u64,
    },
    /// All together took too long.
    #[error("fetching `{url}` took longer than {:.1} s ({received} bytes came)", limit.as_secs_f32())]
    TooSlow {
        /// The URL.
        url: String,
        /// The time it had.
        limit: Duration,
        /// The bytes that are there.
        received: u64,
    },
    /// Another process has been fetching the same file all the time.
    #[error("another process did not finish fetching `{url}` within {:.1} s", limit.as_secs_f32())]
    Busy {
        /// The URL.
        url: String,
        /// The time it had.
        limit: Duration,
    },
    /// The file has another size than it should have.
    #[error("`{url}` has {found} bytes instead of {expected}")]
    WrongSize {
        /// The URL.
        url: String,
        /// The size that was asked for.
        expected: u64,
        /// The size that the server announces or sends.
        found: u64,
    },
    /// The file would not fit into the cache, or is larger than the caller takes.
    #[error("`{url}` has more than {limit} bytes, which is the limit")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The content is not what was asked for.
    #[error("`{url}` has the digest {found} instead of {expected}")]
    WrongDigest {
        /// The URL.
        url: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The server sent another part than it was asked for.
    #[error("the server of `{url}` sent another range than bytes {asked} and on: {sent}")]
    WrongRange {
        /// The URL.
        url: String,
        /// The first byte that was asked for.
        asked: u64,
        /// What the server says that it sent.
        sent: String,
    },
    /// The server does not speak HTTP, or not well enough.
    #[error("failed to understand the server of `{url}`")]
    Protocol {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The file of a `file` URL cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no room for the file.
    #[error("no space is left for `{}` after {written} bytes of it", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// How much of it could be written.
        written: u64,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The cache itself cannot be used.
    #[error("failed to {action} `{}`", path.display())]
    Cache {
        /// What was tried, for example `lock`.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread of the cache ended without an answer.
    #[error("a background task of the download cache was cut off")]
    CutOff,
}

fn of(expected: &Option<u64>) -> String {
    expected.map_or(String::new(), |bytes| format!(" of {bytes}"))
}

impl Error {
    /// Whether it may pass by itself: no connection, a server that is busy or
    /// broken at the moment (408, 429, 5xx), a transfer that broke off or fell
    /// silent.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Error::Connect { .. } | Error::Truncated { .. } | Error::Stalled { .. } => true,
            _ => false,
        }
    }

    /// An error at a file of the cache; a full disk is told apart.
    pub(crate) fn cache(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
                path,
                written: 0,
                source,
            },
            _ => Error::Cache {
                action,
                path,
                source,
            },
        }
    }
}
