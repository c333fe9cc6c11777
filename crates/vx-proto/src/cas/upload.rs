//! Sending blobs: small ones in batches, large ones as streams.
//!
//! Files are read in the blocking pool, a few at a time, and never as a whole
//! when they are large.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    Blob, BlobSource, CHUNK_BYTES, CONCURRENCY, CasClient, CasError, SMALL_BYTES, batches,
};
use crate::bytestream::WriteRequest;
use crate::{Digest, reapi, rpc};

impl CasClient {
    /// Sends all blobs, also those that the store has; see [`CasClient::ensure`].
    /// The first error ends it; what was stored until then stays stored.
    pub async fn upload(&self, blobs: Vec<Blob>) -> Result<(), CasError> {
        let (small, large): (Vec<Blob>, Vec<Blob>) = blobs
            .into_iter()
            .filter(|blob| !blob.digest.is_empty())
            .partition(|blob| blob.digest.size <= SMALL_BYTES);
        let batches = batches(small, |blob| blob.digest.size);
        stream::iter(batches)
            .map(|batch| self.upload_batch(batch))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        stream::iter(large)
            .map(|blob| self.upload_stream(blob))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await
    }

    async fn upload_batch(&self, batch: Vec<Blob>) -> Result<(), CasError> {
        let requests = tokio::task::spawn_blocking(move || {
            batch.into_iter().map(load).collect::<Result<Vec<_>, _>>()
        })
        .await
        .map_err(CasError::Task)??;
        let mut unanswered: HashSet<Digest> = requests
            .iter()
            .filter_map(|request| crate::digest::required(request.digest.as_ref()).ok())
            .collect();
        let answer = self
            .cas
            .clone()
            .batch_update_blobs(reapi::BatchUpdateBlobsRequest {
                instance_name: String::new(),
                requests,
                digest_function: crate::digest::function_number(self.function),
            })
            .await
            .map_err(|status| CasError::call("BatchUpdateBlobs", status))?;
        for response in answer.into_inner().responses {
            let digest = crate::digest::required(response.digest.as_ref())
                .map_err(|error| CasError::protocol("BatchUpdateBlobs", &error))?;
            let status = response.status.unwrap_or_default();
            if status.code != rpc::Code::Ok as i32 {
                return Err(CasError::Refused {
                    digest,
                    code: Code::from(status.code),
                    message: status.message,
                });
            }
            unanswered.remove(&digest);
        }
        match unanswered.iter().next() {
            Some(digest) => Err(CasError::Protocol {
                call: "BatchUpdateBlobs",
                what: format!("nothing is said about `{digest}`"),
            }),
            None => Ok(()),
        }
    }

    async fn upload_stream(&self, blob: Blob) -> Result<(), CasError> {
        let digest = blob.digest;
        let resource = format!(
            "uploads/{}/blobs/{}{digest}",
            upload_id()?,
            crate::digest::resource_prefix(self.function)
        );
        // Two pieces: one on its way, one being read.
        let (sender, receiver) = mpsc::channel(2);
        let reader = tokio::task::spawn_blocking(move || send_pieces(&blob, &resource, &sender));
        let mut client = self.streams.clone();
        let answer = client.write(ReceiverStream::new(receiver)).await;
        // The reader's error is the cause when both have one: the store only saw
        // a stream that ended early.
        reader.await.map_err(CasError::Task)??;
        let committed = match answer {
            Ok(answer) => answer.into_inner().committed_size,
            Err(status) if status.code() == Code::InvalidArgument => {
                return Err(CasError::Refused {
                    digest,
                    code: status.code(),
                    message: status.message().to_owned(),
                });
            }
            Err(status) => return Err(CasError::call("Write", status)),
        };
        if u64::try_from(committed).ok() != Some(digest.size) {
            return Err(CasError::Protocol {
                call: "Write",
                what: format!("{committed} bytes of `{digest}` are stored"),
            });
        }
        Ok(())
    }
}

/// Reads a small blob and checks that it is still what it was. The store checks
/// the hash.
fn load(blob: Blob) -> Result<reapi::batch_update_blobs_request::Request, CasError> {
    let data = match blob.source {
        BlobSource::Bytes(bytes) => bytes,
        BlobSource::File(path) => {
            let bytes = fs::File::open(&path)
                .and_then(|file| {
                    let mut bytes = Vec::with_capacity(blob.digest.size as usize + 1);
                    // One byte more shows a file that grew, and no more than that
                    // is ever held.
                    file.take(blob.digest.size + 1).read_to_end(&mut bytes)?;
                    Ok(bytes)
                })
                .map_err(|source| CasError::Source {
                    path: path.clone(),
                    source,
                })?;
            if bytes.len() as u64 != blob.digest.size {
                return Err(CasError::SourceChanged {
                    path,
                    digest: blob.digest,
                });
            }
            bytes.into()
        }
    };
    Ok(reapi::batch_update_blobs_request::Request {
        digest: Some(blob.digest.into()),
        data,
        compressor: reapi::compressor::Value::Identity as i32,
    })
}

/// Feeds a stream with a blob. Ends early without an error when the other end is
/// gone: the store has the blob already, or its error is on its way.
fn send_pieces(
    blob: &Blob,
    resource: &str,
    sender: &mpsc::Sender<WriteRequest>,
) -> Result<(), CasError> {
    let mut offset = 0;
    let mut send = |data: Bytes| {
        let end = offset + data.len() as u64;
        let request = WriteRequest {
            resource_name: if offset == 0 { resource } else { "" }.to_owned(),
            write_offset: offset as i64,
            finish_write: end == blob.digest.size,
            data,
        };
        offset = end;
        sender.blocking_send(request).is_ok()
    };
    match &blob.source {
        BlobSource::Bytes(bytes) => {
            let mut rest = bytes.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(CHUNK_BYTES));
                if !send(piece) {
                    break;
                }
            }
            Ok(())
        }
        BlobSource::File(path) => read_pieces(path, blob.digest, &mut send),
    }
}

fn read_pieces(
    path: &Path,
    digest: Digest,
    send: &mut impl FnMut(Bytes) -> bool,
) -> Result<(), CasError> {
    let fail = |source| CasError::Source {
        path: PathBuf::from(path),
        source,
    };
    let changed = || CasError::SourceChanged {
        path: PathBuf::from(path),
        digest,
    };
    let mut file = fs::File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.len() != digest.size {
        return Err(changed());
    }
    let mut left = digest.size;
    while left > 0 {
        let size = left.min(CHUNK_BYTES as u64) as usize;
        let mut piece = BytesMut::zeroed(size);
        match file.read_exact(&mut piece) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
            Err(error) => return Err(fail(error)),
        }
        left -= size as u64;
        if !send(piece.freeze()) {
            break;
        }
    }
    Ok(())
}

/// A random UUID, version 4, as the resource names of uploads want it.
fn upload_id() -> Result<String, CasError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(CasError::Random)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = vx_digest::hex::encode(&bytes);
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_ids_are_uuids_of_version_4() {
        let id = upload_id().unwrap();
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert_ne!(id, upload_id().unwrap());
    }

    #[test]
    fn a_small_file_that_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let digest = Digest::of(b"four");
        for now in [&b"five!"[..], b"3"] {
            fs::write(&path, now).unwrap();
            let error = load(Blob::file(digest, &path)).unwrap_err();
            assert!(matches!(error, CasError::SourceChanged { .. }), "{error}");
        }
    }
}
