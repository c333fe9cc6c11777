//! What `status` answers: the store, and what each user keeps in it.

use serde_json::{Value, json};
use vrift_store::{Error, Home, UserUsage};

/// The answer for a store, with those users that `shows`; `mode` is `daemon` or `direct`.
///
/// # Errors
/// When the store cannot be walked.
pub fn status_of(
    home: &Home,
    mode: &str,
    shows: impl Fn(&UserUsage) -> bool,
) -> Result<Value, Error> {
    let usage = home.usage()?;
    let users: Vec<Value> = usage
        .users
        .iter()
        .filter(|user| shows(user))
        .map(|user| {
            json!({
                "uid": user.uid,
                "roots": user.roots,
                "files": user.files,
                "bytes": user.bytes,
                "unique": user.unique,
                "unique_bytes": user.unique_bytes,
                "released_bytes": user.released_bytes,
            })
        })
        .collect();
    Ok(json!({
        "mode": mode,
        "version": env!("CARGO_PKG_VERSION"),
        "store": home.store().root(),
        "blobs": usage.blobs,
        "bytes": usage.bytes,
        "quarantine": usage.quarantine,
        "logical_bytes": usage.logical_bytes,
        "kept_bytes": usage.kept_bytes,
        "dedup_ratio": usage.ratio(),
        "users": users,
    }))
}
