//! Blobs that become durable together, while the next ones are written.

use std::io;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use cas_store::{PutError, Source, Store};
use vx_proto::Digest;

use crate::error::Error;

/// Blobs that are written and not yet visible; dropped before [`Batch::commit`], they are forgotten.
#[derive(Debug)]
pub struct Batch {
    store: Store,
    filling: RwLock<cas_store::Group>,
    /// The group before, on its way to the disk.
    leaving: Mutex<Option<JoinHandle<Result<(), PutError>>>>,
}

impl Batch {
    pub(crate) fn new(store: &Store) -> Batch {
        Batch {
            store: store.clone(),
            filling: RwLock::new(store.group()),
            leaving: Mutex::default(),
        }
    }

    /// Writes a copy of a file; when the batch has grown large, what is in it becomes durable meanwhile.
    ///
    /// Several threads may do this at once.
    ///
    /// # Errors
    /// When the store takes nothing more; a file that cannot be read is the inner error.
    pub fn add(&self, source: Source<'_>) -> Result<io::Result<Digest>, Error> {
        let is_full = self.filling().is_full();
        if is_full {
            self.send_off()?;
        }
        match self.filling().take_in(source) {
            Ok(digest) => Ok(Ok(digest)),
            Err(PutError::Source { source, .. }) => Ok(Err(source)),
            Err(error) => Err(error.into()),
        }
    }

    fn filling(&self) -> RwLockReadGuard<'_, cas_store::Group> {
        self.filling.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new group while the full one is written, after the one before it is.
    fn send_off(&self) -> Result<(), Error> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        wait_for(leaving.take())?;
        let mut filling = self.filling.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        if !filling.is_full() {
            return Ok(());
        }
        let full = std::mem::replace(&mut *filling, self.store.group());
        let commit = move || {
            full.commit()
                .into_iter()
                .try_for_each(|stored| stored.map(drop))
        };
        let started = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(commit)
            .map_err(Error::io("start a thread for", self.store.root()))?;
        *leaving = Some(started);
        Ok(())
    }

    /// Forgets what has not been sent off, and waits for what has.
    pub fn give_up(&self) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for these any more.
        let _unasked = wait_for(leaving.take());
        let mut filling = self.filling.write().unwrap_or_else(PoisonError::into_inner);
        *filling = self.store.group();
    }

    /// Makes everything durable and visible.
    ///
    /// # Errors
    /// The first one; what it concerns is not stored.
    pub fn commit(&self) -> Result<(), Error> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let before = wait_for(leaving.take());
        let mut filling = self.filling.write().unwrap_or_else(PoisonError::into_inner);
        let full = std::mem::replace(&mut *filling, self.store.group());
        before?;
        for stored in full.commit() {
            stored?;
        }
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn wait_for(leaving: Option<JoinHandle<Result<(), PutError>>>) -> Result<(), Error> {
    match leaving.map(JoinHandle::join) {
        None => Ok(()),
        Some(Ok(result)) => Ok(result?),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}
