//! Storing many blobs for the price of one sync.
//!
//! In a durable store: write all, sync the file system once, rename all, sync again, answer.
//! Syncing each file instead costs ten to fifty times as much, and not syncing leaves empty files under final names after a power cut.

use std::io;

use vx_proto::Digest;

use crate::error::PutError;
use crate::platform;
use crate::stage::{Pending, Stored};
use crate::store::{Durability, Store};

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
    pending: Vec<Pending>,
    bytes: u64,
}

impl Store {
    /// Starts a group.
    pub fn group(&self) -> Group {
        Group {
            store: self.clone(),
            pending: Vec::new(),
            bytes: 0,
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
}

impl Group {
    /// Adds a blob that [`BlobWriter::finish`](crate::BlobWriter::finish) or [`Store::stage_file`] has written.
    pub fn add(&mut self, pending: Pending) {
        self.bytes += if pending.temp.is_some() {
            pending.digest.size
        } else {
            0
        };
        self.pending.push(pending);
    }

    /// Whether the group has grown so far that waiting for more gains nothing.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= MAX_BLOBS || self.bytes >= MAX_BYTES
    }

    /// Makes all blobs visible and answers for each, in the order in which they were added.
    ///
    /// In a durable store all of them are on disk when this returns; when the sync fails none counts as stored.
    pub fn commit(self) -> Vec<Result<Stored, PutError>> {
        let Group { store, pending, .. } = self;
        if pending.is_empty() {
            return Vec::new();
        }
        let sync = || match store.inner.durability {
            Durability::Cheap => Ok(()),
            Durability::Grouped => platform::sync_file_system(&store.inner.root_dir),
        };
        let names: Vec<Digest> = pending.iter().map(Pending::digest).collect();
        let failed = |digest: &Digest, source| {
            PutError::storing(format!("blob `{digest}`"), digest.size, source)
        };
        if let Err(error) = sync() {
            return names
                .iter()
                .map(|name| Err(failed(name, again(&error))))
                .collect();
        }
        let mut answers: Vec<Result<Stored, PutError>> = pending
            .into_iter()
            .zip(&names)
            .map(|(pending, name)| {
                store
                    .inner
                    .publish(pending, false)
                    .map_err(|source| failed(name, source))
            })
            .collect();
        if let Err(error) = sync() {
            for (answer, name) in answers.iter_mut().zip(&names) {
                *answer = Err(failed(name, again(&error)));
            }
        }
        answers
    }
}

/// One failed sync is told for every blob of the group.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}
