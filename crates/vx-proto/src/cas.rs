//! Client of a store: blobs and action results, by digest.
//!
//! Small blobs travel in batches, large ones as streams; callers need not care.
//! Whatever is read is hashed again before it is handed out, so a store (or the
//! way to it) that damages blobs is found here. The client asks nothing of the
//! store that the Remote Execution API does not define.

mod download;
mod error;
mod upload;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub use error::CasError;

use crate::bytestream::byte_stream_client::ByteStreamClient;
use crate::reapi::action_cache_client::ActionCacheClient;
use crate::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use crate::token::{Bearer, Token};
use crate::{Digest, DigestFunction, MAX_MESSAGE_BYTES, reapi};

/// The largest sum of blobs in a batch of ours. Below the limit that servers
/// have by custom (4 MiB for a whole message), with room for digests.
const BATCH_BYTES: u64 = 3 * 1024 * 1024;
/// The largest number of blobs in a batch.
const BATCH_BLOBS: usize = 1000;
/// Blobs up to this size go into batches.
const SMALL_BYTES: u64 = 1024 * 1024;
/// Bytes in one message of a stream.
const CHUNK_BYTES: usize = 512 * 1024;
/// Calls of one operation that run at a time.
const CONCURRENCY: usize = 4;
/// Digests in one question for missing blobs; about 75 bytes each.
const FIND_DIGESTS: usize = 20_000;

type Service = InterceptedService<Channel, Bearer>;

/// A client of a store. Clones share the connection.
#[derive(Clone)]
pub struct CasClient {
    cas: ContentAddressableStorageClient<Service>,
    streams: ByteStreamClient<Service>,
    actions: ActionCacheClient<Service>,
    function: DigestFunction,
}

/// A blob that may have to be sent.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its digest, with the function of the client.
    pub digest: Digest,
    /// Its bytes.
    pub source: BlobSource,
}

/// Where the bytes of a blob are.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// In memory.
    Bytes(Bytes),
    /// In a file, which must not change until it is sent; that is checked.
    File(PathBuf),
}

impl Blob {
    /// A blob in memory; hashes it with BLAKE3.
    pub fn of(bytes: impl Into<Bytes>) -> Blob {
        let bytes = bytes.into();
        Blob {
            digest: Digest::of(&bytes),
            source: BlobSource::Bytes(bytes),
        }
    }

    /// An encoded message.
    pub fn of_message(message: &impl Message) -> Blob {
        Blob::of(message.encode_to_vec())
    }

    /// A file whose digest is known.
    pub fn file(digest: Digest, path: impl Into<PathBuf>) -> Blob {
        Blob {
            digest,
            source: BlobSource::File(path.into()),
        }
    }

    /// Bytes whose digest is known.
    pub fn bytes(digest: Digest, bytes: impl Into<Bytes>) -> Blob {
        Blob {
            digest,
            source: BlobSource::Bytes(bytes.into()),
        }
    }
}

impl CasClient {
    /// A client on a channel. `token` is for our own store; others get none.
    pub fn new(channel: Channel, token: Option<&Token>, function: DigestFunction) -> CasClient {
        let service = InterceptedService::new(channel, Bearer::new(token));
        CasClient {
            cas: ContentAddressableStorageClient::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            streams: ByteStreamClient::new(service.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            actions: ActionCacheClient::new(service)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            function,
        }
    }

    /// The function of all digests here.
    pub fn function(&self) -> DigestFunction {
        self.function
    }

    /// Which of these blobs the store does not have, each once. The store keeps
    /// the others for some time.
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, CasError> {
        let mut seen = HashSet::new();
        let wanted: Vec<Digest> = digests
            .iter()
            .filter(|digest| !digest.is_empty() && seen.insert(**digest))
            .copied()
            .collect();
        let mut missing = Vec::new();
        for part in wanted.chunks(FIND_DIGESTS) {
            let answer = self
                .cas
                .clone()
                .find_missing_blobs(reapi::FindMissingBlobsRequest {
                    instance_name: String::new(),
                    blob_digests: part.iter().map(reapi::Digest::from).collect(),
                    digest_function: crate::digest::function_number(self.function),
                })
                .await
                .map_err(|status| CasError::call("FindMissingBlobs", status))?;
            for digest in &answer.into_inner().missing_blob_digests {
                let digest = Digest::try_from(digest)
                    .map_err(|error| CasError::protocol("FindMissingBlobs", &error))?;
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    /// Sends those of the blobs that the store does not have. Returns how many
    /// bytes that were.
    pub async fn ensure(&self, blobs: Vec<Blob>) -> Result<u64, CasError> {
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut missing: HashSet<Digest> = self.find_missing(&digests).await?.into_iter().collect();
        let send: Vec<Blob> = blobs
            .into_iter()
            .filter(|blob| missing.remove(&blob.digest))
            .collect();
        let bytes = send.iter().map(|blob| blob.digest.size).sum();
        self.upload(send).await?;
        Ok(bytes)
    }

    /// The result of an action, when the store has it and all its outputs.
    pub async fn get_action_result(
        &self,
        action: &Digest,
    ) -> Result<Option<reapi::ActionResult>, CasError> {
        let answer = self
            .actions
            .clone()
            .get_action_result(reapi::GetActionResultRequest {
                action_digest: Some(action.into()),
                digest_function: crate::digest::function_number(self.function),
                ..Default::default()
            })
            .await;
        match answer {
            Ok(result) => Ok(Some(result.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(CasError::call("GetActionResult", status)),
        }
    }

    /// Stores the result of an action. Returns the result that is now stored,
    /// which is that of whoever was first.
    pub async fn update_action_result(
        &self,
        action: &Digest,
        result: reapi::ActionResult,
    ) -> Result<reapi::ActionResult, CasError> {
        self.actions
            .clone()
            .update_action_result(reapi::UpdateActionResultRequest {
                action_digest: Some(action.into()),
                action_result: Some(result),
                digest_function: crate::digest::function_number(self.function),
                ..Default::default()
            })
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| CasError::call("UpdateActionResult", status))
    }

    /// A message that is stored as a blob.
    pub async fn read_message<M: Message + Default>(
        &self,
        digest: &Digest,
        limit: u64,
    ) -> Result<M, CasError> {
        let bytes = self.read(digest, limit).await?;
        M::decode(bytes).map_err(|source| CasError::NotAMessage {
            digest: *digest,
            source,
        })
    }

    /// All directories below `root`, itself included, by digest. At most `limit`
    /// directories are read.
    pub async fn read_tree(
        &self,
        root: &Digest,
        limit: usize,
    ) -> Result<HashMap<Digest, reapi::Directory>, CasError> {
        let mut directories = HashMap::new();
        let mut level = vec![*root];
        while !level.is_empty() {
            if directories.len() + level.len() > limit {
                return Err(CasError::TreeTooLarge { root: *root, limit });
            }
            let mut next = Vec::new();
            let mut queued = HashSet::new();
            for (digest, bytes) in level.iter().zip(self.read_batch(&level).await?) {
                let bytes = bytes.ok_or(CasError::Missing { digest: *digest })?;
                let directory =
                    reapi::Directory::decode(bytes).map_err(|source| CasError::NotAMessage {
                        digest: *digest,
                        source,
                    })?;
                for child in &directory.directories {
                    let child = crate::digest::required(child.digest.as_ref())
                        .map_err(|error| CasError::protocol("Directory", &error))?;
                    if queued.insert(child) {
                        next.push(child);
                    }
                }
                directories.insert(*digest, directory);
            }
            next.retain(|digest| !directories.contains_key(digest));
            level = next;
        }
        Ok(directories)
    }
}

/// Puts items into batches by the sum of their sizes and by number.
fn batches<T>(items: impl IntoIterator<Item = T>, size: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut filled = BATCH_BYTES;
    for item in items {
        let bytes = size(&item);
        match batches.last_mut() {
            Some(last) if filled + bytes <= BATCH_BYTES && last.len() < BATCH_BLOBS => {
                last.push(item);
                filled += bytes;
            }
            _ => {
                batches.push(vec![item]);
                filled = bytes;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_limits() {
        let sizes = [BATCH_BYTES, 1, BATCH_BYTES - 1, 1, 0, 0];
        let batched = batches(sizes, |size| *size);
        assert_eq!(
            batched,
            [vec![BATCH_BYTES], vec![1, BATCH_BYTES - 1], vec![1, 0, 0]]
        );
        assert!(batches([], |size: &u64| *size).is_empty());
        assert_eq!(batches([0; 2500], |size| *size).len(), 3);
    }
}
