//! Storing many blobs for the price of one sync.
//!
//! In a durable store: write all, sync the file system once, rename all, sync again, answer.
//! Syncing each file instead costs ten to fifty times as much, and not syncing leaves empty files under final names after a power cut.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vx_digest::Digest;

use crate::error::PutError;
use crate::intake::Source;
use crate::parts::in_parts;
use crate::platform;
use crate::stage::{Pending, Stored};
use crate::store::{Durability, Inner, Store};

/// Blobs in one sync: beyond this the sync is spread over enough of them.
const MAX_BLOBS: usize = 4096;
/// Bytes in one sync.
const MAX_BYTES: u64 = 256 << 20;

/// Blobs that are staged and will become visible together.
///
/// Dropped before [`Group::commit`], none of them does.
#[derive(Debug)]
#[must_use = "nothing is stored before `commit`"]
pub struct Group {
    store: Store,
    filling: Mutex<Filling>,
}

#[derive(Debug, Default)]
struct Filling {
    pending: Vec<Pending>,
    bytes: u64,
    /// What [`Group::take_in`] has written or is writing.
    contents: HashSet<Digest>,
}

impl Filling {
    fn add(&mut self, pending: Pending) {
        if pending.temp.is_some() {
            self.bytes += pending.digest.size;
        }
        self.pending.push(pending);
    }
}

impl Store {
    /// Starts a group.
    pub fn group(&self) -> Group {
        Group {
            store: self.clone(),
            filling: Mutex::default(),
        }
    }

    /// Stores several blobs and answers for each, in their order.
    ///
    /// Each must have the bytes of its digest; one that has not does not keep the others out.
    pub fn put_many(&self, blobs: &[(Digest, &[u8])]) -> Vec<Result<Stored, PutError>> {
        let mut answers: Vec<Option<Result<Stored, PutError>>> = Vec::new();
        let mut group = self.group();
        let mut places = Vec::new();
        let commit = |group: Group, places: &mut Vec<usize>, answers: &mut Vec<_>| {
            for (place, answer) in places.drain(..).zip(group.commit()) {
                answers[place] = Some(answer);
            }
        };
        for (digest, bytes) in blobs {
            match self.stage_bytes(digest, bytes, false) {
                Ok(pending) => {
                    places.push(answers.len());
                    answers.push(None);
                    group.add(pending);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
            if group.is_full() {
                let full = std::mem::replace(&mut group, self.group());
                commit(full, &mut places, &mut answers);
            }
        }
        commit(group, &mut places, &mut answers);
        answers.into_iter().flatten().collect()
    }

    /// Brings what [`Group::publish`] has named to the disk, if the store promises that.
    pub fn sync(&self) -> Result<(), PutError> {
        let failed = |source| PutError::storing("the names of blobs", 0, source);
        self.inner.sync().map_err(failed)
    }
}

impl Group {
    /// The tables are whole between any two statements.
    fn filling(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a blob that [`BlobWriter::finish`](crate::BlobWriter::finish) or [`Store::stage_file`] has written.
    pub fn add(&mut self, pending: Pending) {
        self.filling().add(pending);
    }

    /// Writes a copy of a file, unless the group has its content already, and returns its digest.
    ///
    /// Several threads may do this at once.
    ///
    /// # Errors
    /// [`PutError::Source`] when the file cannot be read; others when the store takes nothing more.
    pub fn take_in(&self, mut source: Source<'_>) -> Result<Digest, PutError> {
        let is_first = |digest| self.filling().contents.insert(digest);
        let (digest, pending) = self
            .store
            .stage_first(&mut source, &mut Vec::new(), is_first)?;
        if let Some(pending) = pending {
            self.filling().add(pending);
        }
        Ok(digest)
    }

    /// Whether the group has grown so far that waiting for more gains nothing.
    fn is_full(&self) -> bool {
        let filling = self.filling();
        filling.pending.len() >= MAX_BLOBS || filling.bytes >= MAX_BYTES
    }

    /// The number of blobs in it, and the bytes that were written for them.
    pub fn staged(&self) -> (usize, u64) {
        let filling = self.filling();
        (filling.pending.len(), filling.bytes)
    }

    /// Makes all blobs visible and answers for each, in the order in which they were added.
    ///
    /// In a durable store all of them are on disk when this returns; when the sync fails none counts as stored.
    pub fn commit(self) -> Vec<Result<Stored, PutError>> {
        let store = self.store.clone();
        let mut answers = self.publish();
        if !answers.is_empty()
            && let Err(error) = store.inner.sync()
        {
            for answer in &mut answers {
                if let Ok(Stored { digest, .. }) = answer {
                    *answer = Err(not_stored(digest, again(&error)));
                }
            }
        }
        answers
    }

    /// As [`Group::commit`], but nothing counts as stored before [`Store::sync`] has succeeded.
    pub fn publish(self) -> Vec<Result<Stored, PutError>> {
        let Group { store, filling } = self;
        let pending = filling
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .pending;
        if pending.is_empty() {
            return Vec::new();
        }
        let names: Vec<Digest> = pending.iter().map(Pending::digest).collect();
        if let Err(error) = store.inner.sync() {
            return names
                .iter()
                .map(|name| Err(not_stored(name, again(&error))))
                .collect();
        }
        let pending = pending.into_iter().enumerate().collect();
        let mut published = store.inner.publish_all(pending);
        published.sort_unstable_by_key(|(index, _)| *index);
        published
            .into_iter()
            .zip(&names)
            .map(|((_, answer), name)| answer.map_err(|source| not_stored(name, source)))
            .collect()
    }
}

/// Below this a thread costs more than it saves.
const PER_THREAD: usize = 256;

impl Inner {
    /// Writes what was staged and what was named, if this store promises that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self.durability {
            Durability::Cheap => Ok(()),
            Durability::Grouped => platform::sync_file_system(&self.root_dir),
        }
    }

    /// Makes blobs visible, many on several threads, and answers for each by its number; in no order, and not synced.
    pub(crate) fn publish_all(
        &self,
        mut pending: Vec<(usize, Pending)>,
    ) -> Vec<(usize, io::Result<Stored>)> {
        // Neighbours share directories.
        pending.sort_unstable_by_key(|(_, pending)| pending.digest.hash);
        let published = in_parts(pending, PER_THREAD, |part| {
            let mut cursor = self.blobs.cursor();
            part.into_iter()
                .map(|(index, pending)| (index, self.publish_next(&mut cursor, pending)))
                .collect::<Vec<_>>()
        });
        published.into_iter().flatten().collect()
    }
}

fn not_stored(digest: &Digest, source: io::Error) -> PutError {
    PutError::storing(format!("blob `{digest}`"), digest.size, source)
}

/// One failed sync is told for every blob of the group.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}
