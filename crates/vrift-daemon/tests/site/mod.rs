//! A daemon of the test's own, and connections to it that say exactly what they are told to say.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]
#![allow(
    dead_code,
    reason = "each test file uses another part of the same helpers"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Guards against hanging only.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Users without a name, which no machine gives to anybody.
pub(crate) const VRIFT: u32 = 61_000;
pub(crate) const ALICE: u32 = 61_001;
pub(crate) const BOB: u32 = 61_002;

pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    args: Vec<String>,
    user: Option<u32>,
}

impl Site {
    /// A daemon of the user who runs the tests.
    pub(crate) fn start(args: &[&str]) -> Site {
        Site::start_as(None, args)
    }

    /// A daemon of another user; only root can do that.
    pub(crate) fn start_as(user: Option<u32>, args: &[&str]) -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["state", "run"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(uid) = user {
                std::os::unix::fs::chown(&path, Some(uid), Some(uid)).unwrap();
            }
        }
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = spawn(dir.path(), user, &args);
        let mut site = Site {
            dir,
            child,
            args,
            user,
        };
        site.wait();
        site
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the daemon has ended: {}",
                self.log()
            );
            assert!(start.elapsed() < DEADLINE, "nobody listens: {}", self.log());
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.dir.path(), self.user, &self.args);
        self.wait();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/daemon.sock")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("state/home")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn client(&self) -> vrift_daemon::Client {
        vrift_daemon::Client::connect(&self.socket()).unwrap()
    }

    pub(crate) fn raw(&self) -> Raw {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Raw(BufReader::new(stream))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(dir: &Path, user: Option<u32>, args: &[String]) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrift-daemon"));
    command
        .arg("--home")
        .arg(dir.join("state/home"))
        .arg("--socket")
        .arg(dir.join("run/daemon.sock"))
        .args(args)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if let Some(uid) = user {
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap()
}

/// A connection that says what it is told, right or wrong.
pub(crate) struct Raw(BufReader<UnixStream>);

impl Raw {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
        }
    }
}

/// Whether the tests run as root, so that they can be other users.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
