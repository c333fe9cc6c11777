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
mod tests {
    use std::io::Write;

    use vx_tree::{DigestCache, scan};

    use super::*;

    /// A package in a registry, unpacked as cargo does it.
    fn package(dir: &Path) -> Immutable {
        let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(packed);
        let root = dir.join("registry/src/index/a-1.0.0");
        fs::create_dir_all(root.join("src")).unwrap();
        for (path, content) in [("Cargo.toml", "[package]"), ("src/lib.rs", "// a")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("a-1.0.0/{path}"), content.as_bytes())
                .unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        fs::write(root.join(MARK), "{}").unwrap();
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let cache = dir.join("registry/cache/index");
        fs::create_dir_all(&cache).unwrap();
        let archive_path = cache.join("a-1.0.0.crate");
        fs::write(&archive_path, archive).unwrap();
        Immutable {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            identity: "a 1.0.0".to_owned(),
            checksum: Some(sha256(&archive_path).unwrap()),
            root,
        }
    }

    fn verify(package: &Immutable) -> Result<Verified, String> {
        let tree = scan(&package.root, &Rules::sources([])).unwrap();
        let tree = tree.hash(&DigestCache::default()).unwrap();
        package
            .verify(&tree.files)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sources_of_a_registry_are_those_of_the_archive_that_the_lock_file_names() {
        let dir = tempfile::tempdir().unwrap();
        let package = package(dir.path());
        let file = package.root.join("src/lib.rs");
        assert_eq!(verify(&package), Ok(Verified::Yes));
        fs::write(&file, "// b").unwrap();
        let error = verify(&package).unwrap_err();
        let says = "the file `src/lib.rs` of `a 1.0.0` is not the one in its archive";
        assert!(error.starts_with(says), "{error}");
        fs::remove_file(&file).unwrap();
        assert!(verify(&package).unwrap_err().contains("is missing"));
        fs::write(&file, "// a").unwrap();
        let extra = package.root.join("build.rs");
        fs::write(&extra, "").unwrap();
        assert!(
            verify(&package)
                .unwrap_err()
                .contains("is not in its archive")
        );
        fs::remove_file(extra).unwrap();
        assert_eq!(verify(&package), Ok(Verified::Yes));
    }

    #[test]
    fn another_archive_is_told_with_both_checksums() {
        let dir = tempfile::tempdir().unwrap();
        let mut package = package(dir.path());
        let found = package.checksum.replace("0".repeat(64)).unwrap();
        let error = verify(&package).unwrap_err();
        let says = format!(
            "`a 1.0.0` has the checksum {found}, but Cargo.lock says {}",
            "0".repeat(64)
        );
        assert!(error.starts_with(&says), "{error}");
        package.checksum = None;
        assert_eq!(verify(&package), Ok(Verified::NotAsked));
        package.checksum = Some(found);
        fs::remove_dir_all(dir.path().join("registry/cache")).unwrap();
        assert_eq!(verify(&package), Ok(Verified::NoArchive));
    }

    #[test]
    fn vendored_sources_are_those_of_their_list() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("vendor/a");
        fs::create_dir_all(&root).unwrap();
        let file = root.join("lib.rs");
        fs::write(&file, "// a").unwrap();
        let sum = sha256(&file).unwrap();
        let mut list = File::create(root.join(LIST)).unwrap();
        write!(list, r#"{{"package":"abc","files":{{"lib.rs":"{sum}"}}}}"#).unwrap();
        let mut package = Immutable {
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            identity: "a 1.0.0".to_owned(),
            checksum: Some("abc".to_owned()),
            root,
        };
        assert_eq!(verify(&package), Ok(Verified::Yes));
        fs::write(&file, "// b").unwrap();
        let error = verify(&package).unwrap_err();
        assert!(
            error.contains("`lib.rs` of `a 1.0.0` has the SHA-256"),
            "{error}"
        );
        package.checksum = Some("def".to_owned());
        let error = verify(&package).unwrap_err();
        assert!(
            error.contains("has the checksum abc, but Cargo.lock says def"),
            "{error}"
        );
    }
}
