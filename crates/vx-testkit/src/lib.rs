//! Hermetic, parallel-safe tests for programs with daemons, which leave nothing
//! behind: no process, no socket, no file, however the test ends.
//!
//! ```
//! use vx_testkit::{Flavour, Ready, TestEnv};
//!
//! # // A stand-in for a daemon of your own.
//! # let daemon = "echo serving; exec sleep 600";
//! // Directories, an endpoint and an environment that no other test has.
//! let env = TestEnv::builder()
//!     .dir("notes", "NOTES_HOME")
//!     .endpoint("api", "NOTES_API", Flavour::Handed)
//!     .teardown("sh", ["-c", "rm -f $NOTES_HOME/lock"])
//!     .build();
//!
//! // A service gets its listening socket, and is ready when it is who it
//! // should be. A binary of your workspace is found by its name.
//! let mut notes = env
//!     .service("notes", "sh")
//!     .args(["-c", daemon])
//!     .listener("api")
//!     .ready(Ready::log_line("serving"))
//!     .ready(Ready::listens("api"))
//!     .start();
//!
//! // Commands see what was declared and nothing else; what differs from run to
//! // run is replaced, so one comparison covers everything they did. With insta:
//! // `insta::assert_snapshot!(command.snapshot(), @"…")`.
//! let command = env.command("sh").args(["-c", "echo notes in $NOTES_HOME at $NOTES_API"]);
//! assert_eq!(
//!     command.snapshot(),
//!     "exit code: 0\n\
//!      ----- stdout -----\n\
//!      notes in [NOTES] at 127.0.0.1:[PORT]\n\
//!      ----- stderr -----\n"
//! );
//! command.assert().success().stdout(predicates::str::contains("127.0.0.1"));
//!
//! // Crash it, and it comes back on the same socket.
//! notes.kill();
//! notes.restart();
//!
//! // Ends everything and fails the test if anything was left behind; so does
//! // dropping it.
//! env.finish();
//! ```
//!
//! # What holds
//!
//! - **Lifeline.** Commands and services are started by a helper process that
//!   ends all of them, and what they left behind, once the test is gone: after a
//!   panic, an abort, `process::exit`, a timeout, SIGKILL of the test or of
//!   nextest; also those that ignore SIGTERM, are in sessions of their own or
//!   forked twice. Teardown commands run first, within a time limit.
//! - **Ports.** The listening socket is handed to the service, or the service
//!   reports the port it chose, or the port is of a block leased to this test
//!   until its last process is dead ([`Flavour`]). Two test runs at once do not
//!   disturb each other.
//! - **Readiness.** [`Ready`] asks who listens or answers, never whether anybody
//!   does. A service that dies is reported at once, with its log.
//! - **Leaks fail the test** and are named: process id, command line, listening
//!   sockets ([`Report`]).
//! - **Evidence** of a failed test is kept below `target/vx-testkit` (or in
//!   `VX_TESTKIT_BUNDLE_DIR`): its directories, logs (also of all services in one
//!   order), processes, environment without secrets, and the command that runs it
//!   again. The path is printed.
//!
//! - **Tiers of hermeticity** ([`Tier`]): by request, commands and services have
//!   a process namespace or a sealed network of their own, without root; the
//!   report says which tier was in force, and `require_sealed` never goes on with
//!   less. [`sealed`] runs the body of a test inside.
//! - **Faults** ([`Fault`], [`Proxy`], [`Disk`]): services killed or frozen at a log
//!   line or a connection, broken networks, full disks, no file descriptors. A
//!   fault that has not fired fails the test.
//! - **Fixture servers**: [`HttpFixture`] serves files on loopback with chosen
//!   faults and records what it was asked for (with the feature `https` over TLS
//!   too), [`RustDist`] is a Rust distribution that rustup installs from. A fault that never came to pass fails the test.
//! - **After a whole run**, `vx-testkit sweep` fails if anything is left that was
//!   started by a helper which was killed itself; made for a last step in CI.
//!
//! A binary of the workspace that is older than its sources is refused, since
//! cargo does not build the binaries of other packages for a test
//! (`VX_TESTKIT_STALE=allow` runs it all the same).
//!
//! It needs no configuration, and works under `cargo nextest run` and `cargo
//! test`, in plain tests and in asynchronous ones (commands can be moved to
//! `tokio::task::spawn_blocking`).
//!
//! # Limits
//!
//! It needs Linux 5.10 or later with `/proc`. A program that the test starts
//! without the kit is not the kit's to end. A process that gives itself another
//! user's rights is found but cannot be killed by an ordinary user.
//! The variables that commands get are listed at [`Command`].

#[cfg(not(target_os = "linux"))]
compile_error!("vx-testkit needs Linux: subreapers, pidfds and /proc");

mod builder;
mod bundle;
mod command;
mod dirs;
mod endpoint;
mod env;
mod environment;
mod fault;
mod http;
mod identity;
mod inside;
mod leaks;
mod lifeline;
mod orphans;
mod ports;
mod proc;
mod programs;
mod proxy;
mod ready;
mod redact;
mod run;
mod running;
mod rust_dist;
mod scarcity;
mod service;
mod service_builder;
mod setup;
mod tail;
mod tier;
mod vx;
mod wait;
mod watch;

pub use builder::TestEnvBuilder;
pub use command::{Command, CommandError};
pub use endpoint::{Address, Flavour};
pub use env::TestEnv;
pub use fault::{Fault, Injected};
#[cfg(feature = "https")]
pub use http::{CertificateAuthority, ServerCertificate};
pub use http::{HttpFault, HttpFixture, Recorded};
pub use inside::sealed;
pub use leaks::{LeakedProcess, Report};
pub use orphans::{kill_orphans, orphans};
pub use programs::ProgramError;
pub use proxy::Proxy;
pub use ready::{Probe, Ready};
pub use redact::Redactions;
pub use run::Run;
pub use running::Running;
pub use rust_dist::{RustDist, RustDistBuilder};
pub use scarcity::{Disk, ExhaustedFiles};
pub use service::Service;
pub use service_builder::{ServiceBuilder, ServiceError};
pub use setup::SetupError;
pub use tier::Tier;
pub use wait::{WaitError, try_wait_until, wait_until};
