//! The baton of a start: whoever holds it may bind, spawn and replace.
//!
//! It is an flock on a file that is never unlinked (two processes could hold the
//! lock of two files of the same name). The content of the file names the holder
//! and is information for people only; the kernel's lock is the truth, and it is
//! gone the moment its holder is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use daemon_contract::ProcessIdentity;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::holders;
use crate::life::LifeRecord;
use crate::process;
use crate::socket_path::{SocketPathError, make_folder};

/// After this time people want to know what is waited for.
const SLOW: Duration = Duration::from_secs(1);
/// How often the state of the holder is looked at. One that is stopped both times does
/// not go on by itself.
const LOOK: Duration = Duration::from_millis(250);

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
    #[error("`{path}` is still locked after {} ms{}", waited.as_millis(), describe(holder.as_deref(), *stopped))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as it told.
        holder: Option<Box<ProcessIdentity>>,
        /// Whether the holder is stopped, by a debugger or with Ctrl-Z, and so
        /// does not go on by itself.
        stopped: bool,
        /// How long this process waited.
        waited: Duration,
    },
    /// What stands in the place of the lock was made by somebody else.
    #[error("`{path}` is {what}, and so not the lock of this user; it was left alone")]
    Strange {
        /// The lock file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
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

fn describe(holder: Option<&ProcessIdentity>, stopped: bool) -> String {
    holder.map_or_else(String::new, |holder| {
        let pid = holder.pid;
        let state = if stopped {
            format!(
                ", which is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it"
            )
        } else {
            String::new()
        };
        format!(", by the process {pid}{state}")
    })
}

impl StartLock {
    /// Takes the lock, waiting until `deadline` for whoever holds it.
    ///
    /// The folder is created with mode 0700 if it is not there, and refused if
    /// others may write to it. A deadline in the past tries once. A holder that is
    /// stopped (SIGSTOP, Ctrl+Z, a debugger) is not waited for.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder, and says if it is stopped.
    pub fn acquire(path: impl AsRef<Path>, deadline: Instant) -> Result<StartLock, LockError> {
        StartLock::acquire_observed(path.as_ref(), deadline, &|_| {})
    }

    /// As [`StartLock::acquire`]; `slow` is told once, after a second, who holds it.
    pub(crate) fn acquire_observed(
        path: &Path,
        deadline: Instant,
        slow: &dyn Fn(Option<ProcessIdentity>),
    ) -> Result<StartLock, LockError> {
        let file = lock_file(path, deadline, slow, &stopped_holder)?;
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

/// Opens the lock file `path`, which is made if it is not there, in a folder that
/// nobody else may change.
pub(crate) fn open_lock(path: &Path) -> Result<File, LockError> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        // Reading is harmless; replacing the file would break the lock.
        make_folder(folder, 0o022).map_err(|source| LockError::Folder {
            path: path.to_owned(),
            source,
        })?;
    }
    let failed = |source: io::Error| LockError::Io {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A pipe in its place must not block us.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let strange = |what| LockError::Strange {
        path: path.to_owned(),
        what,
    };
    let file = match file {
        Ok(file) => file,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(strange("a symbolic link"));
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        return Err(strange("not a regular file"));
    }
    if metadata.uid() != own {
        return Err(strange("a file of another user"));
    }
    Ok(file)
}

/// The open and locked file `path`. `hopeless` says whom it is no use to wait for.
pub(crate) fn lock_file(
    path: &Path,
    deadline: Instant,
    slow: &dyn Fn(Option<ProcessIdentity>),
    hopeless: &dyn Fn(&Path) -> Option<ProcessIdentity>,
) -> Result<File, LockError> {
    let started = Instant::now();
    let failed = |source: io::Error| LockError::Io {
        path: path.to_owned(),
        source,
    };
    let file = open_lock(path)?;
    let file = match try_lock(&file) {
        Ok(true) => Some(file),
        Ok(false) => {
            let slow = || slow(read_holder(path));
            wait_for(file, deadline, &slow, &|| hopeless(path)).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    file.ok_or_else(|| held(path, started.elapsed()))
}

/// The lock of `path` was not to be had: says by whom.
pub(crate) fn held(path: &Path, waited: Duration) -> LockError {
    let holder = holder_of(path);
    LockError::Held {
        path: path.to_owned(),
        stopped: holder.as_ref().is_some_and(process::is_stopped),
        holder: holder.map(Box::new),
        waited,
    }
}

/// Who holds the lock, if that process is stopped. Only one that wrote its name into
/// the file is looked at: many may wait, and looking through all processes takes time.
fn stopped_holder(path: &Path) -> Option<ProcessIdentity> {
    read_holder(path)
        .filter(|holder| process::is_stopped(holder) && holders::is_holder(holder.pid, path))
}

/// Who holds the lock as the kernel knows it, else as the file tells.
pub(crate) fn holder_of(path: &Path) -> Option<ProcessIdentity> {
    let told = read_holder(path);
    let mut known = holders::of_lock(path).unwrap_or_default();
    if let Some(told) = &told
        && known.contains(told)
    {
        return Some(told.clone());
    }
    // A program that the holder starts has a copy until it is executed.
    if known.is_empty() {
        told
    } else {
        Some(known.swap_remove(0))
    }
}

pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
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
fn wait_for(
    file: File,
    deadline: Instant,
    slow: &dyn Fn(),
    hopeless: &dyn Fn() -> Option<ProcessIdentity>,
) -> io::Result<Option<File>> {
    let started = Instant::now();
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
    let (mut before, mut is_slow) = (None, false);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match take.recv_timeout(left.min(LOOK)) {
            Ok(result) => return result.map(Some),
            Err(_) if left <= LOOK => return Ok(None),
            Err(_) => {}
        }
        let now = hopeless();
        if now.is_some() && now == before {
            return Ok(None);
        }
        before = now;
        if !is_slow && started.elapsed() >= SLOW {
            is_slow = true;
            slow();
        }
    }
}

/// What the file tells: the holder itself, or a record that names it.
fn read_holder(path: &Path) -> Option<ProcessIdentity> {
    if let Some(record) = LifeRecord::read(path) {
        return Some(record.process);
    }
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
