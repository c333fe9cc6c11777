//! The baton of a start: whoever holds it may bind, spawn and replace.
//!
//! It is an flock on a file that is never unlinked (two processes could hold the
//! lock of two files of the same name). The content of the file names the holder
//! and is information for people only; the kernel's lock is the truth, and it is
//! gone the moment its holder is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use daemon_contract::ProcessIdentity;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::process;
use crate::socket_path::{SocketPathError, make_folder};

/// A held start lock; dropping it lets the next one in.
#[derive(Debug)]
pub struct StartLock {
    file: File,
    path: PathBuf,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else held it until the deadline.
    #[error("`{path}` is still locked after {} ms{}", waited.as_millis(), describe(holder.as_ref()))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as it told.
        holder: Option<ProcessIdentity>,
        /// How long this process waited.
        waited: Duration,
    },
    /// The folder of the lock is not safe.
    #[error("could not use `{path}` as a lock")]
    Folder {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with its folder.
        #[source]
        source: SocketPathError,
    },
    /// The system refused, e.g. because the file system has no locks.
    #[error("could not lock `{path}`")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn describe(holder: Option<&ProcessIdentity>) -> String {
    holder.map_or_else(String::new, |holder| {
        format!(", by the process {}", holder.pid)
    })
}

impl StartLock {
    /// Takes the lock, waiting until `deadline` for whoever holds it.
    ///
    /// The folder is created with mode 0700 if it is not there, and refused if
    /// others may write to it. A deadline in the past tries once.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn acquire(path: impl AsRef<Path>, deadline: Instant) -> Result<StartLock, LockError> {
        let path = path.as_ref();
        let started = Instant::now();
        let failed = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            // Reading is harmless; replacing the file would break the lock.
            make_folder(folder, 0o022).map_err(|source| LockError::Folder {
                path: path.to_owned(),
                source,
            })?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let file = match try_lock(&file) {
            Ok(true) => Some(file),
            Ok(false) => wait_for(file, deadline).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let Some(file) = file else {
            return Err(LockError::Held {
                path: path.to_owned(),
                holder: read_holder(path),
                waited: started.elapsed(),
            });
        };
        let lock = StartLock {
            file,
            path: path.to_owned(),
        };
        // Information only: a full disk must not stop a daemon from starting.
        drop(lock.write_holder());
        Ok(lock)
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write_holder(&self) -> io::Result<()> {
        let text = serde_json::to_string(&process::own_identity()?)?;
        let mut file = &self.file;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Blocks in the kernel, on a thread of its own: flock knows no deadline, and
/// trying again and again would be unfair and slow.
///
/// At the deadline the thread stays behind. When it gets the lock after all, it
/// finds nobody to give it to and closes the file.
fn wait_for(file: File, deadline: Instant) -> io::Result<Option<File>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(None);
    }
    let (give, take) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("start-lock".to_owned())
        .spawn(move || {
            let result = rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive));
            // Sending to nobody drops the file, and with it the lock.
            drop(give.send(result.map(|()| file).map_err(io::Error::from)));
        })?;
    match take.recv_timeout(left) {
        Ok(result) => result.map(Some),
        Err(_) => Ok(None),
    }
}

fn read_holder(path: &Path) -> Option<ProcessIdentity> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(4096)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_the_file_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/start.lock");
        let held = StartLock::acquire(&path, Instant::now()).unwrap();
        let error = StartLock::acquire(&path, Instant::now()).unwrap_err();
        let LockError::Held { holder, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(holder.as_ref().unwrap().pid, std::process::id());
        let text = error.to_string();
        assert!(
            text.ends_with(&format!(", by the process {}", std::process::id())),
            "{text}"
        );
        drop(held);
        assert!(path.exists());
        StartLock::acquire(&path, Instant::now()).unwrap();
    }

    #[test]
    fn the_lock_passes_on_to_who_waits() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("start.lock");
        let held = StartLock::acquire(&path, Instant::now()).unwrap();
        let waiting = {
            let path = path.clone();
            thread::spawn(move || {
                StartLock::acquire(path, Instant::now() + Duration::from_secs(20)).map(drop)
            })
        };
        drop(held);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_leaves_no_lock_behind() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("start.lock");
        let held = StartLock::acquire(&path, Instant::now()).unwrap();
        let late = StartLock::acquire(&path, Instant::now() + Duration::from_millis(20));
        assert!(matches!(late, Err(LockError::Held { .. })));
        drop(held);
        StartLock::acquire(&path, Instant::now() + Duration::from_secs(20)).unwrap();
    }
}
