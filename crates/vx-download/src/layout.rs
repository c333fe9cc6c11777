//! Where the files of a cache are, as `CACHE.md` has it.

use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// The directory of this format; another format gets another one.
const FORMAT: &str = "v1";

/// The paths of a cache.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Layout {
        Layout {
            root: dir.join(FORMAT),
        }
    }

    /// The directories that must exist.
    pub(crate) fn dirs(&self) -> [PathBuf; 5] {
        ["sha256", "blake3", "partial", "lock", "quarantine"].map(|name| self.root.join(name))
    }

    /// The whole, verified file.
    pub(crate) fn entry(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm()).join(digest.hex())
    }

    /// What has come of it so far.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(flat(digest))
    }

    /// Held by the one who fetches it.
    pub(crate) fn lock(&self, digest: &Digest) -> PathBuf {
        self.root.join("lock").join(flat(digest))
    }

    /// Where an entry goes that does not have its digest.
    pub(crate) fn quarantine(&self, digest: &Digest, stamp: u128) -> PathBuf {
        self.root
            .join("quarantine")
            .join(format!("{}-{stamp:032x}", flat(digest)))
    }

    /// Held by the one who evicts.
    pub(crate) fn eviction_lock(&self) -> PathBuf {
        self.root.join("lock").join("eviction")
    }

    /// The lock of a partial file.
    pub(crate) fn lock_of_partial(&self, partial: &Path) -> Option<PathBuf> {
        Some(self.root.join("lock").join(partial.file_name()?))
    }

    /// The lock of an entry.
    pub(crate) fn lock_of_entry(&self, entry: &Path) -> Option<PathBuf> {
        let algorithm = entry.parent()?.file_name()?.to_str()?;
        let hex = entry.file_name()?.to_str()?;
        Some(self.root.join("lock").join(format!("{algorithm}-{hex}")))
    }
}

fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_document() {
        let layout = Layout::new(Path::new("/c"));
        let digest = Digest::sha256(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let is = |path: PathBuf, text: String| assert_eq!(path, Path::new(&text));
        is(layout.entry(&digest), format!("/c/v1/sha256/{hex}"));
        is(
            layout.partial(&digest),
            format!("/c/v1/partial/sha256-{hex}"),
        );
        is(layout.lock(&digest), format!("/c/v1/lock/sha256-{hex}"));
        is(
            layout.quarantine(&digest, 0x1f),
            format!("/c/v1/quarantine/sha256-{hex}-0000000000000000000000000000001f"),
        );
        assert_eq!(
            layout.lock_of_partial(&layout.partial(&digest)),
            Some(layout.lock(&digest))
        );
        assert_eq!(
            layout.lock_of_entry(&layout.entry(&digest)),
            Some(layout.lock(&digest))
        );
    }
}
