//! Installed toolchains and channel records on disk, shared by all processes that use the same download cache.
//!
//! The layout and the locks are described in `TOOLCHAINS.md`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use vx_tree::{Records, Rules};

use super::error::DistError;
use super::record::{Receipt, Record};
use crate::find::Toolchain;
use crate::name::Channel;

/// A toolchain that nobody has used for so long is removed; cargo has the same measure for what it downloaded.
pub const UNUSED: Duration = Duration::from_secs(90 * 24 * 3600);

/// The toolchains beside a download cache.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// Held by the one task of this process that may wait for the lock of the store.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Keeps a toolchain from being removed.
#[derive(Debug)]
#[must_use = "the toolchain may be removed as soon as this is dropped"]
pub struct Lease {
    _shared: File,
}

/// The exclusive right to change the store.
#[derive(Debug)]
pub(crate) struct Lock {
    _exclusive: File,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Store {
    /// The store in the download cache `cache`; nothing is made yet.
    pub fn new(cache: &Path) -> Store {
        Store {
            root: cache.join("toolchains/v1"),
            turn: Arc::default(),
        }
    }

    /// The directory whose time changes whenever a channel means something else.
    pub fn channels(&self) -> PathBuf {
        self.root.join("channels")
    }

    /// Where the hashes of installed toolchains are kept.
    pub fn hashes(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// The trees of installed toolchains.
    pub fn trees(&self) -> Records {
        Records::new(self.hashes())
    }

    /// Where the toolchain called `id` is, or would be.
    pub fn sysroot(&self, id: &str) -> PathBuf {
        self.root.join("installed").join(id)
    }

    pub(crate) fn staging(&self, id: &str) -> PathBuf {
        self.root.join("tmp").join(id)
    }

    fn receipt_path(&self, id: &str) -> PathBuf {
        self.root.join("installed").join(format!("{id}.json"))
    }

    fn record_path(&self, server: &str, host: &str, channel: &Channel) -> PathBuf {
        let server = blake3::hash(server.as_bytes()).to_hex();
        self.channels().join(format!(
            "{}-{host}-{}.json",
            channel.dated_name(),
            &server[..8]
        ))
    }

    /// What a channel of a server means here; `None` before it was asked for. Blocks.
    pub fn record(&self, server: &str, host: &str, channel: &Channel) -> Option<Record> {
        read(&self.record_path(server, host, channel))
    }

    /// All records, sorted by their names. Blocks.
    pub fn records(&self) -> Vec<Record> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.channels())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        paths.sort();
        paths.iter().filter_map(|path| read(path)).collect()
    }

    /// What is known of an installed toolchain; `None` when it is not installed, or not completely. Blocks.
    pub fn receipt(&self, id: &str) -> Option<Receipt> {
        let receipt = read(&self.receipt_path(id))?;
        self.sysroot(id).is_dir().then_some(receipt)
    }

    /// The id of the toolchain at `sysroot`, if it is one of this store.
    pub fn id_of<'a>(&self, sysroot: &'a Path) -> Option<&'a str> {
        let rest = sysroot.strip_prefix(self.root.join("installed")).ok()?;
        rest.to_str()
            .filter(|id| !id.is_empty() && !id.contains('/'))
    }

    /// An installed toolchain, protected from being removed; `None` when it is not there. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// A store that cannot be used.
    pub fn lease(&self, id: &str) -> Result<Option<(Toolchain, Lease)>, DistError> {
        if self.receipt(id).is_none() {
            return Ok(None);
        }
        let file = self.open("lease", id)?;
        file.lock_shared()
            .map_err(DistError::store("lock", self.root.join("lease").join(id)))?;
        // Where it cannot be noted, the toolchain may have to be fetched again one day.
        let _noted = file.set_modified(SystemTime::now());
        // It may have been removed before the lock was there.
        Ok(self.receipt(id).map(|receipt| {
            let toolchain = receipt.toolchain(&self.sysroot(id));
            (toolchain, Lease { _shared: file })
        }))
    }

    /// Makes an installed toolchain count as not installed, because its files are not what they were. Blocks.
    ///
    /// # Errors
    ///
    /// A store that cannot be written.
    pub fn condemn(&self, id: &str) -> Result<(), DistError> {
        remove_file(&self.receipt_path(id))
    }

    /// Takes the lock of the store; `waiting` is called if another process has it.
    pub(crate) async fn lock(&self, waiting: impl FnOnce()) -> Result<Arc<Lock>, DistError> {
        let turn = match self.turn.clone().try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => self.turn.clone().lock_owned().await,
        };
        let store = self.clone();
        let opened = blocking(move || {
            for name in ["channels", "installed", "lease", "tmp", "trees"] {
                let path = store.root.join(name);
                fs::create_dir_all(&path).map_err(DistError::store("create", path))?;
            }
            let file = store.open(".", "lock")?;
            let taken = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => {
                    return Err(DistError::store("lock", store.root.join("lock"))(error));
                }
            };
            Ok((file, taken))
        });
        let (file, taken) = opened.await?;
        if taken {
            return Ok(Arc::new(Lock {
                _exclusive: file,
                _turn: turn,
            }));
        }
        waiting();
        let path = self.root.join("lock");
        // The turn goes along, so that at most one thread waits, even when its caller has gone away.
        let lock = blocking(move || {
            file.lock().map_err(DistError::store("lock", path))?;
            Ok(Lock {
                _exclusive: file,
                _turn: turn,
            })
        });
        lock.await.map(Arc::new)
    }

    fn open(&self, directory: &str, name: &str) -> Result<File, DistError> {
        let path = self.root.join(directory).join(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DistError::store("open", path))
    }

    pub(crate) fn write_record(&self, _lock: &Lock, record: &Record) -> Result<(), DistError> {
        let path = self.record_path(&record.server, &record.host, &record.channel);
        write(&path, record)
    }

    pub(crate) fn remove_record(&self, _lock: &Lock, record: &Record) -> Result<(), DistError> {
        remove_file(&self.record_path(&record.server, &record.host, &record.channel))
    }

    pub(crate) fn write_receipt(
        &self,
        _lock: &Lock,
        id: &str,
        receipt: &Receipt,
    ) -> Result<(), DistError> {
        write(&self.receipt_path(id), receipt)
    }

    /// Removes what nobody has used for [`UNUSED`], what no channel means any more, and what was left by those who were killed; nothing while another process changes the store.
    ///
    /// Returns how many toolchains were removed. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// A store that cannot be read or changed.
    pub fn collect(&self) -> Result<u32, DistError> {
        let is_there = self.root.join("installed").is_dir() && self.root.join("tmp").is_dir();
        let turn = self.turn.clone().try_lock_owned();
        let (true, Ok(turn)) = (is_there, turn) else {
            return Ok(0);
        };
        let file = self.open(".", "lock")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(0),
            Err(TryLockError::Error(error)) => {
                return Err(DistError::store("lock", self.root.join("lock"))(error));
            }
        }
        self.sweep(&Lock {
            _exclusive: file,
            _turn: turn,
        })
    }

    /// Whether nobody has used what `record` means for a long time, or asked for it.
    fn is_unused(&self, record: &Record) -> bool {
        let lease = fs::metadata(self.root.join("lease").join(&record.id));
        let used = lease.and_then(|meta| meta.modified()).unwrap_or(UNIX_EPOCH);
        let asked = UNIX_EPOCH + Duration::from_secs(record.resolved.min(u32::MAX.into()));
        // A time that lies ahead is that of a clock that was wrong.
        let age = used.max(asked).elapsed().unwrap_or_default();
        age > UNUSED
    }

    /// As [`collect`](Self::collect), by one who has the lock; what a build uses stays until the next time.
    pub(crate) fn sweep(&self, lock: &Lock) -> Result<u32, DistError> {
        let (unused, kept): (Vec<_>, Vec<_>) = self
            .records()
            .into_iter()
            .partition(|record| self.is_unused(record));
        let mut kept: Vec<String> = kept.into_iter().map(|record| record.id).collect();
        let mut removed = 0;
        for record in unused {
            if kept.contains(&record.id) {
                continue;
            }
            let is_installed = self.receipt(&record.id).is_some();
            if is_installed && !self.remove(lock, &record.id)? {
                kept.push(record.id);
                continue;
            }
            removed += u32::from(is_installed);
            self.remove_record(lock, &record)?;
        }
        let installed = self.root.join("installed");
        let mut names: Vec<String> = names(&installed)?;
        names.iter_mut().for_each(|name| {
            if let Some(id) = name.strip_suffix(".json") {
                *name = id.to_owned();
            }
        });
        names.sort();
        names.dedup();
        for id in names.iter().filter(|id| !kept.contains(id)) {
            removed += u32::from(self.remove(lock, id)?);
        }
        let tmp = self.root.join("tmp");
        for name in self::names(&tmp)? {
            remove_tree(&tmp.join(name))?;
        }
        Ok(removed)
    }

    /// Removes a toolchain unless it is used at the moment; returns whether it did. Blocks.
    pub(crate) fn remove(&self, _lock: &Lock, id: &str) -> Result<bool, DistError> {
        let lease = self.open("lease", id)?;
        match lease.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => {
                return Err(DistError::store("lock", self.root.join("lease").join(id))(
                    error,
                ));
            }
        }
        // Without its receipt it does not count as installed, whatever is left of it.
        remove_file(&self.receipt_path(id))?;
        for part in ["bin", "lib"] {
            let directory = self.sysroot(id).join(part);
            self.trees()
                .forget(&directory, &Rules::default())
                .map_err(DistError::store("forget", &directory))?;
        }
        remove_tree(&self.sysroot(id))?;
        Ok(true)
    }
}

fn names(directory: &Path) -> Result<Vec<String>, DistError> {
    let failed = |error| DistError::store("list", directory)(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), DistError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => remove_file(path),
        other => other.map_err(DistError::store("remove", path)),
    }
}

fn remove_file(path: &Path) -> Result<(), DistError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(DistError::store("remove", path)),
    }
}

/// What cannot be read counts as not there: it is written anew.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file that readers see whole or not at all. The caller has the lock of the store.
fn write(path: &Path, content: &impl Serialize) -> Result<(), DistError> {
    let text = serde_json::to_vec_pretty(content)
        .map_err(|error| DistError::store("write", path)(error.into()))?;
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text).map_err(DistError::store("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(DistError::store("write", path))
}

/// Runs work that blocks where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DistError> + Send + 'static,
) -> Result<T, DistError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| DistError::CutOff)?
}
