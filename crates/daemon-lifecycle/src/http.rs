//! Daemons that are asked over HTTP how they are.
//!
//! An answer at a URL proves that somebody answers, not who: a port is anybody's. So
//! the process that listens at the port is looked up in the kernel's tables and
//! compared. Only `http` to the loopback interface is spoken; nothing is redirected,
//! no proxy is used, no name is resolved.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::{
    DaemonHandle, HealthStatus, HttpDaemonConfig, ProcessIdentity, ShutdownConfig, StatusRequest,
    StatusResponse,
};
use serde::Serialize;
use ureq::http::Uri;

use crate::Ended;
use crate::connection::tcp_owner;
use crate::holders;
use crate::listener::loopback;
use crate::lock::{LockError, StartLock};
use crate::owned::{OwnedDaemon, ShutdownError};
use crate::probe::Stranger;
use crate::report::Died;
use crate::spawn::{ServiceSpec, SpawnError};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// Pauses between two looks at a daemon that was just started, which tells nobody
/// when it is ready. Its end is noticed at once.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(100),
];

/// A daemon with a health URL.
#[derive(Clone, Debug)]
pub struct HttpDaemon {
    config: HttpDaemonConfig,
    address: SocketAddr,
    health: String,
    shutdown: Option<String>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpProbe {
    /// Nobody listens at the port.
    Absent,
    /// A process of this user listens (the one that was expected, if one was).
    Running {
        /// Which process; several if they share the port.
        processes: Vec<ProcessIdentity>,
        /// How it answered: healthy for a status of 200 to 299, unhealthy for another
        /// one, unresponsive for none.
        health: HealthStatus,
    },
    /// Somebody else listens; nothing was sent.
    Foreign(Stranger),
}

/// A daemon that was found or started.
#[derive(Debug)]
pub struct HttpEnsured {
    /// What others may know of it.
    pub handle: DaemonHandle,
    /// The right to end it, if it was started here.
    pub owned: Option<OwnedDaemon>,
}

/// Why a daemon cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpDaemonError {
    /// The URL is not one that is used here.
    #[error("`{url}` cannot be used for `{name}`: {reason}")]
    Url {
        /// The daemon.
        name: String,
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody else listens at the port.
    #[error("`{address}` is not served by `{name}` but by {stranger}")]
    Foreign {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// Who is there.
        stranger: Stranger,
    },
    /// It runs and is not well.
    #[error("`{name}` at `{address}` is {health}")]
    NotHealthy {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// How it is.
        health: HealthStatus,
    },
    /// The lock of starts was not to be had.
    #[error("could not start `{name}`")]
    Lock {
        /// The daemon.
        name: String,
        /// Who holds the lock, or what is wrong with it.
        #[source]
        source: LockError,
    },
    /// The program could not be started.
    #[error("could not start `{name}`")]
    Spawn {
        /// The daemon.
        name: String,
        /// Why not.
        #[source]
        source: SpawnError,
    },
    /// It was started and ended before it was healthy.
    #[error("`{name}` failed to start")]
    Failed {
        /// The daemon.
        name: String,
        /// How it ended, and the end of its log.
        #[source]
        died: Box<Died>,
    },
    /// It was started and was not healthy until the deadline; it was ended.
    #[error("`{name}` was started and was not healthy in time, and was ended")]
    NotInTime {
        /// The daemon.
        name: String,
        /// How it ended, and the end of its log.
        #[source]
        died: Option<Box<Died>>,
    },
    /// It could not be ended.
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
    /// The system refused.
    #[error("could not look for `{name}` at `{address}`")]
    Io {
        /// The daemon.
        name: String,
        /// The port.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// What the daemon is told when it is asked to end.
#[derive(Serialize)]
struct ShutdownRequest<'a> {
    #[serde(flatten)]
    config: &'a ShutdownConfig,
    reason: &'a str,
}

impl HttpDaemon {
    /// Checks the URLs; asks nobody.
    ///
    /// # Errors
    /// If one of them is not `http` with a port on the loopback interface, or both are
    /// not on the same port.
    pub fn new(config: HttpDaemonConfig) -> Result<HttpDaemon, HttpDaemonError> {
        let fail = |url: &str, reason| HttpDaemonError::Url {
            name: config.daemon_name.clone(),
            url: url.to_owned(),
            reason,
        };
        let (address, health) =
            local(&config.health_url).map_err(|reason| fail(&config.health_url, reason))?;
        let shutdown = match config.shutdown_endpoint.as_deref() {
            None => None,
            Some(path) if path.starts_with('/') => {
                let url = format!("http://{address}{path}");
                let (_, url) = local(&url).map_err(|reason| fail(path, reason))?;
                Some(url)
            }
            Some(url) => {
                let (other, target) = local(url).map_err(|reason| fail(url, reason))?;
                if other != address {
                    return Err(fail(url, "it is on another server than the health URL"));
                }
                Some(target)
            }
        };
        Ok(HttpDaemon {
            address,
            health,
            shutdown,
            config,
        })
    }

    /// Who answers, and how. With `expected`, only that process is taken for it; without,
    /// any process of this user. Strangers are sent nothing.
    ///
    /// # Errors
    /// If the kernel's tables cannot be read.
    pub fn probe(
        &self,
        expected: Option<&ProcessIdentity>,
        timeout: Duration,
    ) -> Result<HttpProbe, HttpDaemonError> {
        self.look(expected, timeout)
            .map_err(|source| self.io(source))
    }

    fn look(&self, expected: Option<&ProcessIdentity>, timeout: Duration) -> io::Result<HttpProbe> {
        let host = self.address.ip().to_string();
        let Some(owner) = tcp_owner(&host, self.address.port())? else {
            return Ok(HttpProbe::Absent);
        };
        let processes = holders::of_socket(owner.inode)?;
        let ours = match expected {
            Some(expected) => processes.contains(expected),
            None => owner.uid == rustix::process::geteuid().as_raw(),
        };
        if !ours {
            let pid = processes.first().map(|process| process.pid);
            return Ok(HttpProbe::Foreign(Stranger {
                uid: Some(owner.uid),
                pid,
                program: pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok()),
            }));
        }
        let health = match request(timeout).get(&self.health).call() {
            Ok(answer) if answer.status().is_success() => HealthStatus::Healthy,
            Ok(_) => HealthStatus::Unhealthy,
            Err(_) => HealthStatus::Unresponsive,
        };
        Ok(HttpProbe::Running { processes, health })
    }

    /// How it is, as an answer to `request`. `metadata` has `pid` or `foreign`.
    ///
    /// # Errors
    /// If the kernel's tables cannot be read.
    pub fn status(
        &self,
        request: &StatusRequest,
        expected: Option<&ProcessIdentity>,
    ) -> Result<StatusResponse, HttpDaemonError> {
        let mut metadata = serde_json::Map::new();
        let mut response = StatusResponse::new(&request.id, false);
        match self.probe(expected, REQUEST)? {
            HttpProbe::Absent => {}
            HttpProbe::Foreign(stranger) => {
                metadata.insert("foreign".into(), stranger.to_string().into());
            }
            HttpProbe::Running { processes, health } => {
                response.is_running = true;
                response.health_status = Some(health);
                if let Some(process) = processes.first() {
                    metadata.insert("pid".into(), process.pid.into());
                }
            }
        }
        response.metadata = Some(metadata);
        Ok(response)
    }

    /// Finds it healthy, or starts it and waits until it is.
    ///
    /// Of all who do so with the same `lock`, one starts it. A daemon that does not
    /// become healthy until `deadline` is ended again.
    ///
    /// # Errors
    /// Each obstacle has its own variant.
    pub fn ensure(
        &self,
        spec: &ServiceSpec,
        lock: &Path,
        deadline: Instant,
    ) -> Result<HttpEnsured, HttpDaemonError> {
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let _baton =
            StartLock::acquire(lock, deadline).map_err(|source| HttpDaemonError::Lock {
                name: self.name(),
                source,
            })?;
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let owned = OwnedDaemon::start(&self.config.daemon_name, spec).map_err(|source| {
            HttpDaemonError::Spawn {
                name: self.name(),
                source,
            }
        })?;
        self.await_healthy(owned, deadline)
    }

    fn name(&self) -> String {
        self.config.daemon_name.clone()
    }

    fn io(&self, source: io::Error) -> HttpDaemonError {
        HttpDaemonError::Io {
            name: self.name(),
            address: self.address,
            source,
        }
    }

    fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn find(&self) -> Result<Option<HttpEnsured>, HttpDaemonError> {
        match self.probe(None, REQUEST)? {
            HttpProbe::Absent => Ok(None),
            HttpProbe::Foreign(stranger) => Err(HttpDaemonError::Foreign {
                name: self.name(),
                address: self.address,
                stranger,
            }),
            HttpProbe::Running {
                health: HealthStatus::Healthy,
                ..
            } => Ok(Some(HttpEnsured {
                handle: DaemonHandle::already_running(self.name(), self.base_url()),
                owned: None,
            })),
            HttpProbe::Running { health, .. } => Err(HttpDaemonError::NotHealthy {
                name: self.name(),
                address: self.address,
                health,
            }),
        }
    }

    fn await_healthy(
        &self,
        mut owned: OwnedDaemon,
        deadline: Instant,
    ) -> Result<HttpEnsured, HttpDaemonError> {
        let last = PAUSES[PAUSES.len() - 1];
        for pause in PAUSES.into_iter().chain(std::iter::repeat(last)) {
            let died = owned
                .exited_within(pause)
                .map_err(|source| self.io(source))?;
            if let Some(died) = died {
                return Err(HttpDaemonError::Failed {
                    name: self.name(),
                    died: Box::new(died.clone()),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let timeout = left.min(REQUEST);
            if let HttpProbe::Running {
                health: HealthStatus::Healthy,
                ..
            } = self.probe(Some(owned.identity()), timeout)?
            {
                return Ok(HttpEnsured {
                    handle: owned.handle(self.base_url()),
                    owned: Some(owned),
                });
            }
        }
        let died = owned
            .stop(Duration::ZERO)
            .map_err(|source| self.io(source))?;
        Err(HttpDaemonError::NotInTime {
            name: self.name(),
            died: died.map(Box::new),
        })
    }

    /// Ends a daemon that was started here: by its endpoint if it has one, is what
    /// listens there and accepts; else with SIGTERM; and with SIGKILL when the time of
    /// `config` is over.
    ///
    /// The endpoint gets a POST with `config` and `reason` as JSON.
    ///
    /// # Errors
    /// If `config` means another process, or the system refuses.
    pub fn shutdown(
        &self,
        mut owned: OwnedDaemon,
        config: &ShutdownConfig,
        reason: &str,
    ) -> Result<(Ended, Option<Died>), HttpDaemonError> {
        owned.check(config)?;
        let deadline = Instant::now().checked_add(config.graceful_timeout());
        let left = || {
            deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            })
        };
        let failed = |source| self.io(source);
        let asked = self.ask_to_end(&owned, config, reason, left().min(REQUEST))?;
        if asked {
            let died = owned.exited_within(left()).map_err(failed)?.cloned();
            if died.is_some() {
                return Ok((Ended::Itself, died));
            }
        }
        let (how, died) = owned.end(left()).map_err(failed)?;
        Ok((how, died))
    }

    /// Whether its endpoint took the request.
    fn ask_to_end(
        &self,
        owned: &OwnedDaemon,
        config: &ShutdownConfig,
        reason: &str,
        timeout: Duration,
    ) -> Result<bool, HttpDaemonError> {
        let Some(url) = &self.shutdown else {
            return Ok(false);
        };
        let host = self.address.ip().to_string();
        let owner = tcp_owner(&host, self.address.port()).map_err(|source| self.io(source))?;
        let Some(owner) = owner else {
            return Ok(false);
        };
        let processes = holders::of_socket(owner.inode).map_err(|source| self.io(source))?;
        if !processes.contains(owned.identity()) {
            return Ok(false);
        }
        let Ok(body) = serde_json::to_string(&ShutdownRequest { config, reason }) else {
            return Ok(false);
        };
        let answer = request(timeout)
            .post(url)
            .header("content-type", "application/json")
            .send(body);
        Ok(answer.is_ok_and(|answer| answer.status().is_success()))
    }
}

/// The port of a URL, and the URL with an address in place of a name.
fn local(url: &str) -> Result<(SocketAddr, String), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    if uri.scheme_str() != Some("http") {
        return Err("only `http` is used on the loopback interface");
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it has a user name");
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let ip: IpAddr = loopback(host).ok_or("its host is not this machine alone")?;
    let port = authority.port_u16().unwrap_or(80);
    if port == 0 {
        return Err("it has no port");
    }
    let address = SocketAddr::new(ip, port);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((address, format!("http://{address}{path}")))
}

/// A client for one request.
fn request(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout.max(Duration::from_millis(1))))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(health: &str, shutdown: Option<&str>) -> Result<HttpDaemon, HttpDaemonError> {
        let mut config = HttpDaemonConfig::new("web", health);
        config.shutdown_endpoint = shutdown.map(str::to_owned);
        HttpDaemon::new(config)
    }

    #[test]
    fn only_this_machine_is_spoken_to() {
        for url in [
            "https://127.0.0.1:1/",
            "http://192.0.2.1:1/",
            "http://example.org/",
            "http://user@127.0.0.1:1/",
            "http://127.0.0.1:0/",
            "/health",
            "127.0.0.1:1",
            "",
        ] {
            let error = daemon(url, None).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{url}` cannot be used")),
                "{error}"
            );
        }
        let error = daemon("http://127.0.0.1:1/", Some("http://127.0.0.1:2/")).unwrap_err();
        assert!(error.to_string().contains("another server"), "{error}");
    }

    #[test]
    fn names_become_addresses() {
        let web = daemon("http://localhost:81/health?deep=1", Some("/end")).unwrap();
        assert_eq!(web.health, "http://127.0.0.1:81/health?deep=1");
        assert_eq!(web.shutdown.as_deref(), Some("http://127.0.0.1:81/end"));
        let web = daemon("http://[::1]:81", Some("http://[::1]:81/end")).unwrap();
        assert_eq!(web.health, "http://[::1]:81/");
        assert_eq!(web.shutdown.as_deref(), Some("http://[::1]:81/end"));
    }
}
