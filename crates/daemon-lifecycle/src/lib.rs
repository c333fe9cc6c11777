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

mod build_id;
mod connection;
mod daemon;
mod descendants;
mod detached;
mod ensure;
mod handed;
mod holders;
#[cfg(feature = "http")]
mod http;
mod inherited;
mod install;
mod instance;
mod life;
mod lifeline;
mod listener;
mod lock;
mod memory;
mod owned;
mod pidfd;
mod probe;
mod process;
mod ready;
mod replace;
mod report;
mod socket_path;
mod spawn;
mod start;
mod status;
mod step;
mod stop;
mod tracker;
mod uninstall;

pub use build_id::Build;
pub use connection::Connection;
pub use daemon::{BeginError, Daemon, Leaving};
pub use detached::{DetachedChild, spawn_detached};
pub use ensure::{Ensure, EnsureError, Ensured, Origin};
#[cfg(feature = "http")]
pub use http::{HttpDaemon, HttpDaemonError, HttpEnsured, HttpProbe};
pub use inherited::InheritError;
pub use install::{InstallError, InstallRecord, install};
pub use instance::Instance;
pub use life::LifeRecord;
pub use lifeline::{LIFELINE_VARIABLE, lifeline, peer_uid};
pub use listener::{BindError, Listener};
pub use lock::{LockError, StartLock};
pub use memory::{give_back, limit_arenas};
pub use owned::{OwnedDaemon, ShutdownError};
pub use probe::{Probe, ProbeError, RunningDaemon, Stranger, probe};
pub use process::{Ended, IdentifiedProcess};
pub use replace::{Decision, Policy, Refusal, decide};
pub use report::Died;
pub use socket_path::SocketPathError;
pub use spawn::{ServiceSpec, SpawnError};
pub use start::{StartError, Started, start_once};
pub use status::status;
pub use step::{Observer, Step};
pub use stop::{StopError, StopRecord, Stopped, stop};
pub use tracker::{ChildInfo, SpawnTracker};
pub use uninstall::{UninstallError, Uninstalled, uninstall};
