//! The blocking client.
//!
//! Connecting tells who is there; running a command tells what became of it, with
//! a type for each thing that a caller may do about it. One client runs one
//! command: connections are cheap, and a stream that ended has nothing left to
//! confuse the next one.

mod ask;
mod cancel;
mod connect;
mod daemon;
mod error;
mod read;
mod run;
mod stdin;
mod stream;

pub use cancel::{Canceller, Window};
pub use connect::{Client, ClientConfig, Pending};
pub use daemon::{Daemon, DaemonError, OnOtherBuild, Start, Stopped};
pub use error::{CommandError, ConnectError, Foreign};
pub use run::{Interruption, Outcome, OutputChunk, Refused, Streams};
pub use stdin::Input;
pub(crate) use stream::Stream;
