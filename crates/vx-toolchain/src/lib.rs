//! The Rust toolchains of this machine as content-addressed inputs.
//!
//! [`select`] says which toolchain a user chose and why, as rustup's users expect it; [`find`] looks for it where rustup and the system have theirs; [`dist`] fetches a release that is not there, checked and unpacked once for all who share a download cache.
//! [`Toolchain::trees`] hashes a sysroot once and recognises it by stamps afterwards.
//!
//! The crate knows nothing of builds: what a toolchain compiles is its caller's business.

pub mod dist;
mod find;
mod name;
mod rustup;
mod select;
mod toolchain_file;
mod trees;

pub use find::{FindError, Found, Toolchain, find, host_triple};
pub use name::{Channel, NameError, ToolchainName};
pub use rustup::{Rustup, RustupError};
pub use select::{Choice, Reason, Request, SelectError, Selection, select};
pub use toolchain_file::ToolchainFileError;
pub use trees::{ToolchainTree, TreesError};
