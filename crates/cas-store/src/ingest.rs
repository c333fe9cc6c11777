//! Storing a file from elsewhere: its bytes are copied or cloned, its inode never becomes ours.
//!
//! Whoever opened that inode for writing earlier could still change it, whatever its mode says now.
//! What is hashed is what was written, so a file that changes meanwhile yields a blob that is right under its own name.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use vx_digest::Digest;

use crate::blob::hash_file;
use crate::error::{PlaceError, PutError};
use crate::intake::Source;
use crate::layout::Kind;
use crate::platform;
use crate::scratch::Temp;
use crate::stage::Pending;
use crate::store::Store;

/// Files up to this size are hashed before anything is written, since many turn out to be known.
const SMALL: u64 = 1 << 20;
/// Bytes copied at once.
const CHUNK: usize = 256 << 10;

impl Store {
    /// Stores a copy of the file at `path` and returns its digest.
    ///
    /// With `executable` its executable twin is made as well, instead of when it is first asked for.
    pub fn ingest_file(&self, path: &Path, executable: bool) -> Result<Digest, PutError> {
        let pending = self.stage(path, self.syncs_each())?;
        let digest = self.publish(pending)?.digest;
        if executable {
            match self.ensure_twin(&digest) {
                Ok(_) => {}
                Err(PlaceError::Twin(error)) => return Err(error),
                Err(PlaceError::Read(error)) => {
                    return Err(PutError::storing(error.subject, digest.size, error.source));
                }
                Err(PlaceError::Destination { source, .. }) => {
                    return Err(PutError::storing(
                        format!("blob `{digest}`"),
                        digest.size,
                        source,
                    ));
                }
            }
        }
        Ok(digest)
    }

    /// Writes a copy of the file at `path`, to be committed in a [`Group`](crate::Group).
    pub fn stage_file(&self, path: &Path) -> Result<Pending, PutError> {
        self.stage(path, false)
    }

    fn stage(&self, path: &Path, sync: bool) -> Result<Pending, PutError> {
        let unreadable = |source| PutError::source_file(path, source);
        let mut options = std::fs::OpenOptions::new();
        // A pipe must not make us wait for its writer.
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let source = options.open(path).map_err(unreadable)?;
        self.stage_file_at(source, path, sync)
    }

    fn stage_file_at(
        &self,
        mut source: File,
        path: &Path,
        sync: bool,
    ) -> Result<Pending, PutError> {
        let unreadable = |source| PutError::source_file(path, source);
        let metadata = source.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(io::Error::new(
                ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let mut buffer = Vec::new();
        if let Some(bytes) = read_small(&source, metadata.len(), &mut buffer).map_err(unreadable)? {
            return self.stage_checked(Digest::of(bytes), bytes, sync);
        }
        self.stage_large(path, &mut source, sync)
    }

    /// Writes a copy of a file if `is_first` says that nobody else writes its content.
    pub(crate) fn stage_first(
        &self,
        source: &mut Source<'_>,
        buffer: &mut Vec<u8>,
        is_first: impl FnOnce(Digest) -> bool,
    ) -> Result<(Digest, Option<Pending>), PutError> {
        let read = read_small(&source.file, source.size, buffer)
            .map_err(|error| PutError::source_file(source.name, error))?;
        let Some(bytes) = read else {
            let pending = self.stage_large(source.name, &mut source.file, false)?;
            let digest = pending.digest();
            return Ok((digest, is_first(digest).then_some(pending)));
        };
        let digest = Digest::of(bytes);
        // Asked before it is written, so that no other thread writes it as well.
        let pending = match is_first(digest) {
            true => Some(self.stage_checked(digest, bytes, false)?),
            false => None,
        };
        Ok((digest, pending))
    }

    /// Writes a copy of a file while it is hashed, in constant memory.
    pub(crate) fn stage_large(
        &self,
        path: &Path,
        source: &mut File,
        sync: bool,
    ) -> Result<Pending, PutError> {
        let unreadable = |source| PutError::source_file(path, source);
        source.rewind().map_err(unreadable)?;
        let size = source.metadata().map_err(unreadable)?.len();
        let failed =
            |source| PutError::storing(format!("a copy of `{}`", path.display()), size, source);
        let mut temp = self
            .inner
            .scratch
            .create(Kind::Plain.mode())
            .map_err(failed)?;
        if self.try_reflink(&mut temp, source) {
            let seal = temp.seal(sync);
            let digest = seal
                .and_then(|()| hash_file(&temp.reader()?))
                .map_err(failed)?;
            return Ok(Pending {
                digest,
                temp: Some(temp),
                index: None,
            });
        }
        drop(temp);
        let mut writer = self.writer(None)?;
        let mut buffer = vec![0; CHUNK];
        // What grows while it is read, or lies about its size, does not fill the disk.
        let mut source = source.take(size);
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => writer
                    .append(&buffer[..read])
                    .map_err(|error| match error {
                        // The writer knows neither the file nor its size.
                        PutError::NoSpace { source, .. } | PutError::Io { source, .. } => {
                            failed(source)
                        }
                        other => other,
                    })?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        writer.stage(sync)
    }

    /// Clones the content of `source`; `false` when it has to be copied.
    pub(crate) fn try_reflink(&self, temp: &mut Temp, source: &File) -> bool {
        let may = &self.inner.may_reflink;
        if !may.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(file) = temp.file() else { return false };
        match platform::reflink(&*file, source) {
            Ok(()) => true,
            Err(error) => {
                // Another file system as source says nothing about the next one.
                if error.kind() != ErrorKind::CrossesDevices {
                    may.store(false, Ordering::Relaxed);
                }
                false
            }
        }
    }
}

/// Reads a file of `size` bytes into a buffer that is used again; `None` when it is, or has grown, too large for that.
///
/// The file's position is neither used nor moved.
pub(crate) fn read_small<'b>(
    file: &File,
    size: u64,
    buffer: &'b mut Vec<u8>,
) -> io::Result<Option<&'b [u8]>> {
    if size > SMALL {
        return Ok(None);
    }
    let (size, most) = (size as usize, SMALL as usize);
    let mut filled = 0;
    while filled <= most {
        // One more than there is, so that the end is found without a second call.
        let room = if filled > size { most } else { size } + 1;
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        match file.read_at(&mut buffer[filled..room], filled as u64) {
            Ok(0) => return Ok(Some(&buffer[..filled])),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if filled == size {
            return Ok(Some(&buffer[..filled]));
        }
    }
    Ok(None)
}
