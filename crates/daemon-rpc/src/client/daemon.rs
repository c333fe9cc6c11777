//! A daemon that is there when it is needed: connect to it, start it, replace it
//! when it is an older one, ask it to end.
//!
//! Nothing polls. Who starts it hands it the listening socket, and connections
//! wait there; who waits for the end of one that is about to go waits for the end
//! of a connection to it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, ServiceVersion};
use daemon_lifecycle::{DetachedChild, Died, ServiceSpec, StartError, Started, start_once};

use super::ask::ask;
use super::connect::{Client, ClientConfig};
use super::error::{ConnectError, Foreign};
use super::run::{Outcome, Refused, Streams};
use crate::build::{BuildInfo, VersionCheck};
use crate::command::Command;
use crate::message::{Ask, Status};

/// How often a daemon is looked for that goes away meanwhile, and a command sent
/// that was not admitted.
const ATTEMPTS: u32 = 20;
/// How long a daemon that broke the connection off may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// How to start a daemon.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program. It finds the listener as
    /// [`Listener::inherited`](daemon_lifecycle::Listener::inherited).
    pub service: ServiceSpec,
    /// The file that is locked meanwhile; its folder is made if it is not there.
    pub lock: PathBuf,
}

/// What to do with a daemon of another build that this program could talk to, or
/// of an older protocol. A newer one is never replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOtherBuild {
    /// Let it finish what it runs, then start this program's own. This happens at
    /// most once for each [`Daemon::connect`].
    #[default]
    Replace,
    /// Use it if it speaks the same protocol.
    Keep,
}

/// A daemon, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Daemon {
    endpoint: Endpoint,
    config: ClientConfig,
    version: String,
    start: Option<Start>,
    on_other_build: OnOtherBuild,
    patience: Duration,
}

/// Why a daemon cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It cannot be talked to.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// It cannot be started.
    #[error("could not start the daemon at `{endpoint}`")]
    Start {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// It was started and ended at once.
    #[error("the daemon ended at its start: {0}")]
    Died(Box<Died>),
    /// It is about to end, and still runs commands.
    #[error(
        "`{endpoint}` is about to end and still runs {} command(s) after {} s of waiting",
        status.running, waited.as_secs()
    )]
    StillRunning {
        /// Where.
        endpoint: Endpoint,
        /// What it said when the waiting began.
        status: Box<Status>,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl From<ConnectError> for DaemonError {
    fn from(error: ConnectError) -> DaemonError {
        DaemonError::Connect(Box::new(error))
    }
}

/// What became of a daemon that was asked to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// None ran.
    NotRunning,
    /// It has ended; this is what it said last.
    Ended(Box<Status>),
    /// It still runs its commands.
    Ending(Box<Status>),
}

impl Daemon {
    /// A daemon at this place, for a client of this version (such as `1.2.3`). It
    /// is never started unless [`Daemon::started_by`] says how.
    pub fn new(endpoint: Endpoint, version: impl Into<String>, config: ClientConfig) -> Daemon {
        Daemon {
            endpoint,
            config,
            version: version.into(),
            start: None,
            on_other_build: OnOtherBuild::default(),
            patience: Duration::from_secs(60),
        }
    }

    /// Is started like this when it does not run.
    #[must_use]
    pub fn started_by(mut self, start: Start) -> Daemon {
        self.start = Some(start);
        self
    }

    /// Replaces daemons of other builds, or not. Without [`Daemon::started_by`]
    /// none is ever replaced.
    #[must_use]
    pub fn on_other_build(mut self, what: OnOtherBuild) -> Daemon {
        self.on_other_build = what;
        self
    }

    /// Waits this long for others that start the daemon, and for one that is about
    /// to end; 60 seconds unless set.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Daemon {
        self.patience = patience;
        self
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Connects; starts it if it does not run, and replaces it if it is another
    /// build and not a newer one.
    ///
    /// # Errors
    /// If there is no daemon to be had that speaks this program's protocol.
    pub fn connect(&self) -> Result<Client, DaemonError> {
        let deadline = Instant::now() + self.patience;
        let mut child: Option<DetachedChild> = None;
        let mut may_replace = self.start.is_some() && self.on_other_build == OnOtherBuild::Replace;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match Client::connect(&self.endpoint, self.config.clone()) {
                Ok(client) => {
                    let check = self.check(client.server_version(), client.server_build());
                    if !may_replace || !is_replaceable(check) {
                        return Ok(client);
                    }
                    may_replace = false;
                    drop(client);
                    self.await_end(Ask::Retire, deadline)?;
                    continue;
                }
                Err(error) => error,
            };
            if has_no_answer(&error)
                && let Some(died) = child.as_mut().and_then(last_words)
            {
                // One that was killed had no reason of its own not to start, and one
                // that succeeded has already ended for want of work.
                let has_failed = died.status.code().is_some_and(|code| code != 0);
                if has_failed || attempt >= ATTEMPTS {
                    return Err(DaemonError::Died(Box::new(died)));
                }
                child = None;
                continue;
            }
            match &error {
                ConnectError::VersionMismatch { theirs, .. }
                | ConnectError::WireMismatch { theirs, .. }
                    if may_replace && is_replaceable(self.check(theirs, &BuildInfo::default())) =>
                {
                    may_replace = false;
                    self.await_end(Ask::Retire, deadline)?;
                }
                _ if attempt >= ATTEMPTS => return Err(error.into()),
                ConnectError::NotRunning { .. } => match &self.start {
                    Some(start) => child = self.start(start, deadline)?.or(child),
                    None => return Err(error.into()),
                },
                ConnectError::Draining { .. } => self.await_end(Ask::Wait, deadline)?,
                // One that ends closes those that it had not yet accepted.
                ConnectError::Foreign {
                    why: Foreign::Closes,
                    ..
                } => {}
                _ => return Err(error.into()),
            }
        }
    }

    /// Connects as [`Daemon::connect`] does and runs the command, again if it was
    /// not admitted because the daemon was just about to end. `on_client` sees each
    /// connection before the command is sent, e.g. to keep its canceller.
    ///
    /// # Errors
    /// If there is no daemon to be had. What became of the command is in the
    /// [`Outcome`].
    pub fn run(
        &self,
        command: &Command,
        streams: &mut Streams<'_>,
        mut on_client: impl FnMut(&Client),
    ) -> Result<Outcome, DaemonError> {
        for _ in 1..ATTEMPTS {
            let client = self.connect()?;
            on_client(&client);
            match client.run_with(command, streams) {
                // Nothing has happened, and no input was read.
                Outcome::NotAdmitted {
                    reason: Refused::Draining | Refused::Closed,
                } => {}
                outcome => return Ok(outcome),
            }
        }
        let client = self.connect()?;
        on_client(&client);
        Ok(client.run_with(command, streams))
    }

    /// What the daemon says about itself, whatever its version; `None` if it does
    /// not run. Starts nothing.
    ///
    /// # Errors
    /// If somebody else answers, or none of this user.
    pub fn status(&self) -> Result<Option<Status>, ConnectError> {
        match ask(&self.endpoint, &self.config, Ask::Status) {
            Ok(asked) => Ok(Some(asked.status)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the daemon to end, whatever its version, and waits for that at most for
    /// `patience`. Starts nothing.
    ///
    /// # Errors
    /// If somebody else answers, or none of this user.
    pub fn stop(&self, patience: Duration) -> Result<Stopped, ConnectError> {
        match ask(&self.endpoint, &self.config, Ask::Stop) {
            Ok(asked) => {
                let status = Box::new(asked.status.clone());
                Ok(if asked.wait(patience) {
                    Stopped::Ended(status)
                } else {
                    Stopped::Ending(status)
                })
            }
            Err(error) if is_gone(&error) => Ok(Stopped::NotRunning),
            Err(error) => Err(error),
        }
    }

    fn check(&self, theirs: &ServiceVersion, build: &BuildInfo) -> VersionCheck {
        VersionCheck::compare(
            (self.config.protocol, &self.version, &self.config.build),
            (theirs.protocol, &theirs.crate_version, build),
        )
    }

    /// Asks, and waits until the daemon has ended.
    fn await_end(&self, what: Ask, deadline: Instant) -> Result<(), DaemonError> {
        let started = Instant::now();
        let asked = match ask(&self.endpoint, &self.config, what) {
            Ok(asked) => asked,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let status = Box::new(asked.status.clone());
        if asked.wait(deadline.saturating_duration_since(started)) {
            return Ok(());
        }
        Err(DaemonError::StillRunning {
            endpoint: self.endpoint.clone(),
            status,
            waited: started.elapsed(),
        })
    }

    fn start(
        &self,
        start: &Start,
        deadline: Instant,
    ) -> Result<Option<DetachedChild>, DaemonError> {
        match start_once(&self.endpoint, &start.lock, deadline, &start.service) {
            Ok(Started::Here(child)) => Ok(Some(child)),
            Ok(Started::Running) => Ok(None),
            Err(source) => Err(DaemonError::Start {
                endpoint: self.endpoint.clone(),
                source: Box::new(source),
            }),
        }
    }
}

fn is_replaceable(check: VersionCheck) -> bool {
    matches!(check, VersionCheck::Older | VersionCheck::OtherBuild)
}

/// Whether nobody is there, or goes at this moment.
fn is_gone(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::NotRunning { .. }
            | ConnectError::Foreign {
                why: Foreign::Closes,
                ..
            }
    )
}

/// Whether nothing was said, so that the daemon may have died.
fn has_no_answer(error: &ConnectError) -> bool {
    is_gone(error) || matches!(error, ConnectError::Io { .. })
}

/// Why a daemon that was started here is gone, if it is.
fn last_words(child: &mut DetachedChild) -> Option<Died> {
    child.exited_within(LAST_BREATH).ok()?.cloned()
}
