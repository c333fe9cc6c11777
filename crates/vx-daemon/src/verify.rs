//! Whether the sources of a package are those that Cargo.lock means.
//!
//! cargo checks an archive when it downloads it, and never again; what was unpacked, it checks never.
//! Here the archive is hashed once more, and every file that is about to become an input is compared with the one in the archive.
//! Vendored packages have no archive but a list of hashes of their files, as `cargo vendor` writes it.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::Digest as _;
use vx_proto::{Digest, DigestFunction};
use vx_tree::{Rules, SourceFile};

/// What an archive may unpack to, in bytes; cargo itself takes 512 MiB.
const MOST_BYTES: u64 = 2 << 30;
/// What cargo leaves beside the files of a package.
const MARK: &str = ".cargo-ok";
/// The list of hashes in a vendored package.
const LIST: &str = ".cargo-checksum.json";

/// A package whose sources do not change by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Immutable {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// What tells it from all others.
    pub(crate) identity: String,
    /// Where it is unpacked.
    pub(crate) root: PathBuf,
    /// The SHA-256 of its archive, from Cargo.lock; packages from git have none.
    pub(crate) checksum: Option<String>,
}

/// What could be said about a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verified {
    /// Its files are those that Cargo.lock means.
    Yes,
    /// Cargo.lock does not say what its files are.
    NotAsked,
    /// There is nothing to compare its files with.
    NoArchive,
}

/// Why sources are not those that Cargo.lock means.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The archive is another one.
    #[error("`{package}` has the checksum {found}, but Cargo.lock says {expected}: `{}`", file.display())]
    Checksum {
        /// The package with its version.
        package: String,
        /// The checksum in Cargo.lock.
        expected: String,
        /// That of the file.
        found: String,
        /// The archive, or the list of hashes.
        file: PathBuf,
    },
    /// A file is not the one in the archive.
    #[error("the file `{path}` of `{package}` {what}: `{}`", root.display())]
    Differs {
        /// The package with its version.
        package: String,
        /// The file.
        path: String,
        /// How it differs.
        what: String,
        /// Where the package is unpacked.
        root: PathBuf,
    },
    /// The archive or the list cannot be read.
    #[error("cannot check the sources of `{package}` with `{}`", file.display())]
    Read {
        /// The package with its version.
        package: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl VerifyError {
    /// What a user can do about it.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            VerifyError::Checksum { file, .. } if file.ends_with(LIST) => {
                vec!["run `cargo vendor` again, if the sources may be trusted".to_owned()]
            }
            VerifyError::Checksum { file, .. } | VerifyError::Read { file, .. } => vec![format!(
                "remove `{}` and the directory that was unpacked from it; cargo then downloads it anew",
                file.display()
            )],
            VerifyError::Differs { root, .. } => vec![format!(
                "remove `{}`; cargo then unpacks it anew (vendored sources: `cargo vendor`). To change a dependency, use `[patch]` with a path",
                root.display()
            )],
        }
    }
}

impl Immutable {
    /// Compares `files`, the content of `root` as it is about to be used, with what Cargo.lock means. Blocks.
    ///
    /// # Errors
    ///
    /// Anything that differs.
    pub(crate) fn verify(&self, files: &[SourceFile]) -> Result<Verified, VerifyError> {
        if let Some(archive) = self.archive() {
            return match &self.checksum {
                None => Ok(Verified::NotAsked),
                // cargo may take a package from a directory of archives, and leaves none in its cache then.
                Some(_) if !archive.is_file() => Ok(Verified::NoArchive),
                Some(checksum) => self.compare_archive(&archive, checksum, files),
            };
        }
        let list = self.root.join(LIST);
        if list.is_file() {
            return self.compare_list(&list, files);
        }
        Ok(match self.checksum {
            Some(_) => Verified::NoArchive,
            None => Verified::NotAsked,
        })
    }

    /// The archive beside sources in `registry/src/<registry>/<name>-<version>`.
    fn archive(&self) -> Option<PathBuf> {
        let registry = self.root.parent()?;
        let sources = registry.parent()?;
        if sources.file_name()? != "src" || sources.parent()?.file_name()? != "registry" {
            return None;
        }
        let cache = sources.with_file_name("cache").join(registry.file_name()?);
        Some(cache.join(format!("{}-{}.crate", self.name, self.version)))
    }

    /// Removes the package and its archive, so that cargo fetches it anew. Blocks.
    ///
    /// # Errors
    ///
    /// What cannot be removed; a user has to do it then.
    pub(crate) fn discard(&self) -> io::Result<()> {
        let gone = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        // While the archive is there, cargo would unpack it again.
        if let Some(archive) = self.archive() {
            gone(fs::remove_file(archive))?;
        }
        gone(fs::remove_dir_all(&self.root))
    }

    fn compare_archive(
        &self,
        archive: &Path,
        checksum: &str,
        files: &[SourceFile],
    ) -> Result<Verified, VerifyError> {
        let failed = |source| self.unreadable(archive, source);
        let found = sha256(archive).map_err(failed)?;
        if found != checksum {
            return Err(self.other_checksum(checksum, found, archive));
        }
        let contents = contents(archive).map_err(failed)?;
        let there: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        for file in files.iter().filter(|file| file.path != MARK) {
            let differs = |what: &str| self.differs(&file.path, what);
            match contents.get(&file.path) {
                None => return Err(differs("is not in its archive")),
                Some((digest, _)) if *digest != file.digest => {
                    return Err(differs("is not the one in its archive"));
                }
                Some((_, executable)) if *executable != file.executable => {
                    return Err(differs("has another mode than in its archive"));
                }
                Some(_) => {}
            }
        }
        // Directories of version control are left out of trees.
        let left_out = Rules::sources([]).skip_names;
        let missing = contents.keys().find(|path| {
            let is_left_out = path.split('/').any(|part| left_out.contains(part));
            !is_left_out && !there.contains(path.as_str())
        });
        match missing {
            Some(path) => Err(self.differs(path, "is missing")),
            None => Ok(Verified::Yes),
        }
    }

    fn compare_list(&self, list: &Path, files: &[SourceFile]) -> Result<Verified, VerifyError> {
        #[derive(Deserialize)]
        struct List {
            package: Option<String>,
            files: BTreeMap<String, String>,
        }
        let failed = |source| self.unreadable(list, source);
        let file = File::open(list).map_err(failed)?;
        let hashes: List = serde_json::from_reader(BufReader::new(file))
            .map_err(|error| self.unreadable(list, error.into()))?;
        if let (Some(expected), Some(found)) = (&self.checksum, hashes.package)
            && *expected != found
        {
            return Err(self.other_checksum(expected, found, list));
        }
        for path in files.iter().map(|file| &file.path) {
            // cargo takes files that the list does not have, and so does the key of whatever uses them.
            let Some(expected) = hashes.files.get(path) else {
                continue;
            };
            let file = self.root.join(path);
            let found = sha256(&file).map_err(|source| self.unreadable(&file, source))?;
            if found != *expected {
                let what = format!("has the SHA-256 {found} instead of {expected}");
                return Err(self.differs(path, &what));
            }
        }
        Ok(Verified::Yes)
    }

    /// That its archive, or the list of its hashes, is in `file` and has the checksum `found`.
    pub(crate) fn other_checksum(&self, expected: &str, found: String, file: &Path) -> VerifyError {
        VerifyError::Checksum {
            package: format!("{} {}", self.name, self.version),
            expected: expected.to_owned(),
            found,
            file: file.to_owned(),
        }
    }

    fn differs(&self, path: &str, what: &str) -> VerifyError {
        VerifyError::Differs {
            package: format!("{} {}", self.name, self.version),
            path: path.to_owned(),
            what: what.to_owned(),
            root: self.root.clone(),
        }
    }

    fn unreadable(&self, file: &Path, source: io::Error) -> VerifyError {
        VerifyError::Read {
            package: format!("{} {}", self.name, self.version),
            file: file.to_owned(),
            source,
        }
    }
}

/// The SHA-256 of a file, in lower-case hexadecimal digits. Blocks.
pub(crate) fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The files of an archive, without its top directory: their digests, and whether they may be executed.
fn contents(archive: &Path) -> io::Result<BTreeMap<String, (Digest, bool)>> {
    let file = BufReader::with_capacity(128 << 10, File::open(archive)?);
    let unpacked = flate2::bufread::GzDecoder::new(file).take(MOST_BYTES);
    let mut archive = tar::Archive::new(unpacked);
    let mut contents = BTreeMap::new();
    let mut buffer = vec![0; 64 << 10];
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((_, path)) = path.split_once('/') else {
            continue;
        };
        let path = path.to_owned();
        let executable = entry.header().mode()? & 0o100 != 0;
        let mut hasher = DigestFunction::Blake3.hasher();
        loop {
            match entry.read(&mut buffer)? {
                0 => break,
                length => hasher.update(&buffer[..length]),
            }
        }
        contents.insert(path, (hasher.finish(), executable));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
