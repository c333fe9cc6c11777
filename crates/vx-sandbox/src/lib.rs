//! Run one command that sees its declared inputs only.
//!
//! The crate knows nothing of compilers, caches or network protocols.
//! It gets a [`Spec`] (command, environment, mounts) and answers with a [`Report`] (how the command ended, what it used, what it read).
//!
//! The embedding program executes itself again for every command, so that namespaces are made by a fresh process with a single thread; therefore its `main` calls [`init_if_requested`] before anything else:
//!
//! ```
//! // First line of `main`:
//! vx_sandbox::init_if_requested();
//! ```
//!
//! Processes of one run, from the outside in:
//!
//! | process | what it does | ends when |
//! |---|---|---|
//! | host | holds a [`Launcher`] and one [`Running`] per command | |
//! | stage one | makes the namespaces, waits | its socket to the host closes, or PID 1 ended |
//! | PID 1 | builds the root, starts the command, reaps, reports | the command ended, or stage one is gone |
//! | command | what was asked for | PID 1 is gone: the kernel ends the whole PID namespace |

mod check;
mod command;
mod error;
mod failure;
mod launch;
mod mounts;
mod observe;
mod pid1;
mod privileges;
mod probe;
mod report;
mod root;
mod spec;
mod stage;
mod wire;

pub use error::{RunError, SetupFailure, SpawnError};
pub use launch::{Io, Killer, Launcher, Running, init_if_requested};
pub use probe::{Probe, Tier, probe};
pub use report::{Ending, Observed, Report, Usage};
pub use spec::{Mount, MountKind, NORMAL_MTIME, Spec, UserNamespace};
