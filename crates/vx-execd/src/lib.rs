//! vx-execd: sandboxed execution of actions as a Remote Execution API v2 service.
//!
//! Everything that decides on a result comes from the action; what is understood of it is in `EXECUTION.md`.
//! The service knows nothing of Rust, of builds or of who asks; it shares no path with anybody.
//!
//! | to change | go to |
//! |---|---|
//! | what an action may ask for | `layout` |
//! | how inputs become mounts | `plan`, `trees`, `content`, `provided`, `prepare` |
//! | how a command runs | `run`, `slots`, `capture`, `early` |
//! | what becomes of its outputs | `outputs`, `executor` |
//! | who waits for what | `service`, `progress` |

mod cache;
mod capture;
mod content;
mod disk;
mod early;
mod executor;
mod failure;
mod host_tools;
mod layout;
mod offer;
mod outputs;
mod plan;
mod prepare;
mod progress;
mod provided;
mod run;
mod server;
mod service;
mod slots;
mod trees;

pub use server::{Error, SERVICE, Server};

/// What an operator should know goes to standard error, one line each.
fn log(line: &str) {
    vx_proto::server::log(SERVICE, line);
}
