//! Storing a blob that comes in pieces, of any size, in constant memory.

use std::io::{self, Write};

use vx_digest::{Digest, DigestFunction, Hasher};

use crate::error::PutError;
use crate::layout::Kind;
use crate::scratch::Temp;
use crate::stage::{self, Pending, Stored};
use crate::store::Store;

/// A blob being written; dropped before [`BlobWriter::commit`], nothing of it remains.
///
/// An error is final: the temporary file is removed at once, and every later call fails.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    /// `None` after an error.
    temp: Option<Temp>,
    hasher: Hasher,
    sha256: Option<Hasher>,
    expected: Option<Expected>,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Blake3(Digest),
    Sha256(Digest),
}

impl Expected {
    fn digest(&self) -> &Digest {
        match self {
            Expected::Blake3(digest) | Expected::Sha256(digest) => digest,
        }
    }
}

impl Store {
    /// Starts a blob, which must turn out to be `expected` if that is given.
    pub fn writer(&self, expected: Option<Digest>) -> Result<BlobWriter, PutError> {
        self.start(expected.map(Expected::Blake3))
    }

    /// Starts a blob that must turn out to have the SHA-256 digest `expected`, to be stored under both names.
    pub fn writer_sha256(&self, expected: Digest) -> Result<BlobWriter, PutError> {
        self.start(Some(Expected::Sha256(expected)))
    }

    fn start(&self, expected: Option<Expected>) -> Result<BlobWriter, PutError> {
        let subject = subject(expected.as_ref());
        let needed = expected.map_or(0, |expected| expected.digest().size);
        let temp = self.inner.scratch.create(Kind::Plain.mode());
        Ok(BlobWriter {
            store: self.clone(),
            temp: Some(temp.map_err(|source| PutError::storing(subject, needed, source))?),
            hasher: DigestFunction::Blake3.hasher(),
            sha256: matches!(expected, Some(Expected::Sha256(_)))
                .then(|| DigestFunction::Sha256.hasher()),
            expected,
        })
    }
}

impl BlobWriter {
    /// The number of bytes so far.
    pub fn written(&self) -> u64 {
        self.hasher.size()
    }

    /// Adds bytes; more than were promised are refused before they are written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PutError> {
        let size = self.written() + bytes.len() as u64;
        if let Some(expected) = self.expected
            && size > expected.digest().size
        {
            self.temp = None;
            return Err(PutError::SizeMismatch {
                expected: *expected.digest(),
                actual: size,
            });
        }
        if let Err(source) = self.temp().and_then(|temp| temp.file()?.write_all(bytes)) {
            self.temp = None;
            let needed = self
                .expected
                .map_or(size, |expected| expected.digest().size);
            return Err(PutError::storing(
                subject(self.expected.as_ref()),
                needed,
                source,
            ));
        }
        self.hasher.update(bytes);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        Ok(())
    }

    /// Checks the blob and makes it visible.
    pub fn commit(self) -> Result<Stored, PutError> {
        let store = self.store.clone();
        let pending = self.stage(store.syncs_each())?;
        store.publish(pending)
    }

    /// Checks the blob, to be committed in a [`Group`](crate::Group).
    pub fn finish(self) -> Result<Pending, PutError> {
        self.stage(false)
    }

    pub(crate) fn stage(mut self, sync: bool) -> Result<Pending, PutError> {
        let size = self.written();
        let sealed = self.temp().and_then(|temp| temp.seal(sync));
        sealed
            .map_err(|source| PutError::storing(subject(self.expected.as_ref()), size, source))?;
        let digest = self.hasher.finish();
        let mut index = None;
        match (self.expected, self.sha256) {
            (Some(Expected::Blake3(expected)), _) => {
                stage::check(&expected, size, || digest)?;
            }
            (Some(Expected::Sha256(expected)), Some(sha256)) => {
                stage::check(&expected, size, || sha256.finish())?;
                index = self.store.stage_index(&expected, &digest, sync)?;
            }
            _ => {}
        }
        Ok(Pending {
            digest,
            temp: self.temp,
            index,
        })
    }

    fn temp(&mut self) -> io::Result<&mut Temp> {
        self.temp
            .as_mut()
            .ok_or_else(|| io::Error::other("the blob was given up after an error"))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.append(bytes) {
            Ok(()) => Ok(bytes.len()),
            // Callers look at the kind to tell a full disk.
            Err(PutError::NoSpace { source, .. } | PutError::Io { source, .. }) => Err(source),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn subject(expected: Option<&Expected>) -> String {
    match expected {
        Some(expected) => format!("blob `{}`", expected.digest()),
        None => "a blob".to_owned(),
    }
}
