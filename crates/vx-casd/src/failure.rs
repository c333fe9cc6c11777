//! What clients are told when something cannot be done: the code says what they
//! can do about it, the text names the blob and the cause.

use cas_store::{PutError, ReadError};
use tonic::{Code, Status};
use vx_proto::{DigestError, causes, rpc};

/// Why a blob or result was not stored.
pub(crate) fn put(error: PutError) -> Status {
    let code = match &error {
        PutError::SizeMismatch { .. }
        | PutError::HashMismatch { .. }
        | PutError::TooLarge { .. } => Code::InvalidArgument,
        PutError::NoSpace { .. } => Code::ResourceExhausted,
        PutError::Source { .. } | PutError::Io { .. } => Code::Internal,
    };
    Status::new(code, causes(&error))
}

/// Why something that may be there cannot be read.
pub(crate) fn read(error: ReadError) -> Status {
    Status::internal(causes(&error))
}

/// Why a request names no blob.
pub(crate) fn bad_digest(error: DigestError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The same for one item of a batch.
pub(crate) fn item(status: Status) -> rpc::Status {
    rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use vx_proto::Digest;

    use super::*;

    #[test]
    fn a_full_disk_is_told_with_the_bytes_that_did_not_fit() {
        let digest = Digest::of(b"x");
        let status = put(PutError::NoSpace {
            subject: format!("blob `{digest}`"),
            needed: 4711,
            quota: false,
            source: io::Error::from(io::ErrorKind::StorageFull),
        });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("4711 bytes"), "{status}");
        assert!(status.message().contains(&digest.to_string()), "{status}");
    }

    #[test]
    fn wrong_content_is_the_mistake_of_the_client() {
        let status = put(PutError::SizeMismatch {
            expected: Digest::of(b"x"),
            actual: 2,
        });
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}
