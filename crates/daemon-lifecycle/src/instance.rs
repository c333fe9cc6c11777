//! One daemon of one user: its name, where it answers, and the folder in which
//! its locks lie.
//!
//! What is in the folder: `start.lock`, held by a client while it starts the
//! daemon; `life.lock`, held by the daemon for life, so that there is no daemon if
//! nobody holds it; `last-stop.json`, who ended the last one and why; `token`, if
//! the protocol uses one. Lock files are never removed, since two processes could
//! hold the locks of two files of one name.

use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daemon_contract::Endpoint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::socket_path::{self, SocketPathError};

/// Tells a daemon for which instance it was started.
pub(crate) const INSTANCE_VARIABLE: &str = "DAEMON_INSTANCE";

/// A daemon that is to run once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    name: String,
    endpoint: Endpoint,
    folder: PathBuf,
}

impl Instance {
    /// The daemon `name` at `endpoint`, with its locks in `folder`, which belongs to
    /// this instance alone. Nothing is made yet.
    ///
    /// # Errors
    /// If the folder is not absolute, or a socket's path is too long for the system.
    pub fn new(
        name: impl Into<String>,
        endpoint: Endpoint,
        folder: impl Into<PathBuf>,
    ) -> Result<Instance, SocketPathError> {
        let folder = folder.into();
        if !folder.is_absolute() {
            return Err(SocketPathError::NoFolder { path: folder });
        }
        if let Endpoint::Unix(path) = &endpoint {
            socket_path::check(path)?;
        }
        Ok(Instance {
            name: name.into(),
            endpoint,
            folder,
        })
    }

    /// The daemon `name` with a Unix socket in the folder for such things of this
    /// user: `$XDG_RUNTIME_DIR`, else `/run/user/UID`, else `$TMPDIR/NAME-UID` or
    /// `/tmp/NAME-UID`. `key` tells instances apart, e.g. the path of a workspace,
    /// and may be of any length; it is hashed, so that the path stays short.
    ///
    /// # Errors
    /// If the path of the socket is too long nevertheless, or the name no file name.
    pub fn of_user(name: &str, key: &[u8]) -> Result<Instance, SocketPathError> {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(SocketPathError::NoFolder { path: name.into() });
        }
        let folder = runtime_folder(name).join(&hex(&Sha256::digest(key))[..16]);
        Instance::new(name, Endpoint::Unix(folder.join("sock")), folder)
    }

    /// The instance that this process was started for with
    /// [`Ensure`](crate::Ensure), as the starter sees it; `None` if it was started
    /// otherwise. So a daemon need not find out its own places, perhaps from other
    /// variables than its clients have.
    pub fn inherited() -> Option<Instance> {
        let text = env::var(INSTANCE_VARIABLE).ok()?;
        let told: Instance = serde_json::from_str(&text).ok()?;
        Instance::new(told.name, told.endpoint, told.folder).ok()
    }

    /// What [`Instance::inherited`] reads; `None` if a path is not Unicode, which
    /// cannot be told this way.
    pub(crate) fn to_variable(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The folder of its locks.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock that a client holds while it starts the daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.folder.join("start.lock")
    }

    /// The lock that the daemon holds for life.
    pub fn life_lock(&self) -> PathBuf {
        self.folder.join("life.lock")
    }

    /// The record of who ended the last daemon.
    pub(crate) fn last_stop_path(&self) -> PathBuf {
        self.folder.join("last-stop.json")
    }

    /// Looks, without making anything, whether folder and socket are this user's if
    /// they are there.
    pub(crate) fn check_places(&self) -> Result<(), SocketPathError> {
        socket_path::check_folder(&self.folder, 0o022)?;
        if let Endpoint::Unix(path) = &self.endpoint {
            socket_path::check_socket(path)?;
        }
        Ok(())
    }
}

/// Where this user's sockets of the program `name` lie.
fn runtime_folder(name: &str) -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let own = |path: &Path| {
        path.is_absolute() && fs::metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == uid)
    };
    if let Some(folder) = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && own(&folder)
    {
        return folder.join(name);
    }
    let folder = PathBuf::from(format!("/run/user/{uid}"));
    if own(&folder) {
        return folder.join(name);
    }
    env::var_os("TMPDIR")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/tmp"))
        .join(format!("{name}-{uid}"))
}

/// Lower case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_cannot_work_is_refused_when_it_is_configured() {
        let long = format!("/{}/sock", "x".repeat(120));
        let error = Instance::new("a", Endpoint::Unix(long.into()), "/run/a").unwrap_err();
        assert!(matches!(error, SocketPathError::TooLong { .. }), "{error}");
        let endpoint: Endpoint = "127.0.0.1:0".parse().unwrap();
        assert!(Instance::new("a", endpoint, "relative").is_err());
    }

    #[test]
    fn instances_of_a_user_differ_by_key_and_have_short_paths() {
        let key = "/a/very/long/path".repeat(50);
        let one = Instance::of_user("indexer", key.as_bytes()).unwrap();
        let other = Instance::of_user("indexer", b"/other").unwrap();
        assert_ne!(one, other);
        assert_eq!(one, Instance::of_user("indexer", key.as_bytes()).unwrap());
        for name in ["", "..", "a/b"] {
            assert!(Instance::of_user(name, b"").is_err(), "{name}");
        }
    }
}
