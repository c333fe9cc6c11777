//! Run a command in a daemon: framed, streamed, cancellable, with an explicit end.
//!
//! The protocol stands in `PROTOCOL.md` beside this crate. What it promises:
//!
//! - Only an End frame whose byte counts agree is success; whatever else ends a
//!   stream is an error, however complete the output looks.
//! - Before the server says Accepted nothing has happened, and a retry is safe
//!   ([`Outcome::NotAdmitted`]). After that, a missing End is
//!   [`Outcome::Interrupted`] and nothing here ever retries it.
//! - Whatever listens at the endpoint and is not the service is told apart
//!   ([`ConnectError::Foreign`]), and is not waited for.
//! - Every frame, queue and wait has a limit.
//!
//! What commands and events mean is up to the two sides; here they are bytes.
//! The client is blocking and needs no runtime, so that a command line tool
//! starts fast; the server runs on tokio.

mod client;
mod frame;
mod message;
pub mod server;

pub use client::{
    Canceller, Client, ClientConfig, Command, ConnectError, Foreign, Frame, Interruption, Outcome,
    Refused,
};
pub use frame::{DATA_CHUNK, DEFAULT_MAX_FRAME, HANDSHAKE_LIMIT};
pub use message::{CancelMode, EndStatus, WIRE_VERSION};
pub use server::{
    CommandHandler, IncomingCommand, Listener, OutputError, OutputSink, ServeError, ServerConfig,
    serve,
};
