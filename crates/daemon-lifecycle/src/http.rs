//! Daemons that are asked over HTTP how they are.
//!
//! An answer at a URL proves that somebody answers, not who: a port is anybody's. So
//! the process that listens at the port is looked up in the kernel's tables and
//! compared. Only `http` to the loopback interface is spoken; nothing is redirected,
//! no proxy is used, no name is resolved.

mod error;
mod shutdown;
mod start;
mod url;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use daemon_contract::{
    HealthStatus, HttpDaemonConfig, ProcessIdentity, StatusRequest, StatusResponse,
};

pub use error::HttpDaemonError;
pub use start::HttpEnsured;

use crate::connection::tcp_owner;
use crate::holders;
use crate::probe::Stranger;
use url::{local, request};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

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
