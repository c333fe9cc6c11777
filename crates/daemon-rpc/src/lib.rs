//! The README is the front page; the bytes on the wire stand in `PROTOCOL.md`.

#![doc = include_str!("../README.md")]

pub mod app;
mod build;
mod client;
mod command;
mod failpoint;
mod frame;
#[cfg(feature = "testing")]
pub mod fuzzing;
mod message;
pub mod server;
mod spin;

pub use app::App;
pub use build::{BuildInfo, VersionCheck};
pub use client::{
    Canceller, Client, ClientConfig, CommandError, ConnectError, Daemon, DaemonError, Foreign,
    Input, Interruption, OnOtherBuild, Outcome, OutputChunk, Pending, Refused, Start, Stopped,
    Streams, Window,
};
pub use command::{Command, PayloadError, Terminal, WindowSize};
pub use frame::{DATA_CHUNK, DEFAULT_MAX_FRAME, HANDSHAKE_LIMIT};
pub use message::{CancelMode, CommandStatus, EndStatus, Status, WIRE_VERSION};
pub use server::{
    CommandHandler, IncomingCommand, Listener, OutputError, OutputSink, ServeError, ServerConfig,
    StdinError, StdinSource, serve, serve_connection,
};
pub use tokio_util::sync::CancellationToken;
