//! A home, trees to ingest, the program as a user runs it, and states of trees to compare.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]
#![allow(
    dead_code,
    reason = "each test file uses another part of the same helpers"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// A user that no machine gives to anybody; root is refused links into the store.
pub(crate) const USER: u32 = 61_003;

pub(crate) struct Site {
    pub(crate) dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let site = Site { dir };
        site.give(site.dir.path());
        site
    }

    /// Makes everything beneath a path the user's.
    pub(crate) fn give(&self, path: &Path) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vrift"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("VRIFT_SOCKET", self.path("daemon.sock"))
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that has to succeed, and returns its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--message-format", "json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn tree(&self, name: &str, files: usize) -> PathBuf {
        let root = self.path(name);
        for n in 0..files {
            let dir = root.join(format!("dir {}", n % 7));
            fs::create_dir_all(&dir).unwrap();
            let path = dir.join(format!("{n}"));
            fs::write(&path, format!("content of {n}\n").repeat(n % 50 + 1)).unwrap();
            let mode = if n % 9 == 0 { 0o750 } else { 0o640 };
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        symlink("dir 0/0", root.join("link")).unwrap();
        self.give(&root);
        root
    }
}

pub(crate) type State = BTreeMap<PathBuf, (u32, i64, i64, String)>;

/// Modes, times, contents and links of everything but `.vrift`; with `follow`, contents only, whatever the paths are.
pub(crate) fn state(root: &Path, follow: bool) -> State {
    let mut state = State::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() != ".vrift" {
                    left.push(entry.path());
                }
            }
        } else if metadata.is_file() || follow {
            content = fs::read(&path).unwrap();
        } else {
            content = fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes();
        }
        let content = vx_digest::Digest::of(&content).hex()[..8].to_owned();
        let seen = if follow {
            (0, 0, 0, content)
        } else {
            (
                metadata.mode(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                content,
            )
        };
        state.insert(path.strip_prefix(root).unwrap().to_owned(), seen);
    }
    state
}
