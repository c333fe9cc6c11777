//! What to tell about a child that ended: its status, and the last lines that it
//! wrote to its log since it was started.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{Pid, WaitOptions, waitpid};

/// The most that is read of a log, in bytes.
const TAIL: u64 = 4096;
/// The most that is shown of it, in lines.
const LINES: usize = 20;

/// What is needed to tell about a child later.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) program: PathBuf,
    pub(crate) log: PathBuf,
    /// The size of the log when the child was started.
    pub(crate) log_start: u64,
}

impl Report {
    pub(crate) fn died(&self, pid: Pid, status: ExitStatus) -> Died {
        Died {
            program: self.program.clone(),
            pid: pid.as_raw_nonzero().get().cast_unsigned(),
            status,
            // A log that cannot be read must not hide the status.
            log_tail: self.tail().unwrap_or_default(),
            log: self.log.clone(),
        }
    }

    fn tail(&self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        let end = file.metadata()?.len();
        let start = self.log_start.max(end.saturating_sub(TAIL));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}

/// A child that ended.
#[derive(Clone, Debug)]
pub struct Died {
    /// The program.
    pub program: PathBuf,
    /// The process id that it had.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines it wrote, at most 20.
    pub log_tail: String,
    /// Where all of them are.
    pub log: PathBuf,
}

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` (process {}) ended with {}, log: `{}`",
            self.program.display(),
            self.pid,
            self.status,
            self.log.display()
        )?;
        for line in self.log_tail.lines() {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Died {}

/// Reaps our own child if it ended.
pub(crate) fn reap(pid: Pid) -> io::Result<Option<ExitStatus>> {
    let reaped = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::NOHANG))?;
    Ok(reaped.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
}
