//! Reading blobs: small ones in batches, large ones as streams, every one of
//! them hashed before it is handed out.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::{CONCURRENCY, CasClient, CasError, SMALL_BYTES, batches};
use crate::bytestream::{ReadRequest, ReadResponse};
use crate::{Digest, DigestFunction, reapi, rpc};

impl CasClient {
    /// A whole blob of at most `limit` bytes.
    pub async fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, CasError> {
        if digest.size > limit {
            return Err(CasError::TooLarge {
                digest: *digest,
                limit,
            });
        }
        let found = if digest.size <= SMALL_BYTES {
            self.read_batch(std::slice::from_ref(digest)).await?.pop()
        } else {
            Some(self.read_stream(digest).await?)
        };
        found.flatten().ok_or(CasError::Missing { digest: *digest })
    }

    /// Several blobs, in the order asked for; `None` for one that the store does
    /// not have. All of them are in memory at the end, so the caller sees to it
    /// that they fit.
    pub async fn read_batch(&self, digests: &[Digest]) -> Result<Vec<Option<Bytes>>, CasError> {
        let mut found: Vec<Option<Bytes>> = vec![None; digests.len()];
        let mut small = Vec::new();
        let mut large = Vec::new();
        for (index, digest) in digests.iter().enumerate() {
            if digest.is_empty() {
                found[index] = Some(Bytes::new());
            } else if digest.size <= SMALL_BYTES {
                small.push((index, *digest));
            } else {
                large.push((index, *digest));
            }
        }
        let batched: Vec<Vec<(usize, Bytes)>> =
            stream::iter(batches(small, |(_, digest)| digest.size))
                .map(|batch| self.read_small(batch))
                .buffer_unordered(CONCURRENCY)
                .try_collect()
                .await?;
        for (index, bytes) in batched.into_iter().flatten() {
            found[index] = Some(bytes);
        }
        let streamed: Vec<(usize, Option<Bytes>)> = stream::iter(large)
            .map(|(index, digest)| async move {
                Ok::<_, CasError>((index, self.read_stream(&digest).await?))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        for (index, bytes) in streamed {
            found[index] = bytes;
        }
        Ok(found)
    }

    /// Writes a blob to a file that does not exist yet. Returns `false` when the
    /// store does not have it; there is a file only when all of it is right.
    pub async fn read_to_file(&self, digest: &Digest, path: &Path) -> Result<bool, CasError> {
        // Four pieces: the network runs ahead of the disk by no more than that.
        let (sender, receiver) = mpsc::channel::<Bytes>(4);
        if digest.size <= SMALL_BYTES {
            let mut found = self.read_batch(std::slice::from_ref(digest)).await?;
            let Some(bytes) = found.pop().flatten() else {
                return Ok(false);
            };
            // The channel is empty, so there is room.
            drop(sender.try_send(bytes));
            drop(sender);
            self.write_pieces(*digest, path, receiver).await?;
            return Ok(true);
        }
        let Some(mut pieces) = self.open_stream(digest).await? else {
            return Ok(false);
        };
        // Owns the sender, so that its end is the end of the file, come what may.
        let pump = async move {
            while let Some(piece) = next_piece(&mut pieces).await? {
                if sender.send(piece).await.is_err() {
                    // The writer has an error of its own.
                    break;
                }
            }
            Ok(())
        };
        match tokio::join!(pump, self.write_pieces(*digest, path, receiver)) {
            (_, Ok(())) => Ok(true),
            // Half a blob has the wrong digest; what broke the stream says why.
            (Err(error), Err(CasError::Damaged { .. })) | (_, Err(error)) => Err(error),
        }
    }

    async fn read_small(
        &self,
        batch: Vec<(usize, Digest)>,
    ) -> Result<Vec<(usize, Bytes)>, CasError> {
        const CALL: &str = "BatchReadBlobs";
        // The same blob may be asked for twice; servers may answer it once.
        let mut places: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (index, digest) in batch {
            places.entry(digest).or_default().push(index);
        }
        let answer = self
            .cas
            .clone()
            .batch_read_blobs(reapi::BatchReadBlobsRequest {
                instance_name: String::new(),
                digests: places.keys().map(reapi::Digest::from).collect(),
                acceptable_compressors: Vec::new(),
                digest_function: crate::digest::function_number(self.function),
            })
            .await
            .map_err(|status| CasError::call(CALL, status))?;
        let mut found = Vec::new();
        for response in answer.into_inner().responses {
            let digest = crate::digest::required(response.digest.as_ref())
                .map_err(|error| CasError::protocol(CALL, &error))?;
            let status = response.status.unwrap_or_default();
            match rpc::Code::try_from(status.code) {
                Ok(rpc::Code::Ok) => {}
                Ok(rpc::Code::NotFound) => continue,
                _ => {
                    return Err(CasError::Refused {
                        digest,
                        code: Code::from(status.code),
                        message: status.message,
                    });
                }
            }
            check(digest, self.function.digest(&response.data))?;
            for index in places.remove(&digest).unwrap_or_default() {
                found.push((index, response.data.clone()));
            }
        }
        Ok(found)
    }

    async fn read_stream(&self, digest: &Digest) -> Result<Option<Bytes>, CasError> {
        let Some(mut pieces) = self.open_stream(digest).await? else {
            return Ok(None);
        };
        let mut whole = BytesMut::new();
        while let Some(piece) = next_piece(&mut pieces).await? {
            // A store that sends more than it should is cut off here.
            if whole.len() as u64 + piece.len() as u64 > digest.size {
                return Err(CasError::Protocol {
                    call: READ,
                    what: format!("more than {} bytes", digest.size),
                });
            }
            whole.extend_from_slice(&piece);
        }
        let whole = whole.freeze();
        let (function, bytes) = (self.function, whole.clone());
        let arrived = tokio::task::spawn_blocking(move || function.digest(&bytes))
            .await
            .map_err(CasError::Task)?;
        check(*digest, arrived)?;
        Ok(Some(whole))
    }

    async fn open_stream(
        &self,
        digest: &Digest,
    ) -> Result<Option<Streaming<ReadResponse>>, CasError> {
        let answer = self
            .streams
            .clone()
            .read(ReadRequest {
                resource_name: format!(
                    "blobs/{}{digest}",
                    crate::digest::resource_prefix(self.function)
                ),
                read_offset: 0,
                read_limit: 0,
            })
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(CasError::call(READ, status)),
        }
    }

    async fn write_pieces(
        &self,
        digest: Digest,
        path: &Path,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), CasError> {
        let function = self.function;
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || write_file(function, digest, &path, pieces))
            .await
            .map_err(CasError::Task)?
    }
}

const READ: &str = "Read";

async fn next_piece(pieces: &mut Streaming<ReadResponse>) -> Result<Option<Bytes>, CasError> {
    match pieces.message().await {
        Ok(piece) => Ok(piece.map(|piece| piece.data)),
        Err(status) => Err(CasError::call(READ, status)),
    }
}

fn check(digest: Digest, arrived: Digest) -> Result<(), CasError> {
    if arrived == digest {
        Ok(())
    } else {
        Err(CasError::Damaged { digest, arrived })
    }
}

/// Writes what comes to a new file, and removes it again unless it is the blob.
fn write_file(
    function: DigestFunction,
    digest: Digest,
    path: &Path,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<(), CasError> {
    let fail = |source| CasError::Sink {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(fail)?;
    let mut hasher = function.hasher();
    let mut write = || {
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece).map_err(fail)?;
            hasher.update(&piece);
            if hasher.size() > digest.size {
                break;
            }
        }
        Ok(())
    };
    let result = write().and_then(|()| check(digest, hasher.finish()));
    if result.is_err() {
        // The error at hand is more important than a file that stays.
        drop(fs::remove_file(path));
    }
    result
}
