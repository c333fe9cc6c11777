//! What a command did: its two outputs, its exit status, the time it took.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::assert::Assert;

use crate::redact::Redactions;

/// The result of a command that has ended.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) duration: Duration,
    pub(crate) held_open: bool,
    pub(crate) redactions: Arc<Redactions>,
}

impl Run {
    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code, `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The exit status as the system gave it.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        self.status
    }

    /// Its standard output as it is.
    #[must_use]
    pub fn stdout_bytes(&self) -> &[u8] {
        &self.stdout
    }

    /// Its standard error as it is.
    #[must_use]
    pub fn stderr_bytes(&self) -> &[u8] {
        &self.stderr
    }

    /// Its standard output as text.
    #[must_use]
    pub fn stdout(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Its standard error as text.
    #[must_use]
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// From its start to its end.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether something that the command left running still has its standard
    /// output or error; whoever waits for the end of that output hangs.
    #[must_use]
    pub fn left_output_open(&self) -> bool {
        self.held_open
    }

    /// Panics with both outputs unless it succeeded; returns itself.
    ///
    /// # Panics
    /// If the exit code is not 0.
    #[track_caller]
    pub fn expect_success(self) -> Run {
        assert!(self.success(), "{self}");
        self
    }

    /// Assertions in the style of `assert_cmd`.
    #[must_use]
    pub fn assert(&self) -> Assert {
        Assert::new(self.output()).append_context("command", self.line.clone())
    }

    /// The standard library's form.
    #[must_use]
    pub fn output(&self) -> Output {
        Output {
            status: self.status,
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
        }
    }

    /// Exit status, standard output and standard error as one text, with
    /// everything replaced that differs from run to run (see
    /// [`Redactions`]); made for `insta::assert_snapshot!`.
    #[must_use]
    pub fn snapshot(&self) -> String {
        let section = |bytes: &[u8]| {
            let mut text = self.redactions.apply(&String::from_utf8_lossy(bytes));
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str("[no newline]\n");
            }
            text
        };
        format!(
            "{}\n----- stdout -----\n{}----- stderr -----\n{}",
            self.status_line(),
            section(&self.stdout),
            section(&self.stderr)
        )
    }

    fn status_line(&self) -> String {
        match (self.code(), self.signal()) {
            (Some(code), _) => format!("exit code: {code}"),
            (None, Some(signal)) => format!("signal: {signal}"),
            (None, None) => self.status.to_string(),
        }
    }
}

/// The command and everything it said, for messages.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}`\n{}\n----- stdout -----\n{}\n----- stderr -----\n{}",
            self.line,
            self.status_line(),
            self.stdout(),
            self.stderr()
        )
    }
}
