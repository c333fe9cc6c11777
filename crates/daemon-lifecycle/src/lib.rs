//! Start exactly one daemon, hand it its listener, own its children, stop only
//! what was started here.
//!
//! This crate knows no protocol and no async runtime: it deals in sockets,
//! locks, processes and their identities. What travels over the sockets is up to
//! the services.
//!
//! [`Ensure`] connects to an [`Instance`] and starts it if it does not run, without
//! polling and without a race:
//!
//! 1. It connects. If nobody listens, it takes `start.lock`.
//! 2. It connects again, since somebody may have been faster.
//! 3. It takes `life.lock`, which a daemon holds for life: now there is none. A
//!    daemon that leaves is waited for here.
//! 4. It removes a stale socket and listens; from now on connections queue up in
//!    the kernel.
//! 5. It starts the daemon and gives it listener, lock and one end of a pipe.
//! 6. The daemon takes them over ([`Daemon::begin`]) and says that it is ready
//!    ([`Daemon::ready`]) or why not ([`Daemon::failed`]). If it dies before, the
//!    pipe ends, the lock is free, and connections are reset, all at once.
//! 7. The client lets go of `start.lock` and connects.
//!
//! Each [`Step`] has a name that can be observed. [`probe`], [`status()`] and [`stop`]
//! find the daemon as the process that holds `life.lock`, whatever files say.
//! [`decide`] says what to do about a daemon of another [`Build`].
//!
//! The parts can be used alone: [`StartLock`], [`Listener`], [`spawn_detached`],
//! [`SpawnTracker`], [`start_once`] for daemons without a lock of their own.
//!
//! What a child started here sees: file descriptor 3 is the listener and
//! `LISTEN_FDS=1`; 0 is `/dev/null`; 1 and 2 append to its log. From 4 on come, if it
//! gets them, and each with its number in a variable: `DAEMON_LIFELINE_FD`, the read
//! end of a pipe that reports end of file when the process that started it is gone;
//! `DAEMON_LIFE_LOCK_FD`, its lock, held already; `DAEMON_READY_FD`, the pipe to its
//! starter. `DAEMON_INSTANCE` is what [`Instance::inherited`] reads. Its environment
//! is what the [`ServiceSpec`] lists, its directory is `/`,
//! it leads a session of its own, no signal is blocked or ignored, and it inherits no
//! other descriptor.
//!
//! Feature `http` (off by default) adds `HttpDaemon`, for daemons that tell over HTTP
//! how they are. Linux only: it relies on pidfd and on `/proc`.

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
mod token;
mod tracker;
mod uninstall;

pub use build_id::Build;
pub use connection::{Connection, connect_unix};
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
pub use replace::{Decision, Policy, Refusal, compare_versions, decide};
pub use report::Died;
pub use socket_path::SocketPathError;
pub use spawn::{ServiceSpec, SpawnError};
pub use start::{StartError, Started, start_once};
pub use status::status;
pub use step::{Observer, Step};
pub use stop::{StopError, StopRecord, Stopped, stop};
pub use token::TokenError;
pub use tracker::{ChildInfo, SpawnTracker};
pub use uninstall::{UninstallError, Uninstalled, uninstall};

/// The example of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
