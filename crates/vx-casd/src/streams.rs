//! Blobs of any size, as streams.
//!
//! Between two pieces no thread and no more than one piece is held, however slow
//! the client is. An upload that ends early leaves nothing behind, so there is no
//! resuming one: it starts again.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cas_store::{BlobWriter, Store};
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};
use vx_proto::DigestFunction;
use vx_proto::bytestream::byte_stream_server::ByteStream;
use vx_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse,
};

use crate::failure;
use crate::resource::{self, Resource};
use crate::storage::{self, Storage};

/// Bytes in one piece: large enough that its costs do not count, small enough for
/// the message limit of every client.
const PIECE: u64 = 512 * 1024;

/// Answers for streams.
pub(crate) struct Streams {
    storage: Storage,
}

impl Streams {
    pub(crate) fn new(storage: Storage) -> Streams {
        Streams { storage }
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ByteStream for Streams {
    type ReadStream = Pieces;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Pieces>, Status> {
        let request = request.into_inner();
        let resource = resource::to_read(&request.resource_name)?;
        let range = Range::new(&resource, request.read_offset, request.read_limit)?;
        let (first, reader) = self
            .storage
            .run(move |store| {
                let file = open(store, &resource)?
                    .ok_or_else(|| {
                        Status::not_found(format!("blob `{}` is not here", resource.digest))
                    })?
                    .into_file();
                read_piece(Arc::new(file), range)
            })
            .await?;
        let storage = self.storage.clone();
        let rest = stream::try_unfold(reader, move |reader| {
            let storage = storage.clone();
            async move {
                let Some((file, range)) = reader else {
                    return Ok(None);
                };
                storage
                    .run(move |_| read_piece(file, range))
                    .await
                    .map(Some)
            }
        });
        let pieces = stream::once(async { Ok(first) })
            .chain(rest)
            .map(|piece| piece.map(|data| ReadResponse { data }));
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let mut pieces = request.into_inner();
        let first = pieces
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the upload has no messages"))?;
        let resource = resource::to_write(&first.resource_name)?;
        let committed = Ok(Response::new(WriteResponse {
            committed_size: size_on_the_wire(&resource),
        }));
        let Some(writer) = self.begin(resource).await? else {
            // What is there already need not be sent to its end.
            return committed;
        };
        let name = first.resource_name.clone();
        let mut writer = writer;
        let mut piece = first;
        loop {
            check(&piece, &name, writer.written())?;
            let last = piece.finish_write;
            let written = self
                .storage
                .run(move |_| {
                    writer.append(&piece.data).map_err(failure::put)?;
                    if last {
                        writer.commit().map_err(failure::put)?;
                        return Ok(None);
                    }
                    Ok(Some(writer))
                })
                .await?;
            match written {
                None => return committed,
                Some(unfinished) => writer = unfinished,
            }
            piece = pieces.message().await?.ok_or_else(|| {
                Status::invalid_argument(format!(
                    "the upload of blob `{}` ended without `finish_write`",
                    resource.digest
                ))
            })?;
        }
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let resource = resource::to_write(&request.into_inner().resource_name)?;
        let complete = self
            .storage
            .run(move |store| {
                storage::contains(store, resource.function, &resource.digest).map_err(failure::read)
            })
            .await?;
        Ok(Response::new(QueryWriteStatusResponse {
            committed_size: if complete {
                size_on_the_wire(&resource)
            } else {
                0
            },
            complete,
        }))
    }
}

impl Streams {
    /// A writer for a blob, unless it is there. Its content is checked, so that an
    /// upload heals a damaged blob.
    async fn begin(&self, resource: Resource) -> Result<Option<BlobWriter>, Status> {
        self.storage
            .run(move |store| {
                if open(store, &resource)?.is_some() {
                    return Ok(None);
                }
                match resource.function {
                    DigestFunction::Blake3 => store.writer(Some(resource.digest)),
                    DigestFunction::Sha256 => store.writer_sha256(resource.digest),
                }
                .map(Some)
                .map_err(failure::put)
            })
            .await
    }
}

fn open(store: &Store, resource: &Resource) -> Result<Option<cas_store::VerifiedFile>, Status> {
    match storage::resolve(store, resource.function, &resource.digest).map_err(failure::read)? {
        Some(name) => store.open_blob(&name).map_err(failure::read),
        None => Ok(None),
    }
}

fn size_on_the_wire(resource: &Resource) -> i64 {
    // Digests from the wire have sizes that fit.
    i64::try_from(resource.digest.size).unwrap_or(i64::MAX)
}

fn check(piece: &WriteRequest, name: &str, written: u64) -> Result<(), Status> {
    if !piece.resource_name.is_empty() && piece.resource_name != name {
        return Err(Status::invalid_argument(
            "the resource name changed within an upload",
        ));
    }
    if u64::try_from(piece.write_offset) != Ok(written) {
        return Err(Status::invalid_argument(format!(
            "write offset {} where {written} bytes have arrived",
            piece.write_offset
        )));
    }
    Ok(())
}

/// What of a blob is still to be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn new(resource: &Resource, offset: i64, limit: i64) -> Result<Range, Status> {
        let size = resource.digest.size;
        let start = u64::try_from(offset)
            .ok()
            .filter(|start| *start <= size)
            .ok_or_else(|| {
                Status::out_of_range(format!("offset {offset} in blob `{}`", resource.digest))
            })?;
        let end = match u64::try_from(limit) {
            Ok(0) => size,
            Ok(limit) => start.saturating_add(limit).min(size),
            Err(_) => return Err(Status::invalid_argument("the read limit is negative")),
        };
        Ok(Range { start, end })
    }
}

/// What remains after a piece; `None` after the last.
type Rest = Option<(Arc<std::fs::File>, Range)>;

fn read_piece(file: Arc<std::fs::File>, range: Range) -> Result<(Bytes, Rest), Status> {
    let size = (range.end - range.start).min(PIECE);
    let mut piece = BytesMut::zeroed(usize::try_from(size).unwrap_or_default());
    file.read_exact_at(&mut piece, range.start)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Status::data_loss("the blob was cut off"),
            _ => Status::internal(format!("cannot read the blob: {error}")),
        })?;
    let rest = Range {
        start: range.start + size,
        end: range.end,
    };
    Ok((
        piece.freeze(),
        (rest.start < rest.end).then_some((file, rest)),
    ))
}

#[cfg(test)]
mod tests {
    use vx_proto::Digest;

    use super::*;

    #[test]
    fn ranges_stay_within_the_blob() {
        let resource = Resource {
            function: DigestFunction::Blake3,
            digest: Digest {
                hash: [0; 32],
                size: 10,
            },
        };
        let range = |offset, limit| {
            Range::new(&resource, offset, limit)
                .map(|range| (range.start, range.end))
                .map_err(|status| status.code())
        };
        assert_eq!(range(0, 0), Ok((0, 10)));
        assert_eq!(range(4, 3), Ok((4, 7)));
        assert_eq!(range(4, i64::MAX), Ok((4, 10)));
        assert_eq!(range(10, 0), Ok((10, 10)));
        assert_eq!(range(11, 0), Err(tonic::Code::OutOfRange));
        assert_eq!(range(-1, 0), Err(tonic::Code::OutOfRange));
        assert_eq!(range(0, -1), Err(tonic::Code::InvalidArgument));
    }
}
