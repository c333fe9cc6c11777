//! A store with its roots in one directory: `~/.vrift` of a user, `/var/lib/vrift` of the daemon.
//!
//! | name | what it is |
//! |---|---|
//! | `the_source/` | the blobs, in the format of `cas-store` with two levels |
//! | `roots/<uid>/` | manifests that are kept |
//! | `released/<uid>` | blobs that a user no longer keeps |
//! | `id` | sixteen random bytes that name the store |
//! | `lock` | shared while a root is written, exclusive while garbage is collected |

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_store::{Durability, Options, Sources, Store};
use rustix::fs::FlockOperation;
use vx_digest::Digest;

use crate::batch::Batch;
use crate::blobs::{Blobs, Projection, Put, RootRequest};
use crate::error::Error;
use crate::manifest::{MAX_BYTES, Manifest};
use crate::roots::{MAX_ROOTS, Root, Roots, make_private, write_whole};

/// How long this process keeps what it touched from collection by itself.
const LEASE: Duration = Duration::from_secs(60);

/// How a home is opened.
#[derive(Clone, Copy, Debug)]
pub struct HomeOptions {
    /// Whose roots [`Blobs::register`] writes.
    pub uid: u32,
    /// How long what was used by this process is spared by its own collections.
    pub lease: Duration,
}

impl HomeOptions {
    /// For the user who runs this process.
    pub fn own() -> HomeOptions {
        HomeOptions {
            uid: rustix::process::geteuid().as_raw(),
            lease: LEASE,
        }
    }
}

/// A store with its roots, open.
#[derive(Clone, Debug)]
pub struct Home {
    pub(crate) path: PathBuf,
    pub(crate) store: Store,
    pub(crate) roots: Roots,
    pub(crate) options: HomeOptions,
    id: [u8; 16],
}

impl Home {
    /// Opens a home, making what is missing.
    ///
    /// # Errors
    /// When the directory cannot be used or contains something else.
    pub fn open(path: &Path, options: HomeOptions) -> Result<Home, Error> {
        let path = std::path::absolute(path).map_err(Error::io("open", path))?;
        make_private(&path)?;
        let store = Store::open(
            &path.join("the_source"),
            Options {
                levels: 2,
                durability: Durability::Grouped,
                lease: options.lease,
                directory_mode: 0o700,
                ..Options::default()
            },
        )?;
        let id = read_or_make_id(&path)?;
        Ok(Home {
            roots: Roots::at(&path),
            store,
            options,
            id,
            path,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The blobs.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Holds the lock of the home until the file is dropped.
    pub(crate) fn lock(&self, operation: FlockOperation) -> Result<File, Error> {
        lock_file(&self.path.join("lock"), operation)
    }

    /// Keeps a manifest for a user, after every blob of it was seen to be there.
    ///
    /// Collection cannot run in between.
    ///
    /// # Errors
    /// [`Error::Missing`] when blobs have to be stored again, [`Error::Absent`] when the manifest itself has.
    pub fn register_for(&self, uid: u32, request: &RootRequest) -> Result<(), Error> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let manifest = self.manifest(&request.manifest)?;
        let digests: Vec<Digest> = manifest.digests().into_iter().collect();
        let missing = self.store.missing_unlocked(&digests)?;
        if !missing.is_empty() {
            return Err(Error::Missing(missing));
        }
        let old = match self.roots.get(uid, &request.path) {
            Ok(old) => old,
            // A root that cannot be read keeps nothing, and this one takes its place.
            Err(Error::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        if old.is_none() && self.roots.of(uid)?.len() >= MAX_ROOTS {
            return Err(Error::Quota(format!(
                "user {uid} keeps {MAX_ROOTS} directories already"
            )));
        }
        if let Some(old) = old
            && old.request.manifest != request.manifest
        {
            self.release(uid, &old)?;
        }
        self.roots.set(uid, request)
    }

    /// Notes what a root kept as given up by its user; who still keeps it by another root is found when it matters.
    fn release(&self, uid: u32, root: &Root) -> Result<(), Error> {
        let Ok(manifest) = self.manifest(&root.request.manifest) else {
            // Damaged or gone: its blobs wait for the administrator's collection.
            return Ok(());
        };
        let mut digests = manifest.digests();
        digests.insert(root.request.manifest);
        self.release_digests(uid, digests)
    }

    /// Notes blobs that a user stored or kept and no longer needs, so that the user's own collection may remove them.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn release_digests(
        &self,
        uid: u32,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<(), Error> {
        let _lock = lock_file(
            &self.path.join("released.lock"),
            FlockOperation::LockExclusive,
        )?;
        let mut released = self.roots.released(uid)?;
        released.extend(digests);
        self.roots.set_released(uid, &released)
    }

    /// Gives up the root of a directory; returns whether there was one.
    ///
    /// # Errors
    /// When the root cannot be read or removed.
    pub fn forget(&self, uid: u32, path: &Path) -> Result<bool, Error> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let Some(root) = self.roots.get(uid, path)? else {
            return Ok(false);
        };
        self.release(uid, &root)?;
        self.roots.remove(uid, path)?;
        Ok(true)
    }

    /// The roots of a user.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn roots_of(&self, uid: u32) -> Result<Vec<Root>, Error> {
        self.roots.of(uid)
    }

    /// The root of a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn root_of(&self, uid: u32, path: &Path) -> Result<Option<Root>, Error> {
        self.roots.get(uid, path)
    }

    /// Whether a manifest is registered for a directory and nothing was found damaged since.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn has_root_for(&self, uid: u32, path: &Path, manifest: &Digest) -> Result<bool, Error> {
        let Ok(Some(root)) = self.roots.get(uid, path) else {
            return Ok(false);
        };
        // What is damaged is moved to this directory, which changes it.
        let changed = |path: PathBuf| {
            fs::metadata(&path)
                .and_then(|metadata| metadata.modified())
                .map_err(Error::io("look at", path))
        };
        let damaged = changed(self.store.root().join("quarantine"))?;
        let registered = changed(self.roots.file(uid, path))?;
        Ok(root.request.manifest == *manifest && damaged < registered)
    }

    /// A manifest in the store.
    ///
    /// # Errors
    /// When it is absent or no manifest.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        if digest.size > MAX_BYTES as u64 {
            return Err(Error::Refused(format!(
                "`{digest}` is too large for a manifest"
            )));
        }
        let bytes = self.store.peek(digest)?.ok_or_else(|| Error::Absent {
            digest: *digest,
            path: "a manifest".to_owned(),
        })?;
        Manifest::parse(&bytes).map_err(|source| Error::Manifest {
            path: digest.to_string().into(),
            source,
        })
    }

    /// All blobs that the roots of a user keep, manifests included, as far as the store still has the manifests.
    ///
    /// Whoever has lost a manifest has to show its content again; nothing may be removed on this word.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn kept_by(&self, uid: u32) -> Result<HashSet<Digest>, Error> {
        let mut kept = HashSet::new();
        for root in self.roots.of(uid)? {
            match self.manifest(&root.request.manifest) {
                Ok(manifest) => kept.extend(manifest.digests()),
                Err(Error::Absent { .. }) => continue,
                Err(error) => return Err(error),
            }
            kept.insert(root.request.manifest);
        }
        Ok(kept)
    }

    /// Starts a batch of blobs that become durable and visible together.
    pub fn batch_of_blobs(&self) -> Batch {
        Batch::new(&self.store)
    }
}

/// Locks a file, which is made if it is missing, until it is dropped.
///
/// # Errors
/// The system's; `WouldBlock` when it is not to wait and somebody else holds the lock.
pub fn lock_file(path: &Path, operation: FlockOperation) -> Result<File, Error> {
    let open = |writable: bool| {
        fs::OpenOptions::new()
            .read(true)
            .append(writable)
            .create(writable)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    };
    let lock = || -> io::Result<File> {
        let file = match open(true) {
            // A lock is no change: who reads there keeps collections away as everybody does.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                open(false).or(Err(error))?
            }
            result => result?,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result.map(|()| file)?),
            }
        }
    };
    lock().map_err(Error::io("lock", path))
}

fn read_or_make_id(home: &Path) -> Result<[u8; 16], Error> {
    let path = home.join("id");
    let _lock = lock_file(&home.join("lock"), FlockOperation::LockExclusive)?;
    for _ in 0..2 {
        let mut id = [0; 16];
        match File::open(&path).and_then(|mut file| file.read_exact(&mut id)) {
            Ok(()) => return Ok(id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Refused(format!(
                    "`{}` is cut off: it is the name of the store, by which directories with links into it know it; put it back from a backup, and remove it only if there are no such directories",
                    path.display()
                )));
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
        getrandom::fill(&mut id)
            .map_err(|error| Error::io("create", &path)(io::Error::other(error.to_string())))?;
        write_whole(&path, &id)?;
    }
    Err(Error::io("read", &path)(io::ErrorKind::NotFound.into()))
}

impl Blobs for Home {
    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn name(&self) -> String {
        self.store.root().display().to_string()
    }

    fn place(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn put(&self, files: &dyn Sources) -> Result<Vec<io::Result<Put>>, Error> {
        // One more than there are processors: one or another waits for a directory or the journal.
        let threads = std::thread::available_parallelism().map_or(2, |n| (n.get() + 1).min(8));
        let answers = self.store.put_files(files, threads)?;
        Ok(answers
            .into_iter()
            .map(|answer| {
                answer.map(|stored| Put {
                    digest: stored.digest,
                    new: stored.new,
                })
            })
            .collect())
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<Put, Error> {
        let stored = self.store.put_bytes(&Digest::of(bytes), bytes)?;
        Ok(Put {
            digest: stored.digest,
            new: stored.new,
        })
    }

    fn register(&self, request: &RootRequest) -> Result<(), Error> {
        self.register_for(self.options.uid, request)
    }

    fn hold(&self) -> Result<Option<File>, Error> {
        self.lock(FlockOperation::LockShared).map(Some)
    }

    fn has_root(&self, path: &Path, manifest: &Digest) -> Result<bool, Error> {
        self.has_root_for(self.options.uid, path, manifest)
    }

    fn root_manifest(&self, path: &Path) -> Result<Option<Digest>, Error> {
        let root = self.roots.get(self.options.uid, path)?;
        Ok(root.map(|root| root.request.manifest))
    }

    fn open(&self, digests: &[Digest]) -> Result<Vec<Option<File>>, Error> {
        digests
            .iter()
            .map(|digest| {
                let blob = self.store.open_blob(digest)?;
                Ok(blob.map(cas_store::VerifiedFile::into_file))
            })
            .collect()
    }

    fn projection(&self) -> Projection {
        if rustix::process::geteuid().is_root() {
            return Projection::Refused {
                why: "root could write through the links into the store".to_owned(),
            };
        }
        Projection::Allowed
    }

    fn blob_path(&self, digest: &Digest, executable: bool) -> Result<Option<PathBuf>, Error> {
        self.store
            .path(digest, executable)
            .map_err(|error| match error {
                cas_store::PlaceError::Read(error) => error.into(),
                cas_store::PlaceError::Twin(error) => error.into(),
                cas_store::PlaceError::Destination { path, source, .. } => {
                    Error::io("write", path)(source)
                }
            })
    }

    fn digest_of(&self, target: &Path) -> Option<(Digest, bool)> {
        let rest = target.strip_prefix(self.store.root().join("blake3")).ok()?;
        let name = rest.file_name()?.to_str()?;
        let (stem, executable) = match name.strip_suffix(".x.bin") {
            Some(stem) => (stem, true),
            None => (name.strip_suffix(".bin")?, false),
        };
        let (hash, size) = stem.split_once('_')?;
        let digest: Digest = format!("{hash}/{size}").parse().ok()?;
        let shards = format!("{}/{}/{name}", hash.get(..2)?, hash.get(2..4)?);
        (rest == Path::new(&shards)).then_some((digest, executable))
    }
}
