//! What a test declares of a service before it is started.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, CommandError};
use crate::env::{Inner, TestEnv, chain};
use crate::lifeline::client::Process;
use crate::ready::Ready;
use crate::service::Service;

/// The variable that has a service's nonce.
const NONCE: &str = "VX_TESTKIT_NONCE";

/// Why a service does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// There is no such program.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// No endpoint of that name has a socket to hand over.
    #[error("endpoint `{0}` has no listening socket; declare it with `Flavour::Handed`")]
    NoListener(String),
    /// It could not be started or followed.
    #[error("failed to start service `{name}`")]
    Start {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("service `{name}` ended with {status} before it was ready; its log ends:\n{tail}")]
    Died {
        /// Its name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        tail: String,
    },
    /// It runs, but is not ready in time; it has been killed.
    #[error(
        "service `{name}` was not ready within {:.1} s: {last}; its log ends:\n{tail}",
        limit.as_secs_f32()
    )]
    NotReady {
        /// Its name.
        name: String,
        /// The time it had.
        limit: Duration,
        /// What its conditions said last.
        last: String,
        /// The last lines of its log.
        tail: String,
    },
}

impl TestEnv {
    /// Declares a service: a binary of the workspace, else a program on the
    /// search path, else the path given. The name is that of its log.
    pub fn service(&self, name: &str, program: &str) -> ServiceBuilder {
        ServiceBuilder {
            name: name.to_owned(),
            command: self.command(program),
            inner: Arc::clone(&self.inner),
            listeners: Vec::new(),
            ready: Vec::new(),
            teardown: Vec::new(),
            limit: Duration::from_secs(20),
        }
    }
}

/// A service to start; made by [`TestEnv::service`].
#[derive(Clone, Debug)]
#[must_use = "a service does nothing until it is started"]
pub struct ServiceBuilder {
    pub(crate) name: String,
    command: Command,
    pub(crate) inner: Arc<Inner>,
    listeners: Vec<String>,
    pub(crate) ready: Vec<Ready>,
    teardown: Vec<Command>,
    pub(crate) limit: Duration,
}

impl ServiceBuilder {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command = self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command = self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command = self.command.env(name, value);
        self
    }

    /// Runs it elsewhere; a relative path is below the work directory.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command = self.command.current_dir(dir);
        self
    }

    /// Hands it the listening socket of an endpoint ([`Flavour::Handed`]) as
    /// descriptor 3, the next one as descriptor 4 and so on, as systemd does.
    ///
    /// [`Flavour::Handed`]: crate::Flavour::Handed
    pub fn listener(mut self, endpoint: impl Into<String>) -> Self {
        self.listeners.push(endpoint.into());
        self
    }

    /// Adds a condition of its readiness; without one it counts as ready as
    /// soon as it runs.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready.push(ready);
        self
    }

    /// Runs this command first when the environment ends, however it ends, as
    /// [`TestEnvBuilder::teardown`](crate::TestEnvBuilder::teardown) does; it
    /// knows the addresses of all endpoints, also of those that were reported.
    /// It may take as long as any command.
    pub fn teardown(mut self, command: Command) -> Self {
        self.teardown.push(command);
        self
    }

    /// How long it may take to be ready (20 s).
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get there, see [`try_start`](Self::try_start).
    #[track_caller]
    pub fn start(self) -> Service {
        match self.try_start() {
            Ok(service) => service,
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started, dies before it is ready (told at once) or is not
    /// ready in time.
    pub fn try_start(self) -> Result<Service, ServiceError> {
        Service::start(self)
    }

    /// Hands the teardown commands to the helper.
    pub(crate) fn register_teardown(&self) -> Result<(), ServiceError> {
        for command in &self.teardown {
            let launch = command.launch()?;
            self.inner
                .helper
                .teardown(launch, command.limit)
                .map_err(|source| ServiceError::Start {
                    name: self.name.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.inner.dirs.logs().join(format!("{}.log", self.name))
    }

    fn sockets(&self) -> Result<Vec<Arc<TcpListener>>, ServiceError> {
        let endpoints = self.inner.endpoints();
        self.listeners
            .iter()
            .map(|name| {
                endpoints
                    .get(name)
                    .and_then(|endpoint| endpoint.listener.clone())
                    .ok_or_else(|| ServiceError::NoListener(name.clone()))
            })
            .collect()
    }

    pub(crate) fn spawn(&self) -> Result<Started, ServiceError> {
        let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
        let sockets = self.sockets()?;
        let mut command = self.command.clone().env(NONCE, &nonce);
        if !sockets.is_empty() {
            command = command
                .env("LISTEN_FDS", sockets.len().to_string())
                .env("LISTEN_FDNAMES", self.listeners.join(":"));
        }
        let launch = command.launch()?;
        let start = || -> io::Result<Started> {
            let log = File::options()
                .append(true)
                .create(true)
                .open(self.log_path())?;
            let log_start = log.metadata()?.len();
            let stdin = File::open("/dev/null")?;
            let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
            let stdio = [stdin.as_fd(), log.as_fd(), log.as_fd()];
            let process =
                self.inner
                    .helper
                    .spawn(launch, stdio, &sockets, Some(self.name.clone()))?;
            Ok(Started {
                process,
                nonce,
                log_start,
            })
        };
        start().map_err(|source| ServiceError::Start {
            name: self.name.clone(),
            source,
        })
    }
}

/// One start of a service.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) nonce: String,
    pub(crate) log_start: u64,
}
