//! The output directory of a build script, as files that other programs can read.
//!
//! Programs that follow the messages of a build, such as editors, look for generated sources where `build-script-executed` says; cargo has them in its target directory, and so have we when such messages are wanted.

use std::path::{Path, PathBuf};

use vx_proto::Digest;
use vx_proto::cas::{CasClient, CasError};
use vx_proto::reapi::FileNode;
use vx_proto::tree::is_name;

use crate::deliver::{DeliverError, Deliverer, Delivery};

/// Directories of one build script.
const MAX_DIRECTORIES: usize = 10_000;

/// Puts the tree `root` below `to`, and returns the files. Links are left out: what they name is there as well, or nowhere.
///
/// # Errors
///
/// A file that cannot be written, or that the store does not give.
pub(crate) async fn deliver(
    deliverer: &Deliverer,
    cas: &CasClient,
    root: Digest,
    to: &Path,
) -> Result<Vec<PathBuf>, DeliverError> {
    let fetch = |source| DeliverError::Fetch {
        path: to.to_owned(),
        source,
    };
    let wrong = |error: &dyn std::error::Error| fetch(CasError::protocol("Directory", error));
    let directories = cas.read_tree(&root, MAX_DIRECTORIES).await.map_err(fetch)?;
    deliverer.make_directory(to.to_owned()).await?;
    let mut pending = vec![(to.to_owned(), root)];
    let mut files = Vec::new();
    while let Some((folder, digest)) = pending.pop() {
        let Some(directory) = directories.get(&digest) else {
            return Err(fetch(CasError::Missing { digest }));
        };
        for child in directory.directories.iter().filter(|c| is_name(&c.name)) {
            let digest =
                vx_proto::digest::required(child.digest.as_ref()).map_err(|e| wrong(&e))?;
            pending.push((folder.join(&child.name), digest));
        }
        for file in directory.files.iter().filter(|f| is_name(&f.name)) {
            let delivery = delivery(&folder, file).map_err(|e| wrong(&e))?;
            deliverer.deliver(cas, &delivery).await?;
            files.push(delivery.path);
        }
    }
    Ok(files)
}

fn delivery(folder: &Path, file: &FileNode) -> Result<Delivery, vx_proto::DigestError> {
    Ok(Delivery {
        path: folder.join(&file.name),
        digest: vx_proto::digest::required(file.digest.as_ref())?,
        executable: file.is_executable,
    })
}
