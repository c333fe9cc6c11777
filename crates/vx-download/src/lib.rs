//! Files from the network, kept in a cache that any number of processes share.
//!
//! A file is asked for by its hash. What the cache hands out has that hash, at
//! the moment of the call, whatever a server, a disk or a neighbour has done;
//! so it does not matter who filled the cache, and tests may share one.
//!
//! ```no_run
//! use vx_download::{Cache, Digest, Options, Request};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::open("/var/cache/downloads", Options::default())?;
//! let digest: Digest =
//!     "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
//! let request = Request::new("https://example.org/tool.tar.gz", digest);
//! // In asynchronous code: `cache.fetch(&request).await?`.
//! let entry = cache.fetch_blocking(&request)?;
//! println!("{}", entry.path().display());
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - Content is hashed when it enters the cache and again on each use. An entry
//!   that is wrong is put aside as evidence and fetched anew.
//! - Processes that want the same file at the same time cause one download. If
//!   the one that downloads is killed, the kernel frees its lock, and the next
//!   one goes on where it stopped, if the server can do that.
//! - An [`Entry`] keeps its file from being evicted as long as it lives.
//! - Failures that may pass by themselves are tried again, a few times; others
//!   are told at once ([`Error::is_transient`]).
//! - Nothing waits without end: there is a limit for the connection, for silence
//!   of the server, and for the whole.
//!
//! The files of the cache are described in `CACHE.md`. It knows nothing about
//! what the files are for, and it does not unpack anything.
//!
//! # Limits
//!
//! It needs a file system with `flock`, and trusts its own user: a program that
//! writes to an entry after it was handed out is not noticed before the next
//! use.

mod blocking;
mod cache;
mod digest;
mod document;
mod entry;
mod error;
mod evict;
mod fetch;
mod http;
mod layout;
mod local;
mod lock;
mod options;
mod sink;

pub use cache::Cache;
pub use digest::{Digest, DigestError};
pub use entry::Entry;
pub use error::Error;
pub use options::{Options, Progress, Request, Retries};
