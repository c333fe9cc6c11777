//! A place of its own for each test: `vx` with a private home, endpoints and
//! environment.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that has no place cannot go on")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Where a test runs `vx`.
pub(crate) struct Place {
    directory: TempDir,
    program: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Place {
    /// A place where nothing runs.
    pub(crate) fn new() -> Place {
        // Beside the program, so that it can be linked there.
        let directory = tempfile::Builder::new()
            .prefix("p")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        // `vx` looks for other programs where it is itself.
        let program = directory.path().join("vx");
        std::fs::hard_link(env!("CARGO_BIN_EXE_vx"), &program).unwrap();
        let mut variables = BTreeMap::new();
        let base = directory.path().display().to_string();
        for (name, file) in [("VX_DAEMON", "d"), ("VX_CAS", "c"), ("VX_EXEC", "e")] {
            variables.insert(name.to_owned(), format!("unix://{base}/{file}"));
        }
        variables.insert("VX_HOME".to_owned(), format!("{base}/home"));
        variables.insert("HOME".to_owned(), base);
        variables.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        Place {
            directory,
            program,
            variables,
        }
    }

    /// The directory of the test.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `VX_HOME`, which is not made.
    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// The daemon's socket.
    pub(crate) fn daemon(&self) -> PathBuf {
        self.path().join("d")
    }

    /// Sets a variable of the environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Makes `program` the daemon of this place.
    pub(crate) fn install_daemon(&self, program: &str) {
        std::os::unix::fs::symlink(program, self.path().join("vx-daemon")).unwrap();
    }

    /// There is no daemon in this place, as it is from the start.
    pub(crate) fn install_nothing(&self) {
        assert!(!self.path().join("vx-daemon").exists());
    }

    /// A command in this place.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .envs(&self.variables)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command prints that must succeed.
    pub(crate) fn text(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{output:?}");
        self.redact(&output.stdout)
    }

    /// All that a command shows: both streams and the exit code.
    pub(crate) fn outcome(&self, args: &[&str]) -> String {
        self.shown(&self.output(args))
    }

    /// The same of a command that has ended.
    pub(crate) fn shown(&self, output: &Output) -> String {
        let code = match output.status.code() {
            Some(code) => format!("exit code {code}"),
            None => output.status.to_string(),
        };
        format!(
            "{}{}{code}\n",
            self.redact(&output.stdout),
            self.redact(&output.stderr)
        )
    }

    fn redact(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes)
            .replace(&self.path().display().to_string(), "[place]")
            .replace(env!("CARGO_PKG_VERSION"), "[version]")
    }
}
