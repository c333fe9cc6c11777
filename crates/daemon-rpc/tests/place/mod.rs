//! A place of its own for a program with a daemon: folders, variables, and an end
//! to every daemon that was started there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{ClientConfig, Daemon};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// Far more than anything here takes; only a failure gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    folder: tempfile::TempDir,
    name: String,
    variables: Vec<(String, String)>,
}

impl Place {
    /// For the example of this name.
    pub(crate) fn new(name: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        for below in ["run", "work"] {
            fs::create_dir(folder.path().join(below)).unwrap();
        }
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(folder.path().join("run"), private).unwrap();
        Place {
            folder,
            name: name.to_owned(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.variables.push((variable.to_owned(), value.to_owned()));
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join("work").join(name), content).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run").join(&self.name).join("sock")
    }

    /// The example's executable: cargo builds examples beside the tests.
    fn program(&self) -> PathBuf {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        let program = profile.join("examples").join(&self.name);
        assert!(program.exists(), "{} is not built", program.display());
        program
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.program(), arguments)
    }

    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path().join("work"))
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end: exit code, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // Who does not read its input may be gone already.
        let _unread = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        outcome(&child.wait_with_output().unwrap())
    }

    /// The same program with another build id.
    pub(crate) fn other_build(&self) -> PathBuf {
        let mut bytes = fs::read(self.program()).unwrap();
        let note = b"GNU\0";
        let header = [4_u32, 20, 3].map(u32::to_ne_bytes).concat();
        let wanted = [&header[..], note].concat();
        let at = bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
            .expect("no build id");
        bytes[at + wanted.len()] ^= 1;
        let other = self.folder.path().join("other");
        fs::write(&other, bytes).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
        other
    }

    /// Whether the daemon says that it is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        let endpoint = Endpoint::Unix(self.socket());
        let daemon = Daemon::new(endpoint, "0.1.0", ClientConfig::new(&self.name, 1));
        daemon
            .status()
            .unwrap()
            .is_some_and(|status| status.is_draining)
    }

    /// The processes that were started with this place's folders and listen: their
    /// ids and programs.
    pub(crate) fn daemons(&self) -> Vec<(u32, PathBuf)> {
        let mark = format!(
            "XDG_RUNTIME_DIR={}\0",
            self.folder.path().join("run").display()
        );
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            // Gone in between, or somebody else's.
            let Ok(variables) = fs::read(entry.path().join("environ")) else {
                continue;
            };
            let variables = String::from_utf8_lossy(&variables);
            if variables.contains(&mark) && variables.contains("LISTEN_FDS=1") {
                let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
                found.push((pid, program));
            }
        }
        found
    }

    pub(crate) fn wait_until_gone(&self) {
        self.wait_until(|| self.daemons().is_empty());
    }

    /// Waits for something that only looking tells.
    pub(crate) fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < PATIENCE, "waited in vain");
            std::thread::yield_now();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (pid, _) in self.daemons() {
            let pid = Pid::from_raw(pid.cast_signed()).unwrap();
            // By its handle, looked at again: nobody else's process is hit.
            if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
                && self
                    .daemons()
                    .iter()
                    .any(|(still, _)| Pid::from_raw(still.cast_signed()) == Some(pid))
            {
                let _gone = pidfd_send_signal(handle, Signal::KILL);
            }
        }
    }
}

/// Exit code (-1: a signal), standard output, standard error.
pub(crate) fn outcome(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Signals a process that this test started, or whose daemon it found.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}
