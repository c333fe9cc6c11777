//! A cache: its place, its limits, and looking into it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::entry::{self, Entry, Found};
use crate::error::Error;
use crate::evict;
use crate::http::Clients;
use crate::layout::Layout;
use crate::options::Options;

/// A download cache; cheap to clone. Any number of processes may use the same
/// directory at the same time.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    dir: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) clients: Clients,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
}

/// Held by the one task of this process that may wait for the lock of a digest;
/// so a process has one waiting thread for a digest, however many tasks want it.
pub(crate) type Flight = tokio::sync::Mutex<()>;

impl Cache {
    /// Uses the directory as a cache, and makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Cache, Error> {
        let dir = dir.as_ref();
        let failed = |source| Error::cache("find", dir)(source);
        let dir = std::path::absolute(dir).map_err(failed)?;
        let layout = Layout::new(&dir);
        for dir in layout.dirs() {
            std::fs::create_dir_all(&dir).map_err(Error::cache("create", dir))?;
        }
        Ok(Cache {
            inner: Arc::new(Inner {
                dir,
                layout,
                options,
                clients: Clients::default(),
                flights: Mutex::default(),
            }),
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The file, if the cache has it; never asks a network. An entry that does
    /// not have its digest counts as none. Reads the whole file.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub fn lookup(&self, digest: &Digest) -> Result<Option<Entry>, Error> {
        match entry::look(&self.inner.layout.entry(digest), digest)? {
            Found::Good(entry) => Ok(Some(entry)),
            Found::Nothing | Found::Corrupt => Ok(None),
        }
    }

    /// Removes what was used longest ago, until the rest is within the size
    /// limit; each download does that. Returns how many bytes were removed.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn evict(&self) -> Result<u64, Error> {
        evict::evict(&self.inner.layout, self.inner.options.size_limit)
            .map_err(Error::cache("clean up", self.dir()))
    }
}

impl Inner {
    /// Puts a wrong entry aside; the caller has the lock of its digest.
    pub(crate) fn quarantine(&self, digest: &Digest) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let stamp = now.map_or(0, |duration| duration.as_nanos());
        let from = self.layout.entry(digest);
        std::fs::rename(&from, self.layout.quarantine(digest, stamp))
            .map_err(Error::cache("quarantine", from))
    }

    pub(crate) fn flight(&self, digest: &Digest) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(Flight::default());
        flights.insert(*digest, Arc::downgrade(&flight));
        flight
    }
}
