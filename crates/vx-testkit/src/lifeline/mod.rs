//! The lifeline: a helper process that ends everything a test started once the
//! test is gone, however it went.
//!
//! `Drop` does not run when a test times out, aborts, calls `process::exit` or
//! is killed, so the test process cannot be what cleans up. The helper is a
//! process of its own session that
//!
//! - holds one end of a socket whose other end only the test process has: its
//!   end of file says that the test is gone, with no polling;
//! - starts every command and service itself and is a subreaper, so whatever
//!   they leave behind, double-forked and in sessions of its own, stays below
//!   it in the process tree;
//! - marks what it starts with an environment variable, by which it finds what
//!   was started around it.
//!
//! It is the test's own executable again (`/proc/self/exe`), see [`enter`]: a
//! library has no other program at hand. The alternative, a plain `fork` of the
//! test, was not taken: the test process has threads by then, and the copy could
//! not start programs, read `/proc` or allocate.

pub(crate) mod client;
mod end;
pub(crate) mod enter;
pub(crate) mod landlock;
mod logs;
mod namespaces;
mod sockets;
mod spawn;
mod strike;
mod supervisor;
pub(crate) mod sweep;
pub(crate) mod wire;
