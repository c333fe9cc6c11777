//! Roots: which manifest of which user is kept.
//!
//! One small file for each directory, `roots/<uid>/<id>`, written whole or not at all.
//! What a user no longer keeps is noted in `released/<uid>`: only then may that user's own collection remove it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use vx_digest::Digest;

use crate::blobs::RootRequest;
use crate::error::Error;

const MAGIC: &[u8; 8] = b"vriftr1\n";
const RELEASED: &[u8; 8] = b"vriftd1\n";
/// Far more than a root with the longest path has.
const MAX_ROOT: u64 = 64 << 10;
/// Roots of one user.
pub(crate) const MAX_ROOTS: usize = 10_000;

/// The name of a root's file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(String);

impl RootId {
    /// The id of the root of a directory.
    pub fn of(path: &Path) -> RootId {
        let hash = blake3::hash(path.as_os_str().as_bytes());
        RootId(hash.to_hex()[..32].to_owned())
    }
}

/// A manifest that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Whose it is.
    pub uid: u32,
    /// What was registered.
    pub request: RootRequest,
    /// When, in seconds since 1970.
    pub registered: u64,
}

impl Root {
    /// Whether the directory is certainly gone: its nearest existing ancestor is on the device it was on.
    ///
    /// A disk that is not mounted is no reason to forget what was on it.
    /// Only the owner can tell, since nobody else may be able to look.
    pub fn is_stale(&self) -> bool {
        !self.request.phantom && is_gone(&self.request.path, self.request.device)
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.request.manifest.hash);
        body.extend(self.request.manifest.size.to_le_bytes());
        body.extend(self.request.device.to_le_bytes());
        body.push(u8::from(self.request.phantom));
        body.extend(self.registered.to_le_bytes());
        body.extend(self.request.path.as_os_str().as_bytes());
        sealed(MAGIC, &body)
    }

    fn parse(bytes: &[u8], uid: u32) -> Option<Root> {
        let body = unsealed(MAGIC, bytes)?;
        let (hash, rest) = body.split_first_chunk::<32>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (device, rest) = rest.split_first_chunk::<8>()?;
        let (phantom, rest) = rest.split_first_chunk::<1>()?;
        let (registered, path) = rest.split_first_chunk::<8>()?;
        Some(Root {
            uid,
            request: RootRequest {
                path: PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())),
                manifest: Digest {
                    hash: *hash,
                    size: u64::from_le_bytes(*size),
                },
                device: u64::from_le_bytes(*device),
                phantom: phantom[0] != 0,
            },
            registered: u64::from_le_bytes(*registered),
        })
    }
}

/// Whether a directory that was on a device is certainly gone: its nearest existing ancestor is on the same one.
pub fn is_gone(path: &Path, device: u64) -> bool {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path
            .ancestors()
            .find_map(|ancestor| fs::metadata(ancestor).ok())
            .is_some_and(|metadata| metadata.dev() == device),
        _ => false,
    }
}

fn sealed(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(blake3::hash(body).as_bytes());
    bytes.extend(body);
    bytes
}

fn unsealed<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (checksum, body) = bytes.strip_prefix(magic)?.split_at_checked(32)?;
    (blake3::hash(body).as_bytes() == checksum).then_some(body)
}

/// The directories `roots` and `released` of a home.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    home: PathBuf,
}

impl Roots {
    pub(crate) fn at(home: &Path) -> Roots {
        Roots {
            home: home.to_owned(),
        }
    }

    fn dir(&self, uid: u32) -> PathBuf {
        self.home.join("roots").join(uid.to_string())
    }

    /// The file of a root.
    pub(crate) fn file(&self, uid: u32, path: &Path) -> PathBuf {
        self.dir(uid).join(RootId::of(path).0)
    }

    fn released_path(&self, uid: u32) -> PathBuf {
        self.home.join("released").join(uid.to_string())
    }

    /// The root of a directory, with the time its file was written.
    pub(crate) fn get(&self, uid: u32, path: &Path) -> Result<Option<Root>, Error> {
        self.read(uid, &self.dir(uid).join(RootId::of(path).0))
    }

    fn read(&self, uid: u32, file: &Path) -> Result<Option<Root>, Error> {
        match read_at_most(file, MAX_ROOT) {
            Ok(bytes) => match Root::parse(&bytes, uid) {
                Some(root) => Ok(Some(root)),
                None => Err(Error::Refused(format!(
                    "root `{}` is damaged, so nothing can be said about what it keeps; remove the file to give it up",
                    file.display()
                ))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", file)(error)),
        }
    }

    /// The users that have roots.
    pub(crate) fn users(&self) -> Result<Vec<u32>, Error> {
        let mut users = HashSet::new();
        for name in ["roots", "released"] {
            for file in names(&self.home.join(name))? {
                users.extend(file.parse::<u32>().ok());
            }
        }
        let mut users: Vec<u32> = users.into_iter().collect();
        users.sort_unstable();
        Ok(users)
    }

    /// All roots of a user, by path.
    pub(crate) fn of(&self, uid: u32) -> Result<Vec<Root>, Error> {
        let dir = self.dir(uid);
        let mut roots = Vec::new();
        for name in names(&dir)? {
            // A file on its way has a dot.
            if !name.contains('.')
                && let Some(root) = self.read(uid, &dir.join(name))?
            {
                roots.push(root);
            }
        }
        roots.sort_by(|a, b| a.request.path.cmp(&b.request.path));
        Ok(roots)
    }

    /// Writes a root, durably.
    pub(crate) fn set(&self, uid: u32, request: &RootRequest) -> Result<(), Error> {
        let dir = self.dir(uid);
        make_private(&dir)?;
        let root = Root {
            uid,
            request: request.clone(),
            registered: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        write_whole(&dir.join(RootId::of(&request.path).0), &root.encode())
    }

    pub(crate) fn remove(&self, uid: u32, path: &Path) -> Result<(), Error> {
        let file = self.dir(uid).join(RootId::of(path).0);
        match fs::remove_file(&file) {
            Ok(()) => sync_dir(&self.dir(uid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("remove", file)(error)),
        }
    }

    /// What a user gave up; damage is as good as nothing, since it only lets less be removed.
    pub(crate) fn released(&self, uid: u32) -> Result<HashSet<Digest>, Error> {
        let file = self.released_path(uid);
        let bytes = match read_at_most(&file, 4 << 30) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            Err(error) => return Err(Error::io("read", file)(error)),
        };
        let body = unsealed(RELEASED, &bytes).unwrap_or_default();
        let (digests, _) = body.as_chunks::<40>();
        Ok(digests
            .iter()
            .filter_map(|bytes| {
                let (hash, size) = bytes.split_first_chunk::<32>()?;
                Some(Digest {
                    hash: *hash,
                    size: u64::from_le_bytes(size.try_into().ok()?),
                })
            })
            .collect())
    }

    /// Replaces what a user gave up.
    pub(crate) fn set_released(&self, uid: u32, digests: &HashSet<Digest>) -> Result<(), Error> {
        let file = self.released_path(uid);
        if digests.is_empty() {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::io("remove", file)(error))
                }
                _ => Ok(()),
            };
        }
        make_private(&self.home.join("released"))?;
        let mut sorted: Vec<&Digest> = digests.iter().collect();
        sorted.sort_unstable();
        let mut body = Vec::with_capacity(sorted.len() * 40);
        for digest in sorted {
            body.extend(digest.hash);
            body.extend(digest.size.to_le_bytes());
        }
        write_whole(&file, &sealed(RELEASED, &body))
    }
}

pub(crate) fn make_private(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("create", dir))
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a file that nobody else writes to in place.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than anything this version writes",
        ));
    }
    Ok(bytes)
}

/// Writes a file so that a reader sees the old or the new bytes, also after a power cut.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, true)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// As [`write_whole`] for what can be made again: after a power cut it may be the old one, empty or gone.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<(), Error> {
    let failed = |source| Error::io("write", path)(source);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = dir.join(name);
    let write = || -> io::Result<()> {
        // One that an earlier process of this number left is nobody's.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ignored = fs::remove_file(&temporary);
        failed(error)
    })
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> RootRequest {
        RootRequest {
            path: path.into(),
            manifest: Digest::of(b"abc"),
            device: 7,
            phantom: true,
        }
    }

    #[test]
    fn roots_are_written_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        assert_eq!(roots.get(1, Path::new("/p")).unwrap(), None);
        roots.set(1, &request("/p")).unwrap();
        roots.set(1, &request("/o")).unwrap();
        roots.set(2, &request("/p")).unwrap();
        let of_one = roots.of(1).unwrap();
        let paths: Vec<_> = of_one.iter().map(|root| &root.request.path).collect();
        assert_eq!(paths, [Path::new("/o"), Path::new("/p")]);
        assert_eq!(of_one[0].request, request("/o"));
        assert_eq!(roots.users().unwrap(), [1, 2]);
        roots.remove(1, Path::new("/p")).unwrap();
        assert_eq!(roots.of(1).unwrap().len(), 1);
        assert_eq!(roots.of(2).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_root_is_an_error_and_not_an_absence() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        roots.set(1, &request("/p")).unwrap();
        let file = roots.dir(1).join(RootId::of(Path::new("/p")).0);
        let mut bytes = fs::read(&file).unwrap();
        bytes[60] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(roots.of(1).unwrap_err().to_string().contains("is damaged"));
    }

    #[test]
    fn released_digests_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        let set: HashSet<Digest> = (0..9u8).map(|n| Digest::of(&[n])).collect();
        roots.set_released(1, &set).unwrap();
        assert_eq!(roots.released(1).unwrap(), set);
        roots.set_released(1, &HashSet::new()).unwrap();
        assert!(roots.released(1).unwrap().is_empty());
        assert!(!roots.released_path(1).exists());
    }
}
