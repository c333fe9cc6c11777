//! Blobs that fit into messages, and the trees they form.

use std::pin::Pin;

use bytes::Bytes;
use cas_store::Store;
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};
use vx_proto::reapi::content_addressable_storage_server::ContentAddressableStorage;
use vx_proto::reapi::{self, compressor};
use vx_proto::{Digest, DigestFunction, MAX_BATCH_BYTES, rpc};

use crate::failure;
use crate::storage::{self, Storage};
use crate::trees::Walk;

/// Answers for single blobs and batches of them.
pub(crate) struct Blobs {
    storage: Storage,
}

impl Blobs {
    pub(crate) fn new(storage: Storage) -> Blobs {
        Blobs { storage }
    }
}

type Trees = Pin<Box<dyn Stream<Item = Result<reapi::GetTreeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ContentAddressableStorage for Blobs {
    async fn find_missing_blobs(
        &self,
        request: Request<reapi::FindMissingBlobsRequest>,
    ) -> Result<Response<reapi::FindMissingBlobsResponse>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        self.storage
            .run(move |store| {
                let mut missing = Vec::new();
                for asked in request.blob_digests {
                    let digest = storage::digest(Some(&asked))?;
                    if !storage::contains(store, function, &digest).map_err(failure::read)? {
                        missing.push(asked);
                    }
                }
                Ok(Response::new(reapi::FindMissingBlobsResponse {
                    missing_blob_digests: missing,
                }))
            })
            .await
    }

    async fn batch_update_blobs(
        &self,
        request: Request<reapi::BatchUpdateBlobsRequest>,
    ) -> Result<Response<reapi::BatchUpdateBlobsResponse>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        check_batch(request.requests.iter().map(|item| item.data.len() as u64))?;
        self.storage
            .run(move |store| {
                let answers = update(store, function, &request.requests);
                let responses = request
                    .requests
                    .into_iter()
                    .zip(answers)
                    .map(
                        |(item, answer)| reapi::batch_update_blobs_response::Response {
                            digest: item.digest,
                            status: Some(rpc_status(answer)),
                        },
                    )
                    .collect();
                Ok(Response::new(reapi::BatchUpdateBlobsResponse { responses }))
            })
            .await
    }

    async fn batch_read_blobs(
        &self,
        request: Request<reapi::BatchReadBlobsRequest>,
    ) -> Result<Response<reapi::BatchReadBlobsResponse>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        let digests = request
            .digests
            .iter()
            .map(|digest| storage::digest(Some(digest)))
            .collect::<Result<Vec<_>, _>>()?;
        // Checked before anything is read: a request is small, its answer is not.
        check_batch(digests.iter().map(|digest| digest.size))?;
        self.storage
            .run(move |store| {
                let responses = digests
                    .iter()
                    .map(|digest| {
                        let (data, answer) = match read(store, function, digest) {
                            Ok(data) => (data, Ok(())),
                            Err(status) => (Bytes::new(), Err(status)),
                        };
                        reapi::batch_read_blobs_response::Response {
                            digest: Some(digest.into()),
                            data,
                            status: Some(rpc_status(answer)),
                            compressor: compressor::Value::Identity as i32,
                        }
                    })
                    .collect();
                Ok(Response::new(reapi::BatchReadBlobsResponse { responses }))
            })
            .await
    }

    type GetTreeStream = Trees;

    async fn get_tree(
        &self,
        request: Request<reapi::GetTreeRequest>,
    ) -> Result<Response<Trees>, Status> {
        let request = request.into_inner();
        let function = storage::function(request.digest_function)?;
        let root = storage::digest(request.root_digest.as_ref())?;
        let walk = Walk::new(function, root, request.page_size, &request.page_token)?;
        // The first page is made before the answer, so that a root that is not
        // there is the answer, not the end of a stream.
        let (first, walk) = page(&self.storage, walk).await?;
        let storage = self.storage.clone();
        let rest = stream::try_unfold(walk, move |walk| {
            let storage = storage.clone();
            async move {
                match walk {
                    Some(walk) => page(&storage, walk).await.map(Some),
                    None => Ok(None),
                }
            }
        });
        Ok(Response::new(Box::pin(
            stream::once(async { Ok(first) }).chain(rest),
        )))
    }
}

/// The next page of a tree, and how to go on unless it is the last.
async fn page(
    storage: &Storage,
    mut walk: Walk,
) -> Result<(reapi::GetTreeResponse, Option<Walk>), Status> {
    storage
        .run(move |store| {
            let response = walk.next_page(store)?;
            let more = !response.next_page_token.is_empty();
            Ok((response, more.then_some(walk)))
        })
        .await
}

fn check_batch(sizes: impl Iterator<Item = u64>) -> Result<(), Status> {
    let total = sizes.fold(0, u64::saturating_add);
    if total > MAX_BATCH_BYTES as u64 {
        return Err(Status::invalid_argument(format!(
            "a batch of {total} bytes is larger than {MAX_BATCH_BYTES} bytes"
        )));
    }
    Ok(())
}

/// Stores the blobs of a batch, each for itself, and answers in their order.
fn update(
    store: &Store,
    function: DigestFunction,
    items: &[reapi::batch_update_blobs_request::Request],
) -> Vec<Result<(), Status>> {
    let checked: Vec<Result<Digest, Status>> = items
        .iter()
        .map(|item| {
            if item.compressor != compressor::Value::Identity as i32 {
                return Err(Status::invalid_argument("compressed data is not supported"));
            }
            storage::digest(item.digest.as_ref())
        })
        .collect();
    let good: Vec<(Digest, &[u8])> = checked
        .iter()
        .zip(items)
        .filter_map(|(digest, item)| Some((*digest.as_ref().ok()?, &item.data[..])))
        .collect();
    let mut stored = match function {
        DigestFunction::Blake3 => store.put_many(&good),
        DigestFunction::Sha256 => good
            .iter()
            .map(|(digest, data)| store.put_bytes_sha256(digest, data))
            .collect(),
    }
    .into_iter();
    checked
        .into_iter()
        .map(|digest| {
            digest?;
            match stored.next() {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(failure::put(error)),
                None => Err(Status::internal("the store gave no answer for the blob")),
            }
        })
        .collect()
}

fn read(store: &Store, function: DigestFunction, digest: &Digest) -> Result<Bytes, Status> {
    match storage::read(store, function, digest) {
        Ok(Some(bytes)) => Ok(bytes.into()),
        Ok(None) => Err(Status::not_found(format!("blob `{digest}` is not here"))),
        Err(error) => Err(failure::read(error)),
    }
}

fn rpc_status(answer: Result<(), Status>) -> rpc::Status {
    match answer {
        Ok(()) => rpc::Status::default(),
        Err(status) => failure::item(status),
    }
}
