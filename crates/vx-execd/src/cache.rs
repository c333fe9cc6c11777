//! Blobs that actions need, kept on this machine.
//!
//! What is wanted by several actions at the same time is fetched once.
//! Whatever the executor has produced is here as well, so that dependents which run here need no download.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cas_store::Store;
use futures_util::{StreamExt, stream};
use prost::Message;
use tokio::sync::watch;
use vx_proto::Digest;
use vx_proto::cas::CasClient;

use crate::failure::{Failure, blocking};

/// Blobs up to this size are fetched many at a time, in memory.
const SMALL: u64 = 1 << 20;
/// Bytes held in memory by one group of small blobs.
const GROUP: u64 = 16 << 20;
/// Large blobs that are fetched at the same time for one action.
const STREAMS: usize = 4;
/// The largest message (action, command, directory) that is looked at.
const MESSAGE_LIMIT: u64 = 64 << 20;

/// The local cache in front of the store. Clones share it.
#[derive(Clone)]
pub(crate) struct Cache {
    store: Store,
    cas: CasClient,
    scratch: PathBuf,
    numbers: Arc<AtomicU64>,
    flights: Arc<Mutex<HashMap<Digest, watch::Receiver<()>>>>,
}

impl Cache {
    /// A cache in `store`; large blobs arrive in the directory `scratch` first.
    pub(crate) fn new(store: Store, cas: CasClient, scratch: PathBuf) -> Cache {
        Cache {
            store,
            cas,
            scratch,
            numbers: Arc::default(),
            flights: Arc::default(),
        }
    }

    /// The blobs on disk.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The store behind.
    pub(crate) fn cas(&self) -> &CasClient {
        &self.cas
    }

    /// Returns when all of `digests` are here.
    pub(crate) async fn ensure(&self, mut digests: Vec<Digest>) -> Result<(), Failure> {
        digests.sort_unstable();
        digests.dedup();
        digests.retain(|digest| !digest.is_empty());
        while !digests.is_empty() {
            let store = self.store.clone();
            digests = blocking(move || store.missing(&digests).map_err(Failure::cache)).await?;
            let (mine, theirs) = self.divide(&digests);
            if !mine.digests.is_empty() {
                self.fetch(&mine.digests).await?;
            }
            drop(mine);
            for mut flight in theirs {
                // Its owner drops the sender, whether it was successful or not; then we look again.
                drop(flight.changed().await);
            }
        }
        Ok(())
    }

    /// A message that is stored as a blob.
    pub(crate) async fn message<M: Message + Default>(&self, digest: Digest) -> Result<M, Failure> {
        let mut found = self.messages(vec![digest]).await?;
        found.pop().ok_or_else(|| Failure::Missing(vec![digest]))
    }

    /// Several messages, in order.
    pub(crate) async fn messages<M: Message + Default>(
        &self,
        digests: Vec<Digest>,
    ) -> Result<Vec<M>, Failure> {
        if let Some(large) = digests.iter().find(|digest| digest.size > MESSAGE_LIMIT) {
            return Err(Failure::Invalid(format!(
                "`{large}` is too large for a message"
            )));
        }
        self.ensure(digests.clone()).await?;
        let store = self.store.clone();
        let blobs = blocking(move || {
            let read = |digest: &Digest| {
                let bytes = store.read(digest).map_err(Failure::cache)?;
                bytes
                    .ok_or_else(|| Failure::Missing(vec![*digest]))
                    .map(|bytes| (*digest, bytes))
            };
            digests.iter().map(read).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        let decode = |(digest, bytes): (Digest, Vec<u8>)| {
            M::decode(bytes.as_slice())
                .map_err(|error| Failure::Invalid(format!("`{digest}` is no message: {error}")))
        };
        blobs.into_iter().map(decode).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<()>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divide(&self, digests: &[Digest]) -> (Flight<'_>, Vec<watch::Receiver<()>>) {
        let (sender, receiver) = watch::channel(());
        let mut mine = Flight {
            cache: self,
            digests: Vec::new(),
            _sender: sender,
        };
        let mut theirs = Vec::new();
        let mut flights = self.lock();
        for digest in digests {
            match flights.get(digest) {
                Some(flight) => theirs.push(flight.clone()),
                None => {
                    flights.insert(*digest, receiver.clone());
                    mine.digests.push(*digest);
                }
            }
        }
        (mine, theirs)
    }

    async fn fetch(&self, digests: &[Digest]) -> Result<(), Failure> {
        let mut missing = Vec::new();
        let (small, large): (Vec<Digest>, Vec<Digest>) =
            digests.iter().partition(|digest| digest.size <= SMALL);
        for group in groups(small) {
            let blobs = self
                .cas
                .read_batch(&group)
                .await
                .map_err(Failure::store("fetch inputs"))?;
            let mut there = Vec::with_capacity(group.len());
            for (digest, bytes) in group.into_iter().zip(blobs) {
                match bytes {
                    Some(bytes) => there.push((digest, bytes)),
                    None => missing.push(digest),
                }
            }
            let store = self.store.clone();
            blocking(move || put(&store, &there)).await?;
        }
        let fetched: Vec<Result<Option<Digest>, Failure>> = stream::iter(large)
            .map(|digest| self.fetch_large(digest))
            .buffer_unordered(STREAMS)
            .collect()
            .await;
        for result in fetched {
            missing.extend(result?);
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Failure::Missing(missing))
        }
    }

    /// The digest comes back when the store does not have the blob.
    async fn fetch_large(&self, digest: Digest) -> Result<Option<Digest>, Failure> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival(self.scratch.join(format!("fetch-{number}")));
        let found = self.cas.read_to_file(&digest, &arrival.0).await;
        if !found.map_err(Failure::store("fetch an input"))? {
            return Ok(Some(digest));
        }
        let store = self.store.clone();
        blocking(move || {
            store
                .ingest_file(&arrival.0, false)
                .map_err(Failure::cache)?;
            Ok(None)
        })
        .await
    }
}

/// The fetch of blobs that nobody else fetches; others see its end, however it comes.
struct Flight<'a> {
    cache: &'a Cache,
    digests: Vec<Digest>,
    _sender: watch::Sender<()>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.cache.lock();
        for digest in &self.digests {
            flights.remove(digest);
        }
    }
}

/// A file that is removed in the end; small enough a step not to matter where it happens.
struct Arrival(PathBuf);

impl Drop for Arrival {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        drop(std::fs::remove_file(path));
    }
}

fn groups(digests: Vec<Digest>) -> Vec<Vec<Digest>> {
    let mut groups: Vec<Vec<Digest>> = Vec::new();
    let mut filled = GROUP;
    for digest in digests {
        match groups.last_mut() {
            Some(last) if filled + digest.size <= GROUP => {
                filled += digest.size;
                last.push(digest);
            }
            _ => {
                filled = digest.size;
                groups.push(vec![digest]);
            }
        }
    }
    groups
}

fn put(store: &Store, blobs: &[(Digest, Bytes)]) -> Result<(), Failure> {
    let blobs: Vec<(Digest, &[u8])> = blobs
        .iter()
        .map(|(digest, bytes)| (*digest, bytes.as_ref()))
        .collect();
    for stored in store.put_many(&blobs) {
        stored.map_err(Failure::cache)?;
    }
    Ok(())
}

/// The digests in a list, each once.
pub(crate) fn distinct(digests: impl IntoIterator<Item = Digest>) -> Vec<Digest> {
    let mut seen = HashSet::new();
    digests
        .into_iter()
        .filter(|digest| seen.insert(*digest))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_no_more_than_their_limit() {
        let sized = |size| Digest {
            hash: [0; 32],
            size,
        };
        let found = groups(vec![sized(GROUP), sized(1), sized(GROUP - 1), sized(1)]);
        let sizes: Vec<Vec<u64>> = found
            .iter()
            .map(|group| group.iter().map(|digest| digest.size).collect())
            .collect();
        assert_eq!(sizes, [vec![GROUP], vec![1, GROUP - 1], vec![1]]);
    }
}
