//! How the `main` of every service begins.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use daemon_contract::Endpoint;
use daemon_lifecycle::{BindError, InheritError, Listener};
use tokio::runtime::Runtime;

use crate::causes;
use crate::env::{EnvError, Settings};
use crate::token::{self, Token, TokenError};

/// Threads for requests; they only move bytes and wait.
const WORKERS: usize = 2;

/// What a service has before it does anything of its own.
#[derive(Debug)]
pub struct Start {
    /// The settings of its environment, so that whoever starts it passes on what it was given itself.
    pub settings: Settings,
    /// The token of its `VX_HOME`.
    pub token: Token,
    /// The socket that it was handed, or has bound.
    pub listener: Listener,
}

/// Why a service cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket that was handed over cannot be used.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// A variable is wrong.
    #[error(transparent)]
    Settings(#[from] EnvError),
    /// `VX_HOME` or the token in it cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its endpoint cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Start {
    /// Takes the listener that this process was handed; without one, binds what `endpoint` picks from the settings.
    ///
    /// To be called first of all, so that the listener is not leaked to anything else.
    ///
    /// # Errors
    /// The first thing that is wrong with listener, environment, home or endpoint.
    pub fn of_process(endpoint: impl FnOnce(&Settings) -> &Endpoint) -> Result<Start, StartError> {
        let inherited = Listener::inherited()?;
        let settings = Settings::from_env()?;
        let token = token::load_or_create(&settings.home)?;
        let listener = match inherited {
            Some(listener) => listener,
            None => Listener::bind(endpoint(&settings))?,
        };
        Ok(Start {
            settings,
            token,
            listener,
        })
    }

    /// Logs that `service` serves the directory `place`.
    pub fn announce(&self, service: &str, place: &Path) {
        log(
            service,
            &format!(
                "serves {} at {} (version {}, pid {})",
                place.display(),
                self.listener.endpoint(),
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
            ),
        );
    }
}

/// The runtime of a service in which up to `blocking` threads may wait for disks or processes.
///
/// # Errors
/// The system gives no threads.
pub fn runtime(blocking: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(blocking)
        .enable_all()
        .build()
}

/// Logs why `service` ends, for its `main` to return.
pub fn fail(service: &str, error: &(dyn Error + 'static)) -> ExitCode {
    log(service, &format!("error: {}", causes(error)));
    ExitCode::FAILURE
}

/// One line on standard error for whoever reads the log. Nobody may be left to read it, which is no reason to fail.
pub fn log(service: &str, line: &str) {
    drop(writeln!(io::stderr().lock(), "{service}: {line}"));
}
