//! Words that the two sides of a daemon share: where it listens, and what it
//! says about itself.
//!
//! This crate does no I/O and knows no protocol, so that the side that starts a
//! daemon, the daemon and the test that looks on can all use the same types.

mod endpoint;
mod process;
mod version;

pub use endpoint::{Endpoint, EndpointError};
pub use process::ProcessIdentity;
pub use version::ServiceVersion;
