//! Putting a daemon's program in place, and taking it away again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::UnixTime;

/// What to install.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstallConfig {
    /// The name of the program, without folders.
    pub binary_name: String,
    /// The program to copy; absent: the one of that name beside the program that
    /// installs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_path: Option<PathBuf>,
    /// The file to make; absent: one of that name in the user's folder of
    /// programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_path: Option<PathBuf>,
    /// The job on whose behalf it is installed, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl InstallConfig {
    /// Installs `binary_name` from and to the default places.
    pub fn new(binary_name: impl Into<String>) -> InstallConfig {
        InstallConfig {
            binary_name: binary_name.into(),
            binary_path: None,
            target_path: None,
            job_id: None,
        }
    }
}

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstallResult {
    /// The file that was made.
    pub binary_path: PathBuf,
    /// When.
    pub install_time: UnixTime,
}

impl InstallResult {
    /// `binary_path` was installed at `install_time`.
    pub fn new(binary_path: impl Into<PathBuf>, install_time: UnixTime) -> InstallResult {
        InstallResult {
            binary_path: binary_path.into(),
            install_time,
        }
    }
}

/// What to take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UninstallConfig {
    /// The name under which it was installed.
    pub daemon_name: String,
    /// The file that was made.
    pub install_path: PathBuf,
    /// The job on whose behalf it is taken away, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl UninstallConfig {
    /// Takes `install_path` away, which was installed as `daemon_name`.
    pub fn new(
        daemon_name: impl Into<String>,
        install_path: impl Into<PathBuf>,
    ) -> UninstallConfig {
        UninstallConfig {
            daemon_name: daemon_name.into(),
            install_path: install_path.into(),
            job_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_json() {
        let mut config = InstallConfig::new("indexer");
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"binary_name":"indexer"}"#
        );
        config.binary_path = Some("/build/indexer".into());
        config.target_path = Some("/home/u/.local/bin/indexer".into());
        config.job_id = Some("job-7".into());
        let json = r#"{"binary_name":"indexer","binary_path":"/build/indexer","target_path":"/home/u/.local/bin/indexer","job_id":"job-7"}"#;
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        assert_eq!(serde_json::from_str::<InstallConfig>(json).unwrap(), config);

        let time = UnixTime::from_secs(1_700_000_000).unwrap();
        let result = InstallResult::new("/home/u/.local/bin/indexer", time);
        assert_eq!(
            serde_json::to_string(&result).unwrap(),
            r#"{"binary_path":"/home/u/.local/bin/indexer","install_time":1700000000}"#
        );

        let mut config = UninstallConfig::new("indexer", "/home/u/.local/bin/indexer");
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"daemon_name":"indexer","install_path":"/home/u/.local/bin/indexer"}"#
        );
        config.job_id = Some("job-7".into());
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"daemon_name":"indexer","install_path":"/home/u/.local/bin/indexer","job_id":"job-7"}"#
        );
    }

    #[test]
    fn old_and_new_read_each_other() {
        #[derive(Deserialize)]
        struct Old {
            binary_name: String,
        }
        let mut new = InstallConfig::new("a");
        new.job_id = Some("job".into());
        let old: Old = serde_json::from_str(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!(old.binary_name, "a");
        let newer = r#"{"daemon_name":"a","install_path":"/a","keep_logs":true}"#;
        let read: UninstallConfig = serde_json::from_str(newer).unwrap();
        assert_eq!(read, UninstallConfig::new("a", "/a"));
    }

    #[test]
    fn a_time_that_is_none_is_an_error() {
        for time in ["-5", "99999999999999", "\"now\""] {
            let json = format!(r#"{{"binary_path":"/a","install_time":{time}}}"#);
            assert!(serde_json::from_str::<InstallResult>(&json).is_err());
        }
    }
}
