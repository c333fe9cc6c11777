//! Stores again what a store has lost of a directory, from the directory's own files.
//!
//! For whoever has the store elsewhere: the store says what is missing when the manifest is registered once more.
//! Files that have changed since are no help and stay what they are; nothing else is ingested.

use std::collections::HashSet;
use std::path::PathBuf;

use vx_digest::Digest;

use crate::access::Beneath;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::project::Project;
use crate::read::{Opening, shown};

/// What came of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Contents that the store has again.
    pub blobs: u64,
    /// Files whose content neither the store nor the directory has.
    pub missing: Vec<(Digest, PathBuf)>,
}

/// Brings what the store has lost of a directory that it keeps; see the module's documentation.
///
/// # Errors
/// When the project or the store cannot be used.
pub fn repair(project: &Project, blobs: &dyn Blobs) -> Result<Repaired, Error> {
    let _locked = project.lock()?;
    let Some(manifest) = project.manifest()? else {
        return Ok(Repaired::default());
    };
    let bytes = manifest.encode();
    let request = project.root_request(Digest::of(&bytes), project.is_phantom())?;
    if blobs.root_manifest(project.path())? != Some(request.manifest) {
        // What the store keeps is of another time than what is here.
        return Ok(Repaired::default());
    }
    let own = u64::from(blobs.put_bytes(&bytes)?.new);
    let mut brought = HashSet::new();
    let left: HashSet<Digest> = loop {
        let missing: HashSet<Digest> = match blobs.register(&request) {
            Ok(()) => HashSet::new(),
            Err(Error::Missing(missing)) => missing.into_iter().collect(),
            Err(error) => return Err(error),
        };
        // A store far away names so many at a time.
        let mut wanted: HashSet<Digest> = missing.difference(&brought).copied().collect();
        if wanted.is_empty() {
            break missing;
        }
        brought.extend(wanted.iter().copied());
        let paths = manifest
            .files()
            .filter(|(_, digest)| wanted.remove(*digest))
            .map(|(entry, _)| shown(&entry.path))
            .collect();
        blobs.put(&Opening::of(paths, Beneath::own(project.dir())))?;
    };
    let still = manifest
        .files()
        .filter(|(_, digest)| left.contains(*digest))
        .map(|(entry, digest)| (*digest, project.path().join(shown(&entry.path))))
        .collect();
    Ok(Repaired {
        blobs: own + brought.difference(&left).count() as u64,
        missing: still,
    })
}
