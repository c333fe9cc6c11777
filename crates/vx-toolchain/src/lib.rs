//! The Rust toolchains of this machine as content-addressed inputs.
//!
//! [`find`] asks the `rustc` that the user's environment selects (through rustup or not) where its sysroot is; [`Toolchain::trees`] hashes that sysroot once and recognises it by stamps afterwards.
//!
//! The crate knows nothing of builds: what a toolchain compiles is its caller's business.

mod find;
mod trees;

pub use find::{FindError, Request, Toolchain, find};
pub use trees::{ToolchainTree, TreesError};
