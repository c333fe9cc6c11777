//! The lock that a daemon holds as long as it lives, and what it writes into it.
//!
//! The lock is the truth: the kernel frees it the moment the last copy of its
//! descriptor is closed. The content is information for people and for messages.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use daemon_contract::{Endpoint, HealthStatus, ProcessIdentity};
use rustix::fs::{FileType, OFlags};
use serde::{Deserialize, Serialize};

use crate::Build;
use crate::handed;
use crate::lock::{self, LockError};

/// More than any record.
const RECORD_LIMIT: u64 = 64 << 10;

/// A second call must not make a second owner of the descriptor.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What a daemon tells about itself in its lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LifeRecord {
    /// Its name.
    pub daemon_name: String,
    /// Where it answers, with the port that it really has.
    pub endpoint: Endpoint,
    /// Which process it is.
    pub process: ProcessIdentity,
    /// How far it is: starting, healthy or draining.
    pub health_status: HealthStatus,
    /// Which build of the program it runs, if that could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
}

impl LifeRecord {
    pub(crate) fn starting(
        daemon_name: &str,
        endpoint: Endpoint,
        process: ProcessIdentity,
        build: Option<Build>,
    ) -> LifeRecord {
        LifeRecord {
            daemon_name: daemon_name.to_owned(),
            endpoint,
            process,
            health_status: HealthStatus::Starting,
            build,
        }
    }

    /// What the file says; `None` if nothing that can be understood.
    pub(crate) fn read(path: &Path) -> Option<LifeRecord> {
        let mut text = String::new();
        File::options()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(path)
            .ok()?
            .take(RECORD_LIMIT)
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The held lock of a daemon.
#[derive(Debug)]
pub(crate) struct LifeLock {
    file: File,
    path: PathBuf,
}

impl LifeLock {
    /// Takes it, and waits for whoever holds it, also if that is stopped: it may be a
    /// daemon that runs commands. `slow` is told if it takes long.
    pub(crate) fn acquire(
        path: &Path,
        deadline: Instant,
        slow: &dyn Fn(Option<ProcessIdentity>),
    ) -> Result<LifeLock, LockError> {
        let file = lock::lock_file(path, deadline, slow, &|_| None)?;
        Ok(LifeLock {
            file,
            path: path.to_owned(),
        })
    }

    /// The lock that the starter handed over, which must be the one of `path`.
    pub(crate) fn inherited(path: &Path) -> Result<Option<LifeLock>, LockError> {
        let Some(fd) = handed::take(handed::LIFE_LOCK_VARIABLE, &TAKEN, FileType::RegularFile)
        else {
            return Ok(None);
        };
        let life = LifeLock {
            file: fd.into(),
            path: path.to_owned(),
        };
        let failed = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        if !life.is_in_place() {
            return Err(LockError::Strange {
                path: path.to_owned(),
                what: "another file than the starter's",
            });
        }
        // The same open file: this is granted again, and refused if it was never held.
        if lock::try_lock(&life.file).map_err(failed)? {
            Ok(Some(life))
        } else {
            Err(lock::held(path, std::time::Duration::ZERO))
        }
    }

    /// Whether the file in the folder still is the one that is locked.
    pub(crate) fn is_in_place(&self) -> bool {
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        let ours = self.file.metadata().map(id).ok();
        ours.is_some() && ours == std::fs::symlink_metadata(&self.path).map(id).ok()
    }

    /// Writes who holds it.
    pub(crate) fn write(&self, record: &LifeRecord) -> io::Result<()> {
        let text = serde_json::to_string(record)?;
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

impl AsFd for LifeLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
