//! Commands of a test: run in the environment of the test and nothing else, by
//! the helper, with a time limit.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::assert::Assert;

use crate::env::Inner;
use crate::lifeline::wire::Launch;
use crate::programs::ProgramError;
use crate::run::Run;
use crate::running::Running;

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is nothing to run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// There is no directory to run it in.
    #[error("there is no directory `{}` to run `{line}` in", dir.display())]
    Directory {
        /// The command line.
        line: String,
        /// The directory.
        dir: PathBuf,
    },
    /// It could not be started.
    #[error("failed to start `{line}`")]
    Start {
        /// The command line.
        line: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its output or exit status could not be read.
    #[error("failed to follow `{line}`")]
    Follow {
        /// The command line.
        line: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ran longer than it may, and was killed with its process group.
    #[error("`{}` did not end within {:.1} s; until then:\n{run}", run.line, limit.as_secs_f32())]
    TimedOut {
        /// The time it had.
        limit: Duration,
        /// What it said until then.
        run: Box<Run>,
    },
}

/// A command to run; made by [`TestEnv::command`](crate::TestEnv::command).
///
/// It finds these variables, those that the builder declared, and no others:
///
/// | variable | value |
/// |---|---|
/// | `HOME` | private |
/// | `TMPDIR`, `XDG_RUNTIME_DIR` | private |
/// | `PATH` | the directories of the real `cargo` and `rustc`, then the system's |
/// | `CARGO_HOME`, `RUSTUP_HOME`, `RUSTUP_TOOLCHAIN` | the caller's: crates and toolchains are shared, so that no test downloads them anew; treat them as read-only |
/// | `LC_ALL`, `TZ`, `COLUMNS` | `C`, `UTC`, `80` |
/// | `NO_COLOR`, `TERM` | `1`, `dumb` |
/// | `LLVM_PROFILE_FILE` | the caller's, so that coverage can be measured |
/// | `VX_TESTKIT_ENV_ID` | marks what the test started |
///
/// It owns what it needs, so it can be moved to another thread, for example by
/// `tokio::task::spawn_blocking` in an asynchronous test.
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until it is run"]
pub struct Command {
    pub(crate) inner: Arc<Inner>,
    program: String,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Option<OsString>>,
    cwd: PathBuf,
    pub(crate) stdin: Vec<u8>,
    pub(crate) limit: Duration,
}

impl Command {
    pub(crate) fn new(inner: Arc<Inner>, program: &str) -> Command {
        Command {
            program: program.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: inner.dirs.work(),
            stdin: Vec::new(),
            limit: inner.limit,
            inner,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Command {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Command {
        let value = Some(value.as_ref().to_owned());
        self.env.insert(name.as_ref().to_owned(), value);
        self
    }

    /// Takes an environment variable of the test environment away.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Command {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Runs it elsewhere; a relative path is below the work directory, which is
    /// where commands run by default.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Command {
        self.cwd = self.inner.dirs.work().join(dir);
        self
    }

    /// What it reads on its standard input; nothing by default.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = bytes.into();
        self
    }

    /// How long it may run.
    pub fn timeout(mut self, limit: Duration) -> Command {
        self.limit = limit;
        self
    }

    /// Runs it to its end, whatever its exit status.
    ///
    /// # Panics
    /// If it cannot be run or takes too long, see [`try_run`](Self::try_run).
    #[track_caller]
    #[must_use = "its exit status says whether it succeeded"]
    pub fn run(&self) -> Run {
        match self.try_run() {
            Ok(run) => run,
            Err(error) => panic!("{}", crate::env::chain(&error)),
        }
    }

    /// Runs it and starts assertions in the style of `assert_cmd`.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    #[must_use = "assertions follow"]
    pub fn assert(&self) -> Assert {
        self.run().assert()
    }

    /// Runs it and returns [`Run::snapshot`].
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[track_caller]
    #[must_use = "compare it, for example with `insta::assert_snapshot!`"]
    pub fn snapshot(&self) -> String {
        self.run().snapshot()
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// If there is no such program, if it cannot be started or followed, or if
    /// it takes longer than its limit.
    pub fn try_run(&self) -> Result<Run, CommandError> {
        self.try_spawn()?.try_wait()
    }

    /// Starts it and returns while it runs.
    ///
    /// # Panics
    /// If it cannot be started, see [`try_spawn`](Self::try_spawn).
    #[track_caller]
    #[must_use = "it is killed when the returned value is dropped"]
    pub fn spawn(&self) -> Running {
        match self.try_spawn() {
            Ok(running) => running,
            Err(error) => panic!("{}", crate::env::chain(&error)),
        }
    }

    /// Starts it and returns while it runs.
    ///
    /// # Errors
    /// If there is no such program, or it cannot be started.
    pub fn try_spawn(&self) -> Result<Running, CommandError> {
        let line = self.line();
        let launch = self.launch()?;
        Running::start(self, launch).map_err(|source| CommandError::Start { line, source })
    }

    pub(crate) fn launch(&self) -> Result<Launch, CommandError> {
        let mut env = self.inner.variables();
        for (name, value) in &self.env {
            match value {
                Some(value) => env.insert(name.clone(), value.clone()),
                None => env.remove(name),
            };
        }
        if !self.cwd.is_dir() {
            return Err(CommandError::Directory {
                line: self.line(),
                dir: self.cwd.clone(),
            });
        }
        Ok(Launch {
            program: self.inner.program(&self.program)?,
            args: self.args.clone(),
            env: env.into_iter().collect(),
            cwd: self.cwd.clone(),
            listeners: 0,
            tcp_ports: self.inner.tcp_ports(),
        })
    }

    pub(crate) fn line(&self) -> String {
        self.args.iter().fold(self.program.clone(), |line, arg| {
            line + " " + &arg.to_string_lossy()
        })
    }
}
