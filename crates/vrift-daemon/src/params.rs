//! Reads the parameters of requests; what is missing or of another kind is named.

use std::path::PathBuf;

use serde_json::{Map, Value};
use vx_digest::Digest;

use crate::fault::Fault;

pub(crate) fn text<'p>(params: &'p Map<String, Value>, name: &str) -> Result<&'p str, Fault> {
    params
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::params(format!("`{name}` is missing or no text")))
}

pub(crate) fn absolute(params: &Map<String, Value>) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(text(params, "path")?);
    let plain = path.components().all(|part| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::RootDir
        )
    });
    if !path.is_absolute() || !plain || path.as_os_str().len() > 4096 {
        return Err(Fault::params("`path` is not absolute and plain"));
    }
    Ok(path)
}

pub(crate) fn digest(value: &Value) -> Result<Digest, Fault> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Fault::params(format!("`{value}` is no digest, expected \"HASH/SIZE\"")))
}

pub(crate) fn number(params: &Map<String, Value>, name: &str) -> Result<Option<u64>, Fault> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| Fault::params(format!("`{name}` is no whole number"))),
    }
}

pub(crate) fn flag(params: &Map<String, Value>, name: &str) -> Result<bool, Fault> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| Fault::params(format!("`{name}` is neither true nor false"))),
    }
}
