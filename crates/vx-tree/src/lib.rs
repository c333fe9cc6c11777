//! A directory on disk as a content-addressed tree.
//!
//! Three steps, each usable alone: [`scan`] lists a directory with a [`Stamp`] per file and reads no content; [`Scan::hash`] turns the listing into a [`SourceTree`] and reads only files whose stamp the [`DigestCache`] does not know; the caller uploads what a store lacks.
//!
//! The crate knows nothing of Rust, of builds or of networks.

mod cache;
mod scan;
mod tree;

pub use cache::DigestCache;
pub use scan::{Entry, Kind, Rules, Scan, ScanError, Stamp, scan};
pub use tree::{HashError, SourceFile, SourceTree, names_digest};
