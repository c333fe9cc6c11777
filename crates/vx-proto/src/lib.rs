//! How the services of vx talk to each other, and how others may talk to them.
//!
//! The messages and services are those of the Remote Execution API v2
//! ([`reapi`]), with a few records of our own ([`ext`]) in the places which that
//! API leaves open. Around them: digests, trees in their canonical encoding,
//! clients, the token that keeps strangers out, the skeleton of a server, and
//! every `VX_*` variable.
//!
//! This crate knows neither stores nor processes nor builds.

mod generated;

pub mod cas;
mod causes;
pub mod command;
pub mod connect;
pub mod digest;
pub mod env;
pub mod exec;
pub mod server;
pub mod token;
pub mod toolchain;
pub mod tree;

pub use causes::causes;
pub use generated::build::bazel::remote::execution::v2 as reapi;
pub use generated::build::bazel::semver;
pub use generated::google::{bytestream, longrunning, rpc};
pub use generated::vx::v1 as ext;
pub use vx_digest::{Digest, DigestError, DigestFunction, Hasher};

/// The version of what vx's services say to each other; both sides must have the
/// same. It covers the records in [`ext`], the platform properties of actions
/// and the meaning of the types in [`command`] and [`toolchain`].
pub const PROTOCOL_VERSION: u32 = 4;

/// The largest message that is sent or taken, in bytes: a batch of blobs of
/// [`MAX_BATCH_BYTES`] and its frame.
pub const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + 256 * 1024;

/// The largest sum of blobs in one batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
