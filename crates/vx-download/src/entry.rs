//! A file of the cache in somebody's hands: verified, and not to be evicted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::error::Error;
use crate::lock::is_at;

/// A file with the content that was asked for. It stays where it is as long as
/// this value lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    /// Has a shared lock, which eviction respects.
    file: File,
    size: u64,
    downloaded: bool,
}

impl Entry {
    /// Where the file is. It is read-only; copy it to change it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, open for reading. The position is shared by all who read from it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether this call has fetched it; otherwise it was there already, or
    /// another process has fetched it in the meantime.
    #[must_use]
    pub fn was_downloaded(&self) -> bool {
        self.downloaded
    }

    /// A file that has just been verified, at the path where it is going to be.
    pub(crate) fn fresh(path: PathBuf, file: File, size: u64) -> Entry {
        Entry {
            path,
            file,
            size,
            downloaded: true,
        }
    }
}

/// What is found at an entry's place.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// The right content.
    Good(Entry),
    /// Something else.
    Corrupt,
}

/// Opens the entry, protects it from eviction, and hashes it.
pub(crate) fn look(path: &Path, digest: &Digest) -> Result<Found, Error> {
    // A link or a pipe is not ours; opening a pipe would wait for its writer.
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Ok(Found::Corrupt);
    }
    let failed = |source| Error::Cache {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let Some(file) = open_shared(path).map_err(failed)? else {
        return Ok(Found::Nothing);
    };
    let mut hasher = digest.hasher();
    // An unreadable sector makes a corrupt entry, not an unusable cache.
    let size = match hasher.update_from(&file) {
        Ok(size) if hasher.finish() == *digest => size,
        _ => return Ok(Found::Corrupt),
    };
    // When it was used last; a cache of somebody else's cannot be stamped.
    file.set_modified(SystemTime::now()).ok();
    Ok(Found::Good(Entry {
        path: path.to_owned(),
        file: rewound(file).map_err(failed)?,
        size,
        downloaded: false,
    }))
}

/// Opens a file that may be evicted at any time, and keeps it from that.
fn open_shared(path: &Path) -> io::Result<Option<File>> {
    loop {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(file) => {
                file.lock_shared()?;
                if is_at(&file, path) {
                    return Ok(Some(file));
                }
            }
        }
    }
}

fn rewound(mut file: File) -> io::Result<File> {
    io::Seek::rewind(&mut file)?;
    Ok(file)
}
