//! The blocking client.
//!
//! Connecting tells who is there; running a command tells what became of it, with
//! a type for each thing that a caller may do about it. One client runs one
//! command: connections are cheap, and a stream that ended has nothing left to
//! confuse the next one.

mod cancel;
mod connect;
mod error;
mod read;
mod run;
mod stream;

pub use cancel::Canceller;
pub use connect::{Client, ClientConfig, Command};
pub use error::{ConnectError, Foreign};
pub use run::{Frame, Interruption, Outcome, Refused};
