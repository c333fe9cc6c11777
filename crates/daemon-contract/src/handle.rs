//! What one knows of a daemon that one uses, to be passed around and written down.
//!
//! A handle never gives the right to end a process: it can be copied, stored and
//! read back long after the process is gone. That right is
//! `daemon_lifecycle::OwnedDaemon`, which holds the kernel's handle and cannot be
//! written down.

use serde::{Deserialize, Serialize};

use crate::ProcessIdentity;

/// A daemon: its name, where it answers, and which process it is if that is known.
///
/// In JSON: `{"daemon_name", "base_url", "started_by_us", "process"?}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonHandle {
    daemon_name: String,
    base_url: String,
    started_by_us: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessIdentity>,
    /// Whether this value was made in this process and not read from somewhere.
    #[serde(skip)]
    first_hand: bool,
}

impl DaemonHandle {
    /// A daemon that ran already, whoever started it.
    pub fn already_running(name: impl Into<String>, url: impl Into<String>) -> DaemonHandle {
        DaemonHandle {
            daemon_name: name.into(),
            base_url: url.into(),
            started_by_us: false,
            process: None,
            first_hand: true,
        }
    }

    /// A daemon that this process started: `process` carries its pid, start time
    /// and boot, as `daemon_lifecycle::IdentifiedProcess` reads them.
    pub fn started_by_us(
        name: impl Into<String>,
        url: impl Into<String>,
        process: ProcessIdentity,
    ) -> DaemonHandle {
        DaemonHandle {
            daemon_name: name.into(),
            base_url: url.into(),
            started_by_us: true,
            process: Some(process),
            first_hand: true,
        }
    }

    /// The same daemon at another URL, for one that tells its address only once it
    /// runs, e.g. since the system chose its port.
    #[must_use]
    pub fn with_discovered_url(mut self, url: impl Into<String>) -> DaemonHandle {
        self.base_url = url.into();
        self
    }

    /// Whether whoever holds this value has the duty to end the daemon: this
    /// process started it. Always false for a handle that was read from JSON,
    /// since nobody knows what happened to the process meanwhile.
    pub fn should_cleanup(&self) -> bool {
        self.started_by_us && self.first_hand
    }

    /// Whether the process that made the handle started the daemon. A fact for
    /// people; see [`DaemonHandle::should_cleanup`] for what follows from it.
    pub fn was_started_by_its_maker(&self) -> bool {
        self.started_by_us
    }

    /// Where it answers.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Its name.
    pub fn daemon_name(&self) -> &str {
        &self.daemon_name
    }

    /// Its process id, if known. Enough to name it in a message, not to signal it.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Which process it is, if known.
    pub fn process(&self) -> Option<&ProcessIdentity> {
        self.process.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> ProcessIdentity {
        ProcessIdentity {
            pid: 4242,
            start_ticks: 1_234_567,
            boot_id: "0c2f8a1e".into(),
            pid_namespace: Some(4_026_531_836),
        }
    }

    #[test]
    fn golden_json() {
        let ours = DaemonHandle::started_by_us("indexer", "http://127.0.0.1:0", process())
            .with_discovered_url("http://127.0.0.1:8123");
        assert_eq!(
            serde_json::to_string(&ours).unwrap(),
            r#"{"daemon_name":"indexer","base_url":"http://127.0.0.1:8123","started_by_us":true,"process":{"pid":4242,"start_ticks":1234567,"boot_id":"0c2f8a1e","pid_namespace":4026531836}}"#
        );
        let other = DaemonHandle::already_running("indexer", "unix:///run/indexer");
        assert_eq!(
            serde_json::to_string(&other).unwrap(),
            r#"{"daemon_name":"indexer","base_url":"unix:///run/indexer","started_by_us":false}"#
        );
    }

    #[test]
    fn what_is_read_back_can_be_queried_and_never_cleaned_up() {
        let ours = DaemonHandle::started_by_us("indexer", "http://127.0.0.1:8123", process());
        assert!(ours.should_cleanup());
        assert!(ours.clone().with_discovered_url("x").should_cleanup());
        let json = serde_json::to_string(&ours).unwrap();
        let read: DaemonHandle = serde_json::from_str(&json).unwrap();
        assert!(!read.should_cleanup());
        assert!(read.was_started_by_its_maker());
        assert_eq!(read.daemon_name(), "indexer");
        assert_eq!(read.base_url(), "http://127.0.0.1:8123");
        assert_eq!(read.pid(), Some(4242));
        assert_eq!(read.process(), Some(&process()));
        assert!(!DaemonHandle::already_running("a", "b").should_cleanup());
    }

    #[test]
    fn nobody_can_write_the_right_into_the_json() {
        let forged = r#"{"daemon_name":"a","base_url":"b","started_by_us":true,"first_hand":true,
            "process":{"pid":1,"start_ticks":1,"boot_id":"b"}}"#;
        let read: DaemonHandle = serde_json::from_str(forged).unwrap();
        assert!(!read.should_cleanup());
    }

    #[test]
    fn old_and_new_read_each_other() {
        #[derive(Deserialize)]
        struct Old {
            daemon_name: String,
            base_url: String,
            started_by_us: bool,
        }
        let new = DaemonHandle::started_by_us("a", "b", process());
        let old: Old = serde_json::from_str(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!(
            (
                old.daemon_name.as_str(),
                old.base_url.as_str(),
                old.started_by_us
            ),
            ("a", "b", true)
        );
        let newer = r#"{"daemon_name":"a","base_url":"b","started_by_us":false,"colour":{"r":1}}"#;
        let read: DaemonHandle = serde_json::from_str(newer).unwrap();
        assert_eq!(read.pid(), None);
    }
}
