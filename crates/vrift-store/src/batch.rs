//! Blobs that become durable together, while the next ones are written.
//!
//! As in an ingest without a daemon, a slow disk gets few large groups, and one sync covers both a group and the names of the one before.

use std::io;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use cas_store::{PutError, Source, Store};
use vx_digest::Digest;

use crate::error::Error;

/// What is worth a sync while more is being written.
const ENOUGH_BLOBS: usize = 2048;
/// The same, in bytes.
const ENOUGH_BYTES: u64 = 64 << 20;
/// Blobs that wait for the sync that is under way; nothing more is written until it is through.
const MOST_BLOBS: usize = 16_384;
/// The same, in bytes.
const MOST_BYTES: u64 = 256 << 20;

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
        let (blobs, bytes) = self.filling().staged();
        if blobs >= ENOUGH_BLOBS || bytes >= ENOUGH_BYTES {
            self.send_off(blobs >= MOST_BLOBS || bytes >= MOST_BYTES)?;
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

    /// Begins a new group while the full one is written; not before the one before it is, for which it may wait.
    fn send_off(&self, may_wait: bool) -> Result<(), Error> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if !may_wait && leaving.as_ref().is_some_and(|group| !group.is_finished()) {
            return Ok(());
        }
        wait_for(leaving.take())?;
        let mut filling = self.filling.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        let (blobs, bytes) = filling.staged();
        if blobs < ENOUGH_BLOBS && bytes < ENOUGH_BYTES {
            return Ok(());
        }
        let full = std::mem::replace(&mut *filling, self.store.group());
        let started = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || publish(full))
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
        publish(full)?;
        Ok(self.store.sync()?)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Writes a group; its names are on disk after the next sync.
fn publish(group: cas_store::Group) -> Result<(), PutError> {
    group
        .publish()
        .into_iter()
        .try_for_each(|stored| stored.map(drop))
}

fn wait_for(leaving: Option<JoinHandle<Result<(), PutError>>>) -> Result<(), Error> {
    match leaving.map(JoinHandle::join) {
        None => Ok(()),
        Some(Ok(result)) => Ok(result?),
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}
