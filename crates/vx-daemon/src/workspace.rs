//! The user's sources: listed at every build, read only where something changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vx_tree::{DigestCache, HashError, Rules, Scan, ScanError, SourceTree, Stamp, scan};

use crate::cargo_home;

/// Why the sources could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourcesError {
    /// A directory could not be listed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A file could not be read.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// Directories that the user may change between two builds: the workspace, and path dependencies outside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    scans: Vec<Scan>,
}

impl Sources {
    /// Lists `roots`, without the target directory.
    ///
    /// Blocks for one `lstat` a file.
    pub(crate) fn list(
        roots: &[PathBuf],
        target_directory: &Path,
    ) -> Result<Sources, SourcesError> {
        let rules = Rules::sources([target_directory.to_owned()]);
        let scans = roots
            .iter()
            .map(|root| scan(root, &rules))
            .collect::<Result<_, _>>()?;
        Ok(Sources { scans })
    }

    /// Hashes what `cache` does not know, one tree for each root.
    pub(crate) fn hash(&self, cache: &DigestCache) -> Result<Vec<Arc<SourceTree>>, SourcesError> {
        self.scans
            .iter()
            .map(|scan| Ok(Arc::new(scan.hash(cache)?)))
            .collect()
    }

    /// Paths that no build can see, because a tree has no place for them.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = &Path> {
        self.scans
            .iter()
            .flat_map(|scan| scan.unusable.iter().map(PathBuf::as_path))
    }
}

/// The files outside of a project's tree that decide how cargo and rustup see it, with their stamps.
///
/// A file that is not there has no stamp; when it appears, the list differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl Surroundings {
    /// Looks at the configuration of cargo and rustup and at manifests in `directory` and above it, and in the user's homes of both.
    ///
    /// `channels` is where the meaning of release channels is written down.
    pub(crate) fn of(
        directory: &Path,
        environment: &[(String, String)],
        channels: PathBuf,
    ) -> Surroundings {
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| PathBuf::from(value))
        };
        let home = variable("HOME").unwrap_or_default();
        let cargo_home = cargo_home::of_user(environment, directory);
        let rustup_home = variable("RUSTUP_HOME").unwrap_or_else(|| home.join(".rustup"));
        let above = directory.ancestors().flat_map(|dir| {
            [
                "Cargo.toml",
                "Cargo.lock",
                "rust-toolchain.toml",
                "rust-toolchain",
                ".cargo/config.toml",
                ".cargo/config",
            ]
            .map(|name| dir.join(name))
        });
        let homes = [
            cargo_home.join("config.toml"),
            cargo_home.join("config"),
            rustup_home.join("settings.toml"),
            channels,
        ];
        Surroundings {
            files: above
                .chain(homes)
                .map(|path| {
                    let stamp = std::fs::metadata(&path).ok().map(|meta| Stamp::of(&meta));
                    (path, stamp)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_notice_a_config_file_that_appears_above_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("a/b");
        std::fs::create_dir_all(&project).unwrap();
        let of = |directory| Surroundings::of(directory, &[], PathBuf::from("/nonexistent"));
        let before = of(&project);
        assert_eq!(before, of(&project));
        std::fs::create_dir(dir.path().join(".cargo")).unwrap();
        std::fs::write(dir.path().join(".cargo/config.toml"), "").unwrap();
        assert_ne!(before, of(&project));
    }

    #[test]
    fn the_target_directory_is_no_source() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["src", "target"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("a"), "").unwrap();
        }
        let sources = Sources::list(&[dir.path().to_owned()], &dir.path().join("target")).unwrap();
        let trees = sources.hash(&DigestCache::default()).unwrap();
        assert_eq!(trees[0].names, ["src/", "src/a"]);
    }
}
