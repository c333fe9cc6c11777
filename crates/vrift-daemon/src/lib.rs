//! One deduplicating store for all users of a machine.
//!
//! The daemon owns the blobs; users reach them through a Unix socket only, and are who the kernel says they are.
//! It reads no file by its own rights that the caller could not read: content comes as open descriptors.
//! The protocol is JSON-RPC 2.0, described in `PROTOCOL.md`; [`Client`] speaks it.

mod audit;
mod caller;
mod client;
mod config;
mod fault;
mod ingest;
mod install;
mod kept;
mod lent;
mod methods;
mod metrics;
mod params;
mod platform;
mod rpc;
mod serve;
mod session;
mod status;
mod wire;

pub use client::{CallError, Client};
pub use config::{Config, parse_size};
pub use fault::Code;
pub use install::install_for_user;
pub use platform::{
    DEFAULT_HOME, DEFAULT_SOCKET, HOW_TO_START, HOW_TO_START_ALONE, keep_little_memory,
};
pub use serve::{ServeError, serve};
pub use status::status_of;
pub use wire::{MAX_FDS, MAX_LINE};
