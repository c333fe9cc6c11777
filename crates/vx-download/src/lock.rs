//! Locks that the kernel frees when their holder dies, on files that may be
//! deleted while somebody waits for them.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

/// An exclusive lock; free again when the last clone of it is gone.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    _file: Arc<File>,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn wait(path: &Path) -> io::Result<Lock> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if is_at(&file, path) {
                return Ok(Lock {
                    _file: Arc::new(file),
                });
            }
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Lock>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => {
                    return Ok(Some(Lock {
                        _file: Arc::new(file),
                    }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Waits for the lock without blocking the caller.
    ///
    /// A thread of its own waits: one of the runtime's would keep the runtime
    /// from shutting down as long as somebody else has the lock.
    pub(crate) async fn wait_async(path: &Path) -> io::Result<Lock> {
        let (sender, receiver) = oneshot::channel();
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("download-lock".to_owned())
            .spawn(move || {
                // Nobody may be there to take it any more; then it is free again.
                sender.send(Lock::wait(&path)).ok();
            })?;
        receiver
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the thread that waits has ended")))
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Whether the open file is still the one at this path. If it is not, it was
/// deleted or replaced while we waited, and its lock says nothing.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => open.dev() == there.dev() && open.ino() == there.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_its_last_clone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = Lock::wait(&path).unwrap();
        let clone = lock.clone();
        drop(lock);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(clone);
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_deleted_file_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::wait(&path).unwrap();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || Lock::wait(&path).unwrap())
        };
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiter.join().unwrap();
        assert!(is_at(&second._file, &path));
        assert!(Lock::take(&path).unwrap().is_none());
    }
}
