//! Ending an instance: the one process that holds its lock, politely, then by force,
//! with a reason that whoever comes next can read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant, SystemTime};

use daemon_contract::{ProcessIdentity, UnixTime};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::probe::{Probe, ProbeError, RunningDaemon, Stranger, probe};
use crate::process::own_identity;
use crate::{Ended, Instance};

/// More than any record; a reason that is longer is cut off.
const RECORD_LIMIT: u64 = 16 << 10;
/// The longest reason that is kept, in characters.
const REASON_LIMIT: usize = 1024;
/// How long a socket that accepts nobody is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What [`stop`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No daemon ran.
    NotRunning,
    /// It was ended.
    Ended {
        /// Which process it was.
        process: ProcessIdentity,
        /// How.
        how: Ended,
    },
}

/// Why a daemon was not ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// It could not be found out what runs.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Who answers is not the daemon; nobody was signalled.
    #[error("nothing was ended: `{name}` does not run, and {stranger} listens in its place")]
    Foreign {
        /// The daemon.
        name: String,
        /// Who listens.
        stranger: Stranger,
    },
    /// A client is starting it; nobody was signalled.
    #[error("nothing was ended: `{name}` is just being started; try again")]
    Starting {
        /// The daemon.
        name: String,
    },
    /// Its process cannot be told for certain; nobody was signalled.
    #[error(
        "nothing was ended: it cannot be seen from here which process is `{name}` (another pid namespace, or several processes hold its lock)"
    )]
    Hidden {
        /// The daemon.
        name: String,
    },
    /// The system refused.
    #[error("could not end `{name}` (process {pid})")]
    Io {
        /// The daemon.
        name: String,
        /// Its process.
        pid: u32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Who ended a daemon, and why; kept in the folder of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StopRecord {
    /// The daemon that was ended.
    pub process: ProcessIdentity,
    /// Who asked for it.
    pub by: ProcessIdentity,
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// When.
    pub time: UnixTime,
}

impl Instance {
    /// Who ended the last daemon with [`stop`], and why; `None` if nobody did, or
    /// the record cannot be read.
    pub fn last_stop(&self) -> Option<StopRecord> {
        let mut text = String::new();
        File::options()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(self.last_stop_path())
            .ok()?
            .take(RECORD_LIMIT)
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// Ends the daemon of `instance`: SIGTERM, and SIGKILL when `grace` is over. Returns
/// when it is gone.
///
/// It is the process that holds the daemon's lock, held by the kernel's handle while
/// it is signalled, whether or not it answers. Never starts anything, and signals
/// nobody else: not whoever listens in its place, not whoever has a number that
/// stands in a file. `reason` is kept for [`Instance::last_stop`].
///
/// # Errors
/// If there is nothing that may be ended, or the system refuses.
pub fn stop(instance: &Instance, grace: Duration, reason: &str) -> Result<Stopped, StopError> {
    let name = || instance.name().to_owned();
    match probe(instance, Instant::now() + LOOK)? {
        Probe::Absent => Ok(Stopped::NotRunning),
        Probe::Foreign(stranger) => Err(StopError::Foreign {
            name: name(),
            stranger,
        }),
        Probe::Starting => Err(StopError::Starting { name: name() }),
        Probe::Hidden => Err(StopError::Hidden { name: name() }),
        Probe::Running(daemon) => {
            // For people; that it cannot be written must not keep the daemon alive.
            drop(write_record(instance, &daemon, reason));
            let how = daemon.process.stop(grace).map_err(|source| StopError::Io {
                name: name(),
                pid: daemon.identity().pid,
                source,
            })?;
            Ok(Stopped::Ended {
                process: daemon.identity().clone(),
                how,
            })
        }
    }
}

fn write_record(instance: &Instance, daemon: &RunningDaemon, reason: &str) -> io::Result<()> {
    let record = StopRecord {
        process: daemon.identity().clone(),
        by: own_identity()?,
        reason: reason.chars().take(REASON_LIMIT).collect(),
        time: UnixTime::try_from(SystemTime::now()).map_err(io::Error::other)?,
    };
    let path = instance.last_stop_path();
    let own = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&own)
        .and_then(|mut file| file.write_all(serde_json::to_string(&record)?.as_bytes()))
        .and_then(|()| fs::rename(&own, &path));
    if written.is_err() {
        drop(fs::remove_file(&own));
    }
    written
}
