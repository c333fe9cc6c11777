//! What a test left behind, told so that the culprit is found at once.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// A process that was still running when its test had ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakedProcess {
    /// Process id at the time of the report.
    pub pid: u32,
    /// Parent process id at the time of the report.
    pub parent: u32,
    /// The command line, arguments joined by spaces.
    pub command: String,
    /// Sockets on which it listened, as `127.0.0.1:9001` or a path.
    pub listeners: Vec<String>,
}

impl fmt::Display for LeakedProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} `{}`", self.pid, self.command)?;
        if !self.listeners.is_empty() {
            write!(f, " listening on {}", self.listeners.join(", "))?;
        }
        Ok(())
    }
}

/// How the end of a test environment went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the test.
    pub test: String,
    /// How far what it started was shut off.
    pub tier: Tier,
    /// Processes that had to be killed although nothing was to be left.
    pub processes: Vec<LeakedProcess>,
    /// Files made or changed outside the environment's directories.
    pub files: Vec<PathBuf>,
    /// Teardown commands that failed or ran out of time, one line each.
    pub teardown: Vec<String>,
    /// Faults that were injected and have not fired.
    pub faults: Vec<String>,
    /// Where the evidence of a failed test is.
    pub bundle: Option<PathBuf>,
}

impl Report {
    /// Whether nothing was left behind, all teardown commands succeeded and all
    /// faults fired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left_nothing() && self.faults.is_empty()
    }

    fn left_nothing(&self) -> bool {
        self.processes.is_empty() && self.files.is_empty() && self.teardown.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "test `{}`", self.test)?;
        if self.left_nothing() {
            write!(f, " left nothing behind")?;
        } else {
            write!(f, " did not leave the machine as it found it:")?;
        }
        for process in &self.processes {
            write!(f, "\n  left running: {process}")?;
        }
        for file in &self.files {
            write!(f, "\n  file outside its directories: `{}`", file.display())?;
        }
        for line in &self.teardown {
            write!(f, "\n  teardown: {line}")?;
        }
        for line in &self.faults {
            write!(f, "\n  fault that has not fired: {line}")?;
        }
        if let Some(bundle) = &self.bundle {
            write!(f, "\nevidence: {}", bundle.display())?;
            write!(
                f,
                "\n[[ATTACHMENT|{}]]",
                bundle.join("report.txt").display()
            )?;
        }
        Ok(())
    }
}
