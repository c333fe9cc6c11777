//! Start exactly one daemon, hand it its listener, own its children, stop only
//! what was started here.
//!
//! This crate knows no protocol and no async runtime: it deals in sockets,
//! locks, processes and their identities. What travels over the sockets is up to
//! the services.
//!
//! How a daemon starts, without polling and without a race:
//!
//! 1. A client whose connect was refused takes the [`StartLock`].
//! 2. It tries to connect again, since somebody may have been faster.
//! 3. It binds the [`Listener`]; from now on connections queue up in the kernel.
//! 4. It hands the listener to the daemon as file descriptor 3, with
//!    [`spawn_detached`] or [`SpawnTracker::spawn`].
//! 5. It connects; the daemon answers when it gets there. If it dies before, the
//!    last copy of the listener is gone and the connection is reset at once.
//!
//! [`start_once`] does steps 1 to 4.
//!
//! What a child started here sees: file descriptor 3 is the listener and
//! `LISTEN_FDS=1`; 0 is `/dev/null`; 1 and 2 append to its log; with a lifeline,
//! 4 is the read end of a pipe that reports end of file when the process that
//! started it is gone, and `DAEMON_LIFELINE_FD=4`. Its environment is what the
//! [`ServiceSpec`] lists, its directory is `/`, it leads a session of its own, no
//! signal is blocked or ignored, and it inherits no other descriptor.

mod detached;
mod inherited;
mod lifeline;
mod listener;
mod lock;
mod memory;
mod pidfd;
mod process;
mod report;
mod socket_path;
mod spawn;
mod start;
mod tracker;

pub use detached::{DetachedChild, spawn_detached};
pub use inherited::InheritError;
pub use lifeline::{LIFELINE_VARIABLE, lifeline, peer_uid};
pub use listener::{BindError, Listener};
pub use lock::{LockError, StartLock};
pub use memory::{give_back, limit_arenas};
pub use process::IdentifiedProcess;
pub use report::Died;
pub use socket_path::SocketPathError;
pub use spawn::{ServiceSpec, SpawnError};
pub use start::{StartError, Started, start_once};
pub use tracker::{ChildInfo, SpawnTracker};
