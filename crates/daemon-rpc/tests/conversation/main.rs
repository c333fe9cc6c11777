//! Servers and clients in one process: what a client tells its command (input, window,
//! directory, terminal), that handlers may block, and what may be asked of the server
//! itself. `PROTOCOL.md`, sections "Input" and "Questions".

mod blocking;
mod client;
mod input;
#[path = "../kit/mod.rs"]
mod kit;
mod questions;

use daemon_contract::Endpoint;
use daemon_rpc::{Daemon, EndStatus, Outcome};
use kit::client_config;

const OK: Outcome = Outcome::Finished(EndStatus::Exit(0));

fn daemon(endpoint: &Endpoint) -> Daemon {
    Daemon::new(endpoint.clone(), "0.1.0", client_config())
}
