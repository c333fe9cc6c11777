//! A file on its way into the cache: what has come of it, and its hash so far.
//!
//! It has the lock of its digest, so the lock is held as long as anybody can
//! write, also in a thread whose caller has gone away.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::digest::{Digest, Hasher};
use crate::entry::Entry;
use crate::error::Error;
use crate::layout::Layout;
use crate::lock::Lock;

/// How many chunks may wait for the disk; a chunk is what the network gives at
/// once, at most some hundred KiB.
const CHUNKS_WAITING: usize = 16;

/// The partial file of one digest.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    entry: PathBuf,
    digest: Digest,
    file: File,
    hasher: Hasher,
    length: u64,
    /// Freed when this is dropped.
    _lock: Lock,
}

impl Partial {
    /// Opens it and hashes what an earlier transfer has left.
    pub(crate) fn open(layout: &Layout, digest: Digest, lock: Lock) -> Result<Partial, Error> {
        let path = layout.partial(&digest);
        let failed = |action| Error::cache(action, &path);
        // A link could lead anywhere, and a device has no end.
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            fs::remove_file(&path).map_err(failed("remove"))?;
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = match options.open(&path) {
            // Killed between its last two steps.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::remove_file(&path).map_err(failed("remove"))?;
                options.open(&path)
            }
            opened => opened,
        };
        let file = file.map_err(failed("open"))?;
        let mut hasher = digest.hasher();
        let length = hasher.update_from(&file).map_err(failed("read"))?;
        Ok(Partial {
            entry: layout.entry(&digest),
            path,
            digest,
            file,
            hasher,
            length,
            _lock: lock,
        })
    }

    /// The bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The digest of the bytes that are there.
    pub(crate) fn found(&self) -> Digest {
        self.hasher.finish()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.found() == self.digest
    }

    /// Begins anew.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            let cut = |file: &mut File| {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))
            };
            cut(&mut self.file).map_err(Error::cache("truncate", &self.path))?;
            self.length = 0;
            self.hasher = self.digest.hasher();
        }
        Ok(())
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Err(source) = self.file.write_all(bytes) {
            let written = self.length;
            return Err(match Error::cache("write", &self.path)(source) {
                Error::DiskFull { path, source, .. } => {
                    // What cannot be finished must not keep the disk full.
                    fs::remove_file(&path).ok();
                    Error::DiskFull {
                        path,
                        written,
                        source,
                    }
                }
                error => error,
            });
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Copies from a reader until it ends or `go_on` says no.
    pub(crate) fn append_from(
        &mut self,
        mut reader: impl Read,
        mut go_on: impl FnMut(u64) -> Result<(), Error>,
        read_failed: impl FnOnce(io::Error) -> Error,
    ) -> Result<(), Error> {
        let mut buffer = vec![0; 1 << 18];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    self.append(&buffer[..length])?;
                    go_on(self.length)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_failed(error)),
            }
        }
    }

    /// Makes it an entry: read-only, in use by the caller, at its place.
    pub(crate) fn commit(self) -> Result<Entry, Error> {
        let failed = |action| Error::cache(action, &self.path);
        // From here on a read-only partial file may be found; `open` knows.
        let read_only = fs::Permissions::from_mode(0o444);
        self.file
            .set_permissions(read_only)
            .map_err(failed("protect"))?;
        let file = File::open(&self.path).map_err(failed("open"))?;
        file.lock_shared().map_err(failed("lock"))?;
        fs::rename(&self.path, &self.entry).map_err(failed("rename"))?;
        Ok(Entry::fresh(self.entry, file, self.length))
    }

    /// Removes it.
    pub(crate) fn discard(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(Error::cache("remove", &self.path))
    }
}

/// Writes and hashes what it is sent, in a thread that may block.
///
/// If the caller goes away, it writes what it has got and ends.
#[derive(Debug)]
pub(crate) struct Sink {
    sender: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<Partial, Error>>,
}

impl Sink {
    pub(crate) fn start(mut partial: Partial) -> Sink {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(bytes) = receiver.blocking_recv() {
                partial.append(&bytes)?;
            }
            Ok(partial)
        });
        Sink { sender, task }
    }

    /// Whether it still takes anything; if not, [`finish`](Self::finish) says why.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        self.sender.send(bytes).await.is_ok()
    }

    pub(crate) async fn finish(self) -> Result<Partial, Error> {
        drop(self.sender);
        self.task.await.map_err(|_| Error::CutOff)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &std::path::Path, content: &[u8]) -> Partial {
        let layout = Layout::new(dir);
        for dir in layout.dirs() {
            fs::create_dir_all(dir).unwrap();
        }
        let digest = Digest::blake3(content);
        let lock = Lock::take(&layout.lock(&digest)).unwrap().unwrap();
        Partial::open(&layout, digest, lock).unwrap()
    }

    #[test]
    fn it_goes_on_where_it_stopped_and_becomes_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = open(dir.path(), b"halves");
        partial.append(b"hal").unwrap();
        drop(partial);
        let mut partial = open(dir.path(), b"halves");
        assert_eq!(partial.length(), 3);
        partial.append(b"ves").unwrap();
        assert!(partial.is_complete());
        let entry = partial.commit().unwrap();
        assert_eq!(fs::read(entry.path()).unwrap(), b"halves");
        let mode = fs::metadata(entry.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }

    #[test]
    fn a_full_disk_is_told_and_not_kept_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = open(dir.path(), b"content");
        partial.append(b"con").unwrap();
        let path = partial.path.clone();
        partial.file = File::options().write(true).open("/dev/full").unwrap();
        let error = partial.append(b"tent").unwrap_err();
        assert!(
            matches!(error, Error::DiskFull { written: 3, .. }),
            "{error}"
        );
        assert!(!error.is_transient());
        assert!(!path.exists());
    }

    #[test]
    fn restarting_forgets_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = open(dir.path(), b"right");
        partial.append(b"wrong and long").unwrap();
        partial.restart().unwrap();
        partial.append(b"right").unwrap();
        assert!(partial.is_complete());
        assert_eq!(partial.commit().unwrap().size(), 5);
    }
}
