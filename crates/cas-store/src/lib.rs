//! Content-addressed blobs and action results on disk.
//!
//! A blob's name is the BLAKE3 hash of its bytes and their number, at every moment a reader can see it.
//! Several processes may have the same store open; there is no server, no index to rebuild and no lock to wait for beyond single file operations.
//! The format is described in `STORE.md`.
//!
//! The API is synchronous and knows no networks: servers call it from threads that may block.
//!
//! It is for Linux; for macOS it is compiled and was never run there.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! use cas_store::{Options, Store};
//! use vx_digest::Digest;
//!
//! let store = Store::open(&directory.path().join("store"), Options::default())?;
//! let digest = Digest::of(b"content");
//! assert!(!store.contains(&digest)?);
//! store.put_bytes(&digest, b"content")?;
//! assert_eq!(store.read(&digest)?.as_deref(), Some(&b"content"[..]));
//! # Ok(())
//! # }
//! ```

mod actions;
mod area;
mod blob;
mod error;
mod format;
mod gc;
mod group;
mod index;
mod ingest;
mod intake;
mod layout;
mod memory;
mod parts;
mod place;
mod platform;
mod presence;
mod record;
mod scratch;
mod stage;
mod stats;
mod store;
mod verify;
mod writer;

pub use actions::ActionResults;
pub use blob::VerifiedFile;
pub use error::{OpenError, PlaceError, PutError, ReadError, SweepError};
pub use gc::{GcOptions, GcReport, SweepOptions, Swept};
pub use group::Group;
pub use intake::{Source, Sources};
pub use parts::in_parts;
pub use place::Placed;
pub use platform::sync_file_system;
pub use stage::{Pending, Stored};
pub use stats::Stats;
pub use store::{Durability, Options, Store};
pub use verify::VerifyReport;
pub use writer::BlobWriter;
