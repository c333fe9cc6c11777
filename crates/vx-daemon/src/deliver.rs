//! Puts results where the user looks for them: below `target/vx/`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use vx_proto::Digest;
use vx_proto::cas::{CasClient, CasError};
use vx_tree::Stamp;

/// One file that a build leaves in the target directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Where it goes.
    pub(crate) path: PathBuf,
    /// What it holds.
    pub(crate) digest: Digest,
    /// Whether it can be run.
    pub(crate) executable: bool,
}

/// Why a file could not be delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    /// The target directory does not take it.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store does not give it.
    #[error("cannot fetch `{}` from the store", path.display())]
    Fetch {
        /// The file.
        path: PathBuf,
        /// What the store said.
        source: CasError,
    },
}

/// Delivers files and remembers what stands where, so that an unchanged file keeps its inode and times.
#[derive(Debug, Default)]
pub(crate) struct Deliverer {
    there: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
}

impl Deliverer {
    /// Makes `delivery.path` hold `delivery.digest`; a file that holds it already is left alone.
    ///
    /// # Errors
    ///
    /// The path cannot be written, or the store does not have the content.
    pub(crate) async fn deliver(
        &self,
        cas: &CasClient,
        delivery: &Delivery,
    ) -> Result<(), DeliverError> {
        let write_error = |source| DeliverError::Write {
            path: delivery.path.clone(),
            source,
        };
        let wanted = delivery.clone();
        let remembered = self.remembered(&delivery.path);
        let present = tokio::task::spawn_blocking(move || holds(&wanted, remembered))
            .await
            .map_err(|e| write_error(io::Error::other(e)))?
            .map_err(write_error)?;
        if let Some(stamp) = present {
            self.remember(&delivery.path, stamp, delivery.digest);
            return Ok(());
        }
        let temporary = temporary_beside(&delivery.path);
        cas.read_to_file(&delivery.digest, &temporary)
            .await
            .map_err(|source| DeliverError::Fetch {
                path: delivery.path.clone(),
                source,
            })?;
        let wanted = delivery.clone();
        let stamp = tokio::task::spawn_blocking(move || publish(&temporary, &wanted))
            .await
            .map_err(|e| write_error(io::Error::other(e)))?
            .map_err(write_error)?;
        self.remember(&delivery.path, stamp, delivery.digest);
        Ok(())
    }

    /// Makes a directory where a delivered program expects one; what is in it belongs to the program.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub(crate) async fn make_directory(&self, path: PathBuf) -> Result<(), DeliverError> {
        let made = path.clone();
        tokio::task::spawn_blocking(move || fs::create_dir_all(made))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(|source| DeliverError::Write { path, source })
    }

    /// The stamp that a delivered file had when it was seen last.
    pub(crate) fn stamp(&self, path: &Path) -> Option<Stamp> {
        self.remembered(path).map(|(stamp, _)| stamp)
    }

    fn remembered(&self, path: &Path) -> Option<(Stamp, Digest)> {
        let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.get(path).copied()
    }

    fn remember(&self, path: &Path, stamp: Stamp, digest: Digest) {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        there.insert(path.to_owned(), (stamp, digest));
    }
}

/// Whether the file is what it should be, by its stamp or else by its content; makes its directory when there is none.
fn holds(wanted: &Delivery, remembered: Option<(Stamp, Digest)>) -> io::Result<Option<Stamp>> {
    let meta = match fs::symlink_metadata(&wanted.path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = wanted.path.parent() {
                fs::create_dir_all(parent)?;
            }
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let stamp = Stamp::of(&meta);
    if !meta.is_file() || meta.permissions().mode() & 0o777 != mode(wanted) {
        return Ok(None);
    }
    if remembered == Some((stamp, wanted.digest)) {
        return Ok(Some(stamp));
    }
    if meta.len() != wanted.digest.size {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(&wanted.path)?)?;
    Ok((*hasher.finalize().as_bytes() == wanted.digest.hash).then_some(stamp))
}

fn publish(temporary: &Path, wanted: &Delivery) -> io::Result<Stamp> {
    let published = fs::set_permissions(temporary, fs::Permissions::from_mode(mode(wanted)))
        .and_then(|()| fs::rename(temporary, &wanted.path));
    if let Err(e) = published {
        let _gone = fs::remove_file(temporary);
        return Err(e);
    }
    Ok(Stamp::of(&fs::symlink_metadata(&wanted.path)?))
}

fn mode(wanted: &Delivery) -> u32 {
    if wanted.executable { 0o755 } else { 0o644 }
}

/// A name in the same directory, so that the rename stays within one file system; unique for this process and path.
fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!(
        ".{}.{}-{}.vx-tmp",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: PathBuf, text: &[u8]) -> Delivery {
        Delivery {
            path,
            digest: Digest::of(text),
            executable: true,
        }
    }

    #[test]
    fn a_file_is_left_alone_only_when_content_and_mode_are_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/rg");
        let wanted = wanted(path.clone(), b"binary");
        assert_eq!(holds(&wanted, None).unwrap(), None);
        fs::write(&path, b"binary").unwrap();
        assert_eq!(
            holds(&wanted, None).unwrap(),
            None,
            "mode 0644 is not executable"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(holds(&wanted, None).unwrap().is_some());
        fs::write(&path, b"BINARY").unwrap();
        assert_eq!(
            holds(&wanted, None).unwrap(),
            None,
            "same size, other bytes"
        );
    }

    #[test]
    fn publishing_replaces_whole_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rg");
        fs::write(&path, b"old").unwrap();
        let temporary = temporary_beside(&path);
        fs::write(&temporary, b"new").unwrap();
        publish(&temporary, &wanted(path.clone(), b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
