//! Daemons that are asked over HTTP, and how a daemon is ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds that a daemon gets when nothing else is said.
const GRACEFUL_TIMEOUT_SECS: u64 = 5;

/// A daemon that tells over HTTP how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HttpDaemonConfig {
    /// Its name.
    pub daemon_name: String,
    /// A GET of this answers with a status of 200 to 299 when it is well.
    pub health_url: String,
    /// A POST to this asks it to end: a URL, or a path on the server of
    /// `health_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_endpoint: Option<String>,
    /// The job on whose behalf it is used, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl HttpDaemonConfig {
    /// The daemon `daemon_name`, whose health is at `health_url`.
    pub fn new(daemon_name: impl Into<String>, health_url: impl Into<String>) -> HttpDaemonConfig {
        HttpDaemonConfig {
            daemon_name: daemon_name.into(),
            health_url: health_url.into(),
            shutdown_endpoint: None,
            job_id: None,
        }
    }
}

/// Which daemon to end, and how long it may take by itself.
///
/// The number of a process is not enough to end it: whoever acts on this holds
/// the process by other means and compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// Its name.
    pub daemon_name: String,
    /// Its process id.
    pub pid: u32,
    /// How long it may take after it was asked, in seconds; then it is ended.
    #[serde(default = "graceful_timeout_secs")]
    pub graceful_timeout_secs: u64,
    /// The job on whose behalf it is ended, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

fn graceful_timeout_secs() -> u64 {
    GRACEFUL_TIMEOUT_SECS
}

impl ShutdownConfig {
    /// Ends the daemon `daemon_name`, which is the process `pid`, giving it five
    /// seconds.
    pub fn new(daemon_name: impl Into<String>, pid: u32) -> ShutdownConfig {
        ShutdownConfig {
            daemon_name: daemon_name.into(),
            pid,
            graceful_timeout_secs: GRACEFUL_TIMEOUT_SECS,
            job_id: None,
        }
    }

    /// How long it may take after it was asked.
    pub fn graceful_timeout(&self) -> Duration {
        Duration::from_secs(self.graceful_timeout_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_json() {
        let mut config = HttpDaemonConfig::new("indexer", "http://127.0.0.1:8123/health");
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"daemon_name":"indexer","health_url":"http://127.0.0.1:8123/health"}"#
        );
        config.shutdown_endpoint = Some("/shutdown".into());
        config.job_id = Some("job-7".into());
        let json = r#"{"daemon_name":"indexer","health_url":"http://127.0.0.1:8123/health","shutdown_endpoint":"/shutdown","job_id":"job-7"}"#;
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<HttpDaemonConfig>(json).unwrap(),
            config
        );

        let mut config = ShutdownConfig::new("indexer", 4242);
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"daemon_name":"indexer","pid":4242,"graceful_timeout_secs":5}"#
        );
        config.job_id = Some("job-7".into());
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"daemon_name":"indexer","pid":4242,"graceful_timeout_secs":5,"job_id":"job-7"}"#
        );
    }

    #[test]
    fn an_absent_timeout_is_five_seconds() {
        let json = r#"{"daemon_name":"indexer","pid":4242,"force":false}"#;
        let config: ShutdownConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config, ShutdownConfig::new("indexer", 4242));
        assert_eq!(config.graceful_timeout(), Duration::from_secs(5));
    }

    #[test]
    fn an_old_reader_takes_new_data() {
        #[derive(Deserialize)]
        struct Old {
            daemon_name: String,
            pid: u32,
        }
        let mut new = ShutdownConfig::new("a", 3);
        new.job_id = Some("job".into());
        let old: Old = serde_json::from_str(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!((old.daemon_name.as_str(), old.pid), ("a", 3));
        let newer = r#"{"daemon_name":"a","health_url":"http://localhost:1/","tls":{"ca":"x"}}"#;
        let read: HttpDaemonConfig = serde_json::from_str(newer).unwrap();
        assert_eq!(read, HttpDaemonConfig::new("a", "http://localhost:1/"));
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        for json in [
            r#"{"daemon_name":"a","pid":-1}"#,
            r#"{"daemon_name":"a","pid":4294967296}"#,
            r#"{"daemon_name":"a","pid":1,"graceful_timeout_secs":-1}"#,
            r#"{"daemon_name":"a","pid":1,"graceful_timeout_secs":1.5}"#,
        ] {
            assert!(serde_json::from_str::<ShutdownConfig>(json).is_err());
        }
        let longest = r#"{"daemon_name":"a","pid":1,"graceful_timeout_secs":18446744073709551615}"#;
        let config: ShutdownConfig = serde_json::from_str(longest).unwrap();
        assert_eq!(config.graceful_timeout(), Duration::from_secs(u64::MAX));
    }
}
