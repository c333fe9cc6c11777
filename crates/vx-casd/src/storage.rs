//! The store as the services see it: asynchronous, and with both digest
//! functions.

use cas_store::{ReadError, Store};
use tonic::Status;
use vx_proto::{Digest, DigestFunction, reapi};

use crate::failure;

/// A store that is used from threads that may block. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    store: Store,
}

impl Storage {
    pub(crate) fn new(store: Store) -> Storage {
        Storage { store }
    }

    /// Does something with the store on a thread that may block.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, Status> + Send + 'static,
    {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|_| Status::internal("the store did not finish the request"))?
    }
}

/// The name that a blob has in the store; `None` when the store knows no blob of
/// that SHA-256.
pub(crate) fn resolve(
    store: &Store,
    function: DigestFunction,
    digest: &Digest,
) -> Result<Option<Digest>, ReadError> {
    match function {
        DigestFunction::Blake3 => Ok(Some(*digest)),
        DigestFunction::Sha256 => store.by_sha256(&digest.hash, digest.size),
    }
}

/// Whether a blob is there; what is there is kept for some time.
pub(crate) fn contains(
    store: &Store,
    function: DigestFunction,
    digest: &Digest,
) -> Result<bool, ReadError> {
    match resolve(store, function, digest)? {
        Some(name) => store.contains(&name),
        None => Ok(false),
    }
}

/// The content of a blob, when it is there and undamaged.
pub(crate) fn read(
    store: &Store,
    function: DigestFunction,
    digest: &Digest,
) -> Result<Option<Vec<u8>>, ReadError> {
    match resolve(store, function, digest)? {
        Some(name) => store.read(&name),
        None => Ok(None),
    }
}

/// The digest in a request.
pub(crate) fn digest(digest: Option<&reapi::Digest>) -> Result<Digest, Status> {
    vx_proto::digest::required(digest).map_err(failure::bad_digest)
}

/// The digest function of a request.
pub(crate) fn function(number: i32) -> Result<DigestFunction, Status> {
    vx_proto::digest::function_of_number(number).map_err(failure::bad_digest)
}
