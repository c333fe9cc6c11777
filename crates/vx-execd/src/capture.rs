//! What a command says on standard output and error: kept whole up to a limit, in memory while it is little.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use vx_proto::Digest;

use crate::cache::Cache;
use crate::failure::{Failure, blocking};

/// Up to this much goes into the result itself.
const INLINE: usize = 64 << 10;
/// More than this is cut off, and said so.
const LIMIT: u64 = 64 << 20;

/// What came through one pipe.
#[derive(Debug)]
pub(crate) struct Captured {
    head: Vec<u8>,
    /// Where all of it is, when it is more than fits in `head`.
    spill: Option<(PathBuf, std::fs::File)>,
    written: u64,
    cut: bool,
}

/// A stream as results have it: as bytes, or as the digest of a blob.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) raw: Bytes,
    pub(crate) blob: Option<Digest>,
}

/// A pipe for a command, and the task that reads it until all its writers are gone.
pub(crate) fn capture(
    spill: PathBuf,
) -> io::Result<(OwnedFd, impl Future<Output = io::Result<Captured>> + Send)> {
    let (read, write) = io::pipe()?;
    let receiver = pipe::Receiver::from_owned_fd(read.into())?;
    Ok((write.into(), read_all(receiver, spill)))
}

async fn read_all(mut pipe: pipe::Receiver, path: PathBuf) -> io::Result<Captured> {
    let mut captured = Captured {
        head: Vec::new(),
        spill: None,
        written: 0,
        cut: false,
    };
    let mut buffer = vec![0; INLINE];
    loop {
        let read = pipe.read(&mut buffer).await?;
        if read == 0 {
            return Ok(captured);
        }
        let room = usize::try_from(LIMIT - captured.written)
            .unwrap_or(usize::MAX)
            .min(read);
        captured.cut |= room < read;
        captured = captured.append(&buffer[..room], &path).await?;
    }
}

impl Captured {
    async fn append(mut self, bytes: &[u8], path: &Path) -> io::Result<Captured> {
        self.written += bytes.len() as u64;
        if self.spill.is_none() && self.head.len() + bytes.len() <= INLINE {
            self.head.extend_from_slice(bytes);
            return Ok(self);
        }
        let (path, bytes) = (path.to_owned(), bytes.to_vec());
        let write = move || -> io::Result<Captured> {
            use std::io::Write;
            if self.spill.is_none() {
                let mut file = std::fs::File::create_new(&path)?;
                file.write_all(&self.head)?;
                self.spill = Some((path, file));
            }
            if let Some((_, file)) = &mut self.spill {
                file.write_all(&bytes)?;
            }
            Ok(self)
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)?
    }

    /// Whether not all of it was kept, in words.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        self.cut
            .then(|| format!("{name} was cut off after {} MiB", LIMIT >> 20))
    }

    /// For a result; what is large becomes a blob of the local cache.
    pub(crate) async fn into_stream(self, cache: &Cache) -> Result<Stream, Failure> {
        let Some((path, file)) = self.spill else {
            return Ok(Stream {
                raw: self.head.into(),
                blob: None,
            });
        };
        drop(file);
        let store = cache.store().clone();
        let digest =
            blocking(move || store.ingest_file(&path, false).map_err(Failure::cache)).await?;
        Ok(Stream {
            raw: Bytes::new(),
            blob: Some(digest),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn captured(bytes: Vec<u8>) -> (Captured, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (write, reading) = capture(folder.path().join("spill")).unwrap();
        let writer = std::thread::spawn(move || {
            std::fs::File::from(write).write_all(&bytes).unwrap();
        });
        let captured = reading.await.unwrap();
        writer.join().unwrap();
        (captured, folder)
    }

    #[tokio::test]
    async fn little_stays_in_memory_and_much_goes_to_a_file() {
        let (little, folder) = captured(vec![7; INLINE]).await;
        assert_eq!((little.head.len(), little.cut), (INLINE, false));
        assert!(!folder.path().join("spill").exists());
        let (much, folder) = captured(vec![7; INLINE * 3 + 1]).await;
        assert!(!much.cut);
        let size = std::fs::metadata(folder.path().join("spill"))
            .unwrap()
            .len();
        assert_eq!(size, INLINE as u64 * 3 + 1);
    }

    #[tokio::test]
    async fn too_much_is_cut_off_and_said() {
        let (captured, folder) = captured(vec![7; LIMIT as usize + 5]).await;
        assert_eq!(
            captured.note("stdout").unwrap(),
            "stdout was cut off after 64 MiB"
        );
        assert_eq!(
            std::fs::metadata(folder.path().join("spill"))
                .unwrap()
                .len(),
            LIMIT
        );
    }
}
