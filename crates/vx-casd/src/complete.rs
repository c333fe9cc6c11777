//! Whether everything that an action result refers to is in the store.
//!
//! The answer is asked of the store each time; only what a directory consists of
//! is remembered, which never changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cas_store::Store;
use prost::Message;
use tonic::Status;
use vx_proto::{Digest, DigestFunction, reapi};

use crate::trees::{MAX_DIRECTORIES, read_directory, too_large};
use crate::{failure, storage};

/// Digests that are remembered, 40 bytes each.
const REMEMBERED: usize = 100_000;
/// The largest `Tree` message that is read, in bytes.
const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;

/// Remembers which blobs output directories consist of.
#[derive(Debug, Default)]
pub(crate) struct Completeness {
    listings: Mutex<Listings>,
}

#[derive(Debug, Default)]
struct Listings {
    by_root: HashMap<Digest, Arc<[Digest]>>,
    digests: usize,
}

impl Completeness {
    /// The blobs of a result that are not in the store; those that are will be
    /// kept for some time.
    pub(crate) fn missing(
        &self,
        store: &Store,
        function: DigestFunction,
        result: &reapi::ActionResult,
    ) -> Result<Vec<Digest>, Status> {
        let mut wanted = Vec::new();
        for file in &result.output_files {
            wanted.push(storage::digest(file.digest.as_ref())?);
        }
        for digest in result.stdout_digest.iter().chain(&result.stderr_digest) {
            wanted.push(storage::digest(Some(digest))?);
        }
        let mut missing = HashSet::new();
        for directory in &result.output_directories {
            for (digest, list) in [
                (
                    &directory.root_directory_digest,
                    list_directories as fn(&Store, DigestFunction, Digest) -> Result<_, Status>,
                ),
                (&directory.tree_digest, list_tree),
            ] {
                let Some(digest) = digest else { continue };
                let digest = storage::digest(Some(digest))?;
                match self.listing(store, function, digest, list)? {
                    Ok(listing) => wanted.extend_from_slice(&listing),
                    Err(gone) => {
                        missing.insert(gone);
                    }
                }
            }
        }
        for digest in wanted {
            if !missing.contains(&digest)
                && !storage::contains(store, function, &digest).map_err(failure::read)?
            {
                missing.insert(digest);
            }
        }
        let mut missing: Vec<Digest> = missing.into_iter().collect();
        missing.sort_unstable();
        Ok(missing)
    }

    fn listing(
        &self,
        store: &Store,
        function: DigestFunction,
        root: Digest,
        list: fn(&Store, DigestFunction, Digest) -> Result<Listing, Status>,
    ) -> Result<Result<Arc<[Digest]>, Digest>, Status> {
        // What is in the map is never half changed.
        let lock = || self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().by_root.get(&root) {
            return Ok(Ok(Arc::clone(known)));
        }
        let listing: Arc<[Digest]> = match list(store, function, root)? {
            Ok(listing) => listing.into(),
            Err(gone) => return Ok(Err(gone)),
        };
        let mut listings = lock();
        if listings.digests + listing.len() > REMEMBERED {
            *listings = Listings::default();
        }
        if listing.len() <= REMEMBERED
            && listings
                .by_root
                .insert(root, Arc::clone(&listing))
                .is_none()
        {
            listings.digests += listing.len();
        }
        Ok(Ok(listing))
    }
}

/// All blobs below a root with the root, or the one without which that is not
/// known.
type Listing = Result<Vec<Digest>, Digest>;

fn list_directories(
    store: &Store,
    function: DigestFunction,
    root: Digest,
) -> Result<Listing, Status> {
    let mut seen = HashSet::from([root]);
    let mut blobs = HashSet::new();
    let mut open = vec![root];
    while let Some(digest) = open.pop() {
        let Some(directory) = read_directory(store, function, &digest)? else {
            return Ok(Err(digest));
        };
        files(&directory, &mut blobs)?;
        for child in &directory.directories {
            let child = storage::digest(child.digest.as_ref())?;
            if seen.insert(child) {
                open.push(child);
            }
        }
        if seen.len() > MAX_DIRECTORIES {
            return Err(too_large(&root));
        }
    }
    blobs.extend(seen);
    Ok(Ok(blobs.into_iter().collect()))
}

fn list_tree(store: &Store, function: DigestFunction, tree: Digest) -> Result<Listing, Status> {
    if tree.size > MAX_TREE_BYTES {
        return Err(Status::invalid_argument(format!(
            "tree `{tree}` is larger than {MAX_TREE_BYTES} bytes"
        )));
    }
    let Some(bytes) = storage::read(store, function, &tree).map_err(failure::read)? else {
        return Ok(Err(tree));
    };
    let message = reapi::Tree::decode(bytes.as_slice())
        .map_err(|_| Status::invalid_argument(format!("blob `{tree}` is not a tree")))?;
    let mut blobs = HashSet::from([tree]);
    for directory in message.root.iter().chain(&message.children) {
        files(directory, &mut blobs)?;
    }
    Ok(Ok(blobs.into_iter().collect()))
}

fn files(directory: &reapi::Directory, blobs: &mut HashSet<Digest>) -> Result<(), Status> {
    for file in &directory.files {
        blobs.insert(storage::digest(file.digest.as_ref())?);
    }
    Ok(())
}
