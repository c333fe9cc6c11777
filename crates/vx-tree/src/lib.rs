//! A directory on disk as a content-addressed tree.
//!
//! Three steps, each usable alone: [`scan`] lists a directory with a [`Stamp`] per file and reads no content; [`Scan::hash`] turns the listing into a [`SourceTree`] and reads only files whose stamp the [`DigestCache`] does not know; the caller uploads what a store lacks.
//! [`Records`] does all of that at once for directories that are too large to be read at every start.
//!
//! The crate knows nothing of Rust, of builds or of networks.

mod cache;
mod records;
mod scan;
mod tree;

pub use cache::DigestCache;
pub use records::{Recorded, Records, RecordsError};
pub use scan::{Entry, Kind, Rules, Scan, ScanError, Stamp, scan};
pub use tree::{HashError, SourceFile, SourceTree, names_digest};
