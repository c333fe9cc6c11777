//! The helper's part of faults: it follows the logs and signals services.
//!
//! It strikes only what it has started and not collected, so a process id is
//! never somebody else's.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::process::{Signal, pidfd_send_signal};

use super::logs::{Armed, Logs};
use super::supervisor::Helper;
use super::wire::Reply;
use crate::proc;

impl Helper {
    /// Follows the logs from the first call on.
    pub(super) fn logs(&mut self) -> io::Result<&mut Logs> {
        match self.logs.take() {
            Some(logs) => Ok(self.logs.insert(logs)),
            None => {
                let context = self.context.as_ref();
                let context = context.ok_or_else(|| io::Error::other("no test"))?;
                let logs = Logs::follow(&context.root.join("logs"), self.opened)?;
                Ok(self.logs.insert(logs))
            }
        }
    }

    /// Takes in what was said, and strikes where that was waited for.
    pub(super) fn follow_logs(&mut self) {
        let struck = self.logs.as_mut().map(Logs::catch_up).unwrap_or_default();
        for fault in struck {
            // Without its service the fault has not fired; the test says so.
            self.strike(&fault.service, fault.signal, fault.told).ok();
        }
    }

    pub(super) fn arm(
        &mut self,
        service: String,
        signal: i32,
        line: Option<(String, String)>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let Some(told) = fds.into_iter().next().map(File::from) else {
            return Err(io::Error::other("descriptors are missing"));
        };
        let done = match line {
            None => self.strike(&service, signal, told),
            Some((log, text)) => {
                // What was said before does not count.
                self.follow_logs();
                self.logs().map(|logs| {
                    logs.armed.push(Armed {
                        service,
                        signal,
                        log,
                        text,
                        told,
                    });
                })
            }
        };
        match done {
            Ok(()) => self.reply(&Reply::Done),
            Err(error) => self.refuse(&error),
        }
    }

    fn strike(&mut self, service: &str, signal: i32, mut told: File) -> io::Result<()> {
        let found = self
            .children
            .iter_mut()
            .find(|child| child.service.as_deref() == Some(service))
            // One that has ended by itself feels nothing any more.
            .filter(|child| proc::process(child.pid).is_some_and(|process| !process.zombie));
        let Some(child) = found else {
            return Err(io::Error::other(format!("no service `{service}` runs")));
        };
        let named = Signal::from_named_raw(signal)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        pidfd_send_signal(&child.pidfd, named)?;
        if signal == libc::SIGKILL {
            // Its exit status will tell.
            child.kill_told.push(told);
        } else {
            told.write_all(&[1])?;
        }
        let what = match signal {
            libc::SIGKILL => "killed",
            libc::SIGSTOP => "frozen",
            _ => "thawed",
        };
        if let Some(logs) = &mut self.logs {
            logs.note(service, &format!("fault: {what}"));
        }
        Ok(())
    }
}
