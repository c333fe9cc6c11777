//! A program that is its own daemon: the first command starts it in the
//! background, later ones find it there.
//!
//! This is where the pieces meet a person: standard streams, Ctrl+C, the window,
//! exit codes. Whoever wants any of it otherwise uses [`Daemon`] and [`serve`].

mod exit;
mod foreground;
mod place;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use daemon_lifecycle::Listener;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::build::BuildInfo;
use crate::client::{ClientConfig, Daemon, Stopped};
use crate::command::{Command, PayloadError};
use crate::message::Status;
use crate::server::{CommandHandler, ServerConfig, serve};

pub use exit::{FAILED, INTERRUPTED, NOT_ADMITTED, NOT_RUNNING, PROTOCOL, USAGE};
pub use place::PlaceError;

/// How long the daemon stays without work.
const IDLE_EXIT: Duration = Duration::from_secs(600);
/// How long a daemon may take to say who it is. One that was just started answers
/// within milliseconds, on a machine that is not overloaded.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a daemon that was asked to end is waited for.
const STOP: Duration = Duration::from_secs(30);

/// A program with its own daemon.
#[derive(Clone, Debug)]
pub struct App {
    name: String,
    version: String,
    protocol: u32,
    build: BuildInfo,
    idle_exit: Duration,
}

impl App {
    /// A program of this name and version (such as `1.2.3`), whose commands and
    /// payloads have this version of their own.
    pub fn new(name: impl Into<String>, version: impl Into<String>, protocol: u32) -> App {
        App {
            name: name.into(),
            version: version.into(),
            protocol,
            // Without a build the daemon is replaced by version only.
            build: BuildInfo::of_this_process().unwrap_or_default(),
            idle_exit: IDLE_EXIT,
        }
    }

    /// With a time of building, in seconds since 1970, for people to read.
    #[must_use]
    pub fn built_at(mut self, time: u64) -> App {
        self.build = self.build.built_at(time);
        self
    }

    /// The daemon ends when it had nothing to do for this long; ten minutes unless
    /// set.
    #[must_use]
    pub fn idle_exit(mut self, idle: Duration) -> App {
        self.idle_exit = idle;
        self
    }

    /// The whole of `main`. In the process that was started as the daemon it serves;
    /// in every other it runs the command of this name and payload, with the
    /// directory, terminal and standard streams of this process, and returns when
    /// that has ended.
    ///
    /// If the variable `<NAME>_DAEMON` is `0` (the name in capitals), the command
    /// runs in this process.
    ///
    /// The first Ctrl+C asks the command to end, the second drops it, the third
    /// leaves at once. The exit code is that of the command; see the table in the
    /// crate's documentation for the others.
    pub fn main<H>(&self, handler: H, name: &str, payload: &H::Payload) -> ExitCode
    where
        H: CommandHandler<Payload: Serialize>,
    {
        self.main_with(handler, || {
            Command::new(name).from_here().with_payload(payload)
        })
    }

    /// As [`App::main`], with a command made by the program, e.g. with variables of
    /// its environment. `command` is not called in the daemon.
    pub fn main_with<H: CommandHandler>(
        &self,
        handler: H,
        command: impl FnOnce() -> Result<Command, PayloadError>,
    ) -> ExitCode {
        match Listener::inherited() {
            Ok(Some(listener)) => return self.serve(listener, handler),
            Ok(None) => {}
            Err(error) => return exit::fail(&self.name, NOT_ADMITTED, &error),
        }
        match command() {
            Ok(command) => self.run(handler, &command),
            Err(error) => exit::fail(&self.name, NOT_ADMITTED, &error),
        }
    }

    /// The whole of an option `--status`: prints what the daemon says about itself,
    /// with exit code 0, or that it does not run, with exit code 3.
    pub fn print_status(&self) -> ExitCode {
        let status = self.status();
        self.print(status.map(|status| match status {
            Some(status) => (exit::describe(&status), ExitCode::SUCCESS),
            None => (
                "not running\n".to_owned(),
                ExitCode::from(exit::NOT_RUNNING),
            ),
        }))
    }

    /// The whole of an option `--stop`: asks the daemon to end, waits up to 30
    /// seconds for that, and prints what became of it. Exit code 0 if none runs afterwards.
    pub fn print_stop(&self) -> ExitCode {
        let stopped = self.stop(STOP);
        self.print(stopped.map(|stopped| match stopped {
            Stopped::NotRunning => ("was not running\n".to_owned(), ExitCode::SUCCESS),
            Stopped::Ended(status) => (
                format!("stopped the process {}\n", status.version.pid),
                ExitCode::SUCCESS,
            ),
            Stopped::Ending(status) => (
                format!(
                    "still running, and asked to end\n{}",
                    exit::describe(&status)
                ),
                ExitCode::from(exit::FAILED),
            ),
        }))
    }

    /// Tells people how the program is used; exit code 64 (`EX_USAGE`).
    pub fn usage(&self, text: &str) -> ExitCode {
        exit::print(&mut std::io::stderr(), &format!("{text}\n"));
        ExitCode::from(exit::USAGE)
    }

    fn print(&self, told: Result<(String, ExitCode), Box<dyn std::error::Error>>) -> ExitCode {
        match told {
            Ok((text, code)) => {
                exit::print(&mut std::io::stdout(), &text);
                code
            }
            Err(error) => exit::fail(&self.name, NOT_ADMITTED, error.as_ref()),
        }
    }

    /// What the daemon says about itself, if it runs. Starts nothing.
    ///
    /// # Errors
    /// If there is no place for it, or somebody else answers there.
    pub fn status(&self) -> Result<Option<Status>, Box<dyn std::error::Error>> {
        Ok(self.daemon()?.status()?)
    }

    /// Asks the daemon to end, and waits for that.
    ///
    /// # Errors
    /// If there is no place for it, or somebody else answers there.
    pub fn stop(&self, patience: Duration) -> Result<Stopped, Box<dyn std::error::Error>> {
        Ok(self.daemon()?.stop(patience)?)
    }

    /// The daemon of this program and this user.
    ///
    /// # Errors
    /// If the system has no place for its socket.
    pub fn daemon(&self) -> Result<Daemon, PlaceError> {
        place::daemon(&self.name, &self.version, self.client_config())
    }

    fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new(&self.name, self.protocol);
        config.build = self.build.clone();
        config.handshake_timeout = HANDSHAKE;
        config
    }

    fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::new(&self.name, &self.version, self.protocol);
        config.build = self.build.clone();
        config
    }

    /// Serves until it is told to end, or nobody needs it any more.
    fn serve<H: CommandHandler>(&self, listener: Listener, handler: H) -> ExitCode {
        daemon_lifecycle::limit_arenas();
        let mut config = self.server_config();
        config.idle_exit = Some(self.idle_exit);
        let listener = match listener {
            Listener::Tcp(listener) => listener.into(),
            Listener::Unix(listener) => listener.into(),
        };
        let served = runtime().and_then(|runtime| {
            let served = runtime.block_on(async {
                let shutdown = CancellationToken::new();
                let mut terminate = signal(SignalKind::terminate())?;
                let fired = shutdown.clone();
                tokio::spawn(async move {
                    let _signal = terminate.recv().await;
                    fired.cancel();
                });
                serve(listener, config, handler, shutdown)
                    .await
                    .map_err(std::io::Error::other)
            });
            // What is stuck must not keep the process.
            runtime.shutdown_background();
            served
        });
        match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::fail(&self.name, NOT_ADMITTED, &error),
        }
    }

    fn run<H: CommandHandler>(&self, handler: H, command: &Command) -> ExitCode {
        let signals = match signals::Signals::install() {
            Ok(signals) => signals,
            Err(error) => return exit::fail(&self.name, NOT_ADMITTED, &error),
        };
        let outcome = if place::is_in_process(&self.name) {
            foreground::in_process(
                self.client_config(),
                self.server_config(),
                handler,
                command,
                &signals,
            )
        } else {
            match self.daemon() {
                Ok(daemon) => foreground::in_daemon(&daemon, command, &signals),
                Err(error) => return exit::fail(&self.name, NOT_ADMITTED, &error),
            }
        };
        exit::tell(&self.name, outcome, &signals)
    }
}

/// For the timers, sockets and tasks of handlers.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
