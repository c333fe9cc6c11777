//! What the daemon answers when it cannot do what it was asked for.

use serde_json::{Value, json};
use vrift_store::{Error, PutError};

/// Codes of errors: those of JSON-RPC 2.0, and ours from -32001.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The line is no JSON.
    Parse,
    /// It is no request.
    Request,
    /// There is no such method.
    Method,
    /// Parameters are missing or wrong.
    Params,
    /// The daemon or the system failed.
    Internal,
    /// The caller may not do that.
    Denied,
    /// Something that is needed is not there; `data.missing` names blobs.
    Absent,
    /// The disk is full.
    NoSpace,
    /// The caller's quota is used up.
    Quota,
    /// Too many at once.
    Busy,
    /// The caller went away.
    Cancelled,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> i64 {
        match self {
            Code::Parse => -32700,
            Code::Request => -32600,
            Code::Method => -32601,
            Code::Params => -32602,
            Code::Internal => -32603,
            Code::Denied => -32001,
            Code::Absent => -32002,
            Code::NoSpace => -32003,
            Code::Quota => -32004,
            Code::Busy => -32005,
            Code::Cancelled => -32006,
        }
    }
}

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

/// Blobs named in one answer; the others are named when these are there.
const MAX_NAMED: usize = 8192;

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
            data: None,
        }
    }

    pub(crate) fn params(message: impl Into<String>) -> Fault {
        Fault::new(Code::Params, message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Fault {
        Fault::new(Code::Denied, message)
    }

    pub(crate) fn missing(digests: impl IntoIterator<Item = vx_digest::Digest>) -> Fault {
        let names: Vec<String> = digests
            .into_iter()
            .take(MAX_NAMED)
            .map(|digest| digest.to_string())
            .collect();
        Fault {
            code: Code::Absent,
            message: "blobs have to be stored first".to_owned(),
            data: Some(json!({ "missing": names })),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code.number(), "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let code = match &error {
            Error::Missing(digests) => return Fault::missing(digests.iter().copied()),
            Error::Put(PutError::NoSpace { .. }) => Code::NoSpace,
            Error::Absent { .. } => Code::Absent,
            Error::Quota(_) => Code::Quota,
            Error::Cancelled => Code::Cancelled,
            Error::Busy { .. } => Code::Busy,
            Error::Manifest { .. } | Error::Refused(_) => Code::Params,
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Code::Denied
            }
            _ => Code::Internal,
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Fault::new(code, message)
    }
}
