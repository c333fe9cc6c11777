//! The names that blobs have in streams:
//! `{instance/}blobs/{blake3/}{hash}/{size}` to read and
//! `{instance/}uploads/{uuid}/blobs/{blake3/}{hash}/{size}{/anything}` to write.
//! A name without a function means SHA-256.

use tonic::Status;
use vx_proto::{Digest, DigestFunction};

/// A blob that is to be read or written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) function: DigestFunction,
    pub(crate) digest: Digest,
}

/// No name of ours is longer, and what is quoted in errors has a limit.
const MAX_LENGTH: usize = 4096;

/// The blob of a name to read.
pub(crate) fn to_read(name: &str) -> Result<Resource, Status> {
    let parts = parts(name)?;
    let start = find(&parts, name)?;
    let (resource, rest) = blob(&parts[start + 1..], name)?;
    match rest {
        [] => Ok(resource),
        _ => Err(bad(name, "something follows the size")),
    }
}

/// The blob of a name to write. What follows the size is for other servers.
pub(crate) fn to_write(name: &str) -> Result<Resource, Status> {
    let parts = parts(name)?;
    let start = find(&parts, name)?;
    if start < 2 || parts[start - 2] != "uploads" || parts[start - 1].is_empty() {
        return Err(bad(name, "`uploads/{uuid}/` is missing before `blobs`"));
    }
    blob(&parts[start + 1..], name).map(|(resource, _)| resource)
}

fn parts(name: &str) -> Result<Vec<&str>, Status> {
    if name.len() > MAX_LENGTH {
        return Err(Status::invalid_argument("the resource name is too long"));
    }
    Ok(name.split('/').collect())
}

fn find(parts: &[&str], name: &str) -> Result<usize, Status> {
    // No part of an instance name may be one of these words.
    match parts
        .iter()
        .position(|part| matches!(*part, "blobs" | "compressed-blobs"))
    {
        Some(start) if parts[start] == "blobs" => Ok(start),
        Some(_) => Err(Status::unimplemented(format!(
            "resource `{name}` is compressed, which is not supported"
        ))),
        None => Err(bad(name, "`blobs` is missing")),
    }
}

fn blob<'a>(parts: &'a [&'a str], name: &str) -> Result<(Resource, &'a [&'a str]), Status> {
    let (function, parts) = match parts {
        ["blake3", rest @ ..] => (DigestFunction::Blake3, rest),
        // Against the rules, but clear.
        ["sha256", rest @ ..] => (DigestFunction::Sha256, rest),
        rest => (DigestFunction::Sha256, rest),
    };
    let [hash, size, rest @ ..] = parts else {
        return Err(bad(name, "hash or size is missing"));
    };
    let digest = format!("{hash}/{size}")
        .parse()
        .map_err(|error: vx_proto::DigestError| bad(name, &error.to_string()))?;
    Ok((Resource { function, digest }, rest))
}

fn bad(name: &str, why: &str) -> Status {
    Status::invalid_argument(format!("resource name `{name}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_directions() {
        let digest = Digest::of(b"x");
        for (prefix, function) in [
            ("blake3/", DigestFunction::Blake3),
            ("", DigestFunction::Sha256),
        ] {
            let resource = Resource { function, digest };
            for instance in ["", "main/", "some/deep/instance/"] {
                let read = format!("{instance}blobs/{prefix}{digest}");
                assert_eq!(to_read(&read).unwrap(), resource);
                for tail in ["", "/src/main.rs"] {
                    let write = format!("{instance}uploads/some-id/blobs/{prefix}{digest}{tail}");
                    assert_eq!(to_write(&write).unwrap(), resource);
                }
            }
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let digest = Digest::of(b"x");
        let hash = digest.hex();
        for name in [
            String::new(),
            "blobs".to_owned(),
            format!("blobs/blake3/{hash}"),
            format!("blobs/blake3/{hash}/one"),
            format!("blobs/md5/{hash}/1"),
            format!("blobs/blake3/{digest}/more"),
            format!("compressed-blobs/zstd/blake3/{digest}"),
            "x".repeat(MAX_LENGTH + 1),
        ] {
            assert!(to_read(&name).is_err(), "{name}");
        }
        for name in [
            format!("blobs/blake3/{digest}"),
            format!("uploads/blobs/blake3/{digest}"),
            format!("uploads/id/compressed-blobs/zstd/{digest}"),
        ] {
            assert!(to_write(&name).is_err(), "{name}");
        }
    }
}
