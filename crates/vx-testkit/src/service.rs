//! A service of a test: started by the helper, ready when its conditions hold,
//! reported at once when it dies.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::env::chain;
use crate::ready::Probe;
use crate::service_builder::{ServiceBuilder, ServiceError, Started};
use crate::tail;
use crate::wait::{FIRST_PAUSE, LONGEST_PAUSE};

/// How much of a log stands in a message.
const TAIL_LINES: usize = 20;

/// A service that was started. Dropping it leaves the service running; the end
/// of the environment stops it.
#[derive(Debug)]
pub struct Service {
    builder: ServiceBuilder,
    started: Started,
}

impl Service {
    pub(crate) fn start(builder: ServiceBuilder) -> Result<Service, ServiceError> {
        let started = builder.spawn()?;
        let service = Service { builder, started };
        service.wait_ready()?;
        service.builder.register_teardown()?;
        Ok(service)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.started.process.pid
    }

    /// What it has in `VX_TESTKIT_NONCE`, different for each start.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.started.nonce
    }

    /// What it has said on both outputs since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        log_since(&self.builder.log_path(), self.started.log_start)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.started.process.wait(Some(Instant::now())), Ok(None))
    }

    /// Waits for it to end by itself; `None` if it does not within the limit.
    ///
    /// # Errors
    /// If it cannot be followed.
    pub fn wait(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.started.process.wait(Some(Instant::now() + limit))
    }

    /// Sends it a signal, by number (`libc::SIGSTOP`); one that has ended is
    /// left alone.
    ///
    /// # Errors
    /// If there is no such signal, or it may not be signalled.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.started.process.signal(signal)
    }

    /// Kills it alone with SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// If it had ended by itself before: the fault would not have been one.
    #[track_caller]
    pub fn kill(&mut self) -> ExitStatus {
        use std::os::unix::process::ExitStatusExt;
        let ended = self.signal(libc::SIGKILL).and_then(|()| self.ended());
        match ended {
            Ok(status) => {
                let name = &self.builder.name;
                assert!(
                    status.signal() == Some(libc::SIGKILL),
                    "service `{name}` had ended before it was killed: {status}"
                );
                status
            }
            Err(error) => panic!("failed to kill service `{}`: {error}", self.builder.name),
        }
    }

    /// Asks it to end with SIGTERM; kills it if it has not after the limit.
    ///
    /// # Panics
    /// If it cannot be followed.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> ExitStatus {
        let stopped = (|| {
            self.started.process.signal(Signal::TERM)?;
            match self.wait(limit)? {
                Some(status) => Ok(status),
                None => {
                    self.kill_group()?;
                    self.ended()
                }
            }
        })();
        match stopped {
            Ok(status) => status,
            Err(error) => panic!("failed to stop service `{}`: {error}", self.builder.name),
        }
    }

    /// Starts it again, in the same way and on the same sockets; what still runs
    /// is killed first.
    ///
    /// # Panics
    /// If it does not get ready again.
    #[track_caller]
    pub fn restart(&mut self) {
        if let Err(error) = self.try_restart() {
            panic!("{}", chain(&error));
        }
    }

    /// Starts it again, in the same way and on the same sockets; what still runs
    /// is killed first.
    ///
    /// # Errors
    /// As [`ServiceBuilder::try_start`].
    pub fn try_restart(&mut self) -> Result<(), ServiceError> {
        let failed = |source| ServiceError::Start {
            name: self.builder.name.clone(),
            source,
        };
        if self.is_running() {
            self.kill_group().map_err(failed)?;
            self.ended().map_err(failed)?;
        }
        self.started = self.builder.spawn()?;
        self.wait_ready()
    }

    fn kill_group(&self) -> io::Result<()> {
        self.builder.inner.helper.kill_group(&self.started.process)
    }

    fn ended(&self) -> io::Result<ExitStatus> {
        self.started
            .process
            .wait(None)?
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    fn wait_ready(&self) -> Result<(), ServiceError> {
        let ServiceBuilder {
            name, ready, limit, ..
        } = &self.builder;
        let log = || self.log();
        let probe = Probe {
            inner: &self.builder.inner,
            pid: self.pid(),
            nonce: &self.started.nonce,
            log: &log,
        };
        let tail = || tail::of_file(&self.builder.log_path(), TAIL_LINES);
        let deadline = Instant::now() + *limit;
        let mut pause = FIRST_PAUSE;
        loop {
            let unmet = ready.iter().find_map(|ready| ready.look(&probe).err());
            // Whether it died comes first: what was seen may have been its last act.
            let until = unmet
                .as_ref()
                .map_or_else(Instant::now, |_| (Instant::now() + pause).min(deadline));
            let ended =
                self.started
                    .process
                    .wait(Some(until))
                    .map_err(|source| ServiceError::Start {
                        name: name.clone(),
                        source,
                    })?;
            if let Some(status) = ended {
                return Err(ServiceError::Died {
                    name: name.clone(),
                    status,
                    tail: tail(),
                });
            }
            let Some(last) = unmet else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                // The end of the environment kills it if this does not.
                self.kill_group().ok();
                return Err(ServiceError::NotReady {
                    name: name.clone(),
                    limit: *limit,
                    last,
                    tail: tail(),
                });
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The log from that position on.
fn log_since(path: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut log| {
        log.seek(SeekFrom::Start(start))?;
        log.read_to_end(&mut bytes)
    });
    // A log that cannot be read has said nothing.
    read.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}
