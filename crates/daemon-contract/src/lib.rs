//! Words that the sides of a daemon share: where it listens, which process it
//! is, what it says about itself, and how one asks for it to be installed, looked
//! at and ended.
//!
//! This crate does no I/O and knows no protocol, so that the side that starts a
//! daemon, the daemon and the test that looks on can all use the same types.

mod endpoint;
mod handle;
mod install;
mod process;
mod shutdown;
mod status;
mod time;
mod version;

pub use endpoint::{Endpoint, EndpointError};
pub use handle::DaemonHandle;
pub use install::{InstallConfig, InstallResult, UninstallConfig};
pub use process::ProcessIdentity;
pub use shutdown::{HttpDaemonConfig, ShutdownConfig};
pub use status::{HealthStatus, StatusRequest, StatusResponse};
pub use time::{TimeError, UnixTime};
pub use version::ServiceVersion;

/// The example of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
