//! Walking a tree of directories, page by page.
//!
//! The order is breadth first, each directory once however often it is used, so
//! it is the same in every walk and a page can be named by how many directories
//! come before it.

use std::collections::{HashSet, VecDeque};

use cas_store::Store;
use prost::Message;
use tonic::Status;
use vx_proto::{Digest, DigestFunction, reapi};

use crate::storage;

/// Directories in one page, unless fewer are asked for.
const PAGE_DIRECTORIES: usize = 1000;
/// Encoded bytes in one page, by which it may be exceeded by one directory.
const PAGE_BYTES: u64 = 1024 * 1024;
/// The largest directory that fits into a message beside a full page.
pub(crate) const MAX_DIRECTORY_BYTES: u64 = 3 * 1024 * 1024;
/// Directories in one tree; what is known of each takes about 100 bytes here.
pub(crate) const MAX_DIRECTORIES: usize = 200_000;

/// A walk that stands before some page.
#[derive(Debug)]
pub(crate) struct Walk {
    function: DigestFunction,
    root: Digest,
    queue: VecDeque<Digest>,
    seen: HashSet<Digest>,
    page_size: usize,
    /// Directories before the page that was asked for.
    skip: usize,
    sent: usize,
}

impl Walk {
    /// A walk to the page of a token; the empty token is the first page.
    pub(crate) fn new(
        function: DigestFunction,
        root: Digest,
        page_size: i32,
        token: &str,
    ) -> Result<Walk, Status> {
        let skip = match token {
            "" => 0,
            token => token.parse().map_err(|_| {
                Status::invalid_argument(format!("`{token}` is not a page token of this server"))
            })?,
        };
        let page_size = match usize::try_from(page_size) {
            Ok(0) => PAGE_DIRECTORIES,
            Ok(size) => size.min(PAGE_DIRECTORIES),
            Err(_) => return Err(Status::invalid_argument("the page size is negative")),
        };
        Ok(Walk {
            function,
            root,
            queue: VecDeque::from([root]),
            seen: HashSet::from([root]),
            page_size,
            skip,
            sent: 0,
        })
    }

    /// The next page. Directories that are not in the store are left out, except
    /// for the root, without which there is no tree.
    pub(crate) fn next_page(&mut self, store: &Store) -> Result<reapi::GetTreeResponse, Status> {
        let mut page = reapi::GetTreeResponse::default();
        let mut bytes = 0;
        while page.directories.len() < self.page_size && bytes < PAGE_BYTES {
            let Some(digest) = self.queue.pop_front() else {
                return Ok(page);
            };
            let Some(directory) = read_directory(store, self.function, &digest)? else {
                if digest == self.root {
                    return Err(Status::not_found(format!("tree `{digest}` is not here")));
                }
                continue;
            };
            for child in &directory.directories {
                let child = storage::digest(child.digest.as_ref())?;
                if self.seen.insert(child) {
                    self.queue.push_back(child);
                }
            }
            if self.seen.len() > MAX_DIRECTORIES {
                return Err(too_large(&self.root));
            }
            self.sent += 1;
            if self.sent > self.skip {
                bytes += digest.size;
                page.directories.push(directory);
            }
        }
        if !self.queue.is_empty() {
            page.next_page_token = self.sent.to_string();
        }
        Ok(page)
    }
}

/// A directory that is in the store.
pub(crate) fn read_directory(
    store: &Store,
    function: DigestFunction,
    digest: &Digest,
) -> Result<Option<reapi::Directory>, Status> {
    if digest.size > MAX_DIRECTORY_BYTES {
        return Err(Status::invalid_argument(format!(
            "directory `{digest}` is larger than {MAX_DIRECTORY_BYTES} bytes"
        )));
    }
    let Some(bytes) = storage::read(store, function, digest).map_err(crate::failure::read)? else {
        return Ok(None);
    };
    reapi::Directory::decode(bytes.as_slice())
        .map(Some)
        .map_err(|_| Status::invalid_argument(format!("blob `{digest}` is not a directory")))
}

/// The answer for a tree beyond the limit.
pub(crate) fn too_large(root: &Digest) -> Status {
    Status::invalid_argument(format!(
        "the tree `{root}` has more than {MAX_DIRECTORIES} directories"
    ))
}
