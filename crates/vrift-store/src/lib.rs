//! Directories in a deduplicating store.
//!
//! A [`Home`] holds blobs (`the_source`, a [`cas_store::Store`]) and roots: which manifest of which user keeps which blobs.
//! [`ingest`] puts a directory into a store, [`link`] makes one from it, [`phantom`] and [`restore`] replace files by projections and back, [`Home::collect`] removes what nobody keeps.
//! Manifests are described in `MANIFEST.md`.
//!
//! It is for Linux; for macOS it is compiled and was never run there.
//! The crate knows no sockets and no terminal: whoever has the blobs elsewhere implements [`Blobs`].

mod access;
mod batch;
mod blobs;
mod check;
mod collect;
mod error;
mod home;
mod ingest;
mod link;
pub mod manifest;
mod phantom;
mod platform;
mod project;
mod read;
mod repair;
mod restore;
mod roots;
mod scan;
mod site;
mod stamp;
mod usage;

pub use cas_store::{PutError, Source, Sources};

pub use access::{Beneath, Reader};
pub use batch::Batch;
pub use blobs::{Blobs, Projection, Put, RootRequest};
pub use check::{CheckOptions, CheckReport};
pub use collect::{CollectOptions, CollectReport};
pub use error::Error;
pub use home::{Home, HomeOptions, lock_file};
pub use ingest::{IngestOptions, Ingested, Progress, ingest, ingest_beneath};
pub use link::{How, LinkOptions, Linked, link};
pub use phantom::{Phantom, phantom};
pub use platform::has_access_list;
pub use project::Project;
pub use repair::{Repaired, repair};
pub use restore::{Restored, restore};
pub use roots::{Root, RootId, is_gone};
pub use scan::{Scanned, Skipped, scan};
pub use stamp::{Stamp, StatCache};
pub use usage::{Usage, UserUsage};
