//! Finding and reading blobs: what is damaged is quarantined and absent, never an answer.
//!
//! Two checks guard every use: the size, by one `stat`, and once per process and inode the hash.
//! A claim takes the shard's lock, shared, so that what was found is still there when the use is noted; garbage collection takes it exclusively and looks again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use vx_digest::{Digest, DigestFunction};

use crate::area::{self, Area};
use crate::error::ReadError;
use crate::layout::{self, Kind};
use crate::memory::Stamp;
use crate::platform;
use crate::store::{Inner, Store};

/// How often an operation starts again because another process got in between.
pub(crate) const ATTEMPTS: usize = 16;

/// Bytes read at once while hashing.
const CHUNK: usize = 256 << 10;

/// A blob that is there, of the right size, and in use; the shard stays locked while this lives.
pub(crate) struct Claim {
    pub(crate) shard: OwnedFd,
    pub(crate) name: String,
    pub(crate) stat: Stat,
}

/// A blob's file whose content was checked against its digest.
#[derive(Debug)]
pub struct VerifiedFile {
    file: File,
    size: u64,
}

impl VerifiedFile {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file, positioned at its start.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file itself.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Read for VerifiedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for VerifiedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Store {
    /// The content of a blob, or `None` when it is absent.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        if *digest == Digest::EMPTY {
            return Ok(Some(Vec::new()));
        }
        self.inner
            .read(digest)
            .map_err(|source| ReadError::blob(digest, source))
    }

    /// A blob's file, or `None` when it is absent.
    ///
    /// The whole content is hashed when this process meets it for the first time.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<VerifiedFile>, ReadError> {
        self.ensure_empty(digest)
            .map_err(|source| ReadError::blob(digest, source))?;
        let file = self.inner.open_verified(digest, Kind::Plain);
        file.map(|file| {
            file.map(|file| VerifiedFile {
                file,
                size: digest.size,
            })
        })
        .map_err(|source| ReadError::blob(digest, source))
    }
}

impl Inner {
    /// Finds a blob by name and size, and notes the use.
    pub(crate) fn claim(&self, digest: &Digest, kind: Kind) -> io::Result<Option<Claim>> {
        let name = layout::blob_name(digest, kind);
        for _ in 0..ATTEMPTS {
            let Some(shard) = self.blobs.shard(&digest.hash)? else {
                return Ok(None);
            };
            area::lock(&shard, FlockOperation::LockShared)?;
            let Some(stat) = area::stat(&shard, &name)? else {
                return Ok(None);
            };
            if fits(&stat, digest) {
                self.note_use(&shard, &name, &stat, digest, kind.mode());
                return Ok(Some(Claim { shard, name, stat }));
            }
            drop(shard);
            self.quarantine_if(&self.blobs, &digest.hash, &name, &|stat| {
                !fits(stat, digest)
            })?;
        }
        Ok(None)
    }

    /// As [`Inner::claim`], with the content checked as well.
    pub(crate) fn claim_verified(&self, digest: &Digest, kind: Kind) -> io::Result<Option<Claim>> {
        for _ in 0..ATTEMPTS {
            let Some(claim) = self.claim(digest, kind)? else {
                return Ok(None);
            };
            if self.verified.contains(digest, kind, Stamp::of(&claim.stat)) {
                return Ok(Some(claim));
            }
            // What is hashed in no time may be hashed under the lock, and is not looked for again.
            if digest.size <= CHUNK as u64
                && let Some(file) = open_file(&claim.shard, &claim.name, OFlags::empty())?
            {
                self.counters
                    .hashed
                    .fetch_add(digest.size, Ordering::Relaxed);
                let stamp = Stamp::of(&claim.stat);
                if hash_file(&file)? == *digest && Stamp::of(&rustix::fs::fstat(&file)?) == stamp {
                    self.verified.insert(digest, kind, stamp);
                    return Ok(Some(claim));
                }
            }
            drop(claim);
            if self.open_verified(digest, kind)?.is_none() {
                return Ok(None);
            }
        }
        Err(io::Error::other(
            "the blob changes faster than it can be read",
        ))
    }

    /// Opens a blob and checks its content unless this process did before.
    pub(crate) fn open_verified(&self, digest: &Digest, kind: Kind) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            let Some((file, stamp)) = self.open_claimed(digest, kind)? else {
                return Ok(None);
            };
            if self.verified.contains(digest, kind, stamp) {
                return Ok(Some(file));
            }
            self.counters
                .hashed
                .fetch_add(digest.size, Ordering::Relaxed);
            let right = hash_file(&file)? == *digest;
            if self.judge(digest, kind, &file, stamp, right)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn read(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            let kind = Kind::Plain;
            let Some((mut file, stamp)) = self.open_claimed(digest, kind)? else {
                return Ok(None);
            };
            // The size of the file is that of the digest, so this allocates what is really there.
            let size = usize::try_from(digest.size)
                .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            let mut bytes = Vec::new();
            bytes
                .try_reserve_exact(size)
                .map_err(|_| io::ErrorKind::OutOfMemory)?;
            (&mut file).take(digest.size).read_to_end(&mut bytes)?;
            if self.verified.contains(digest, kind, stamp) && bytes.len() == size {
                return Ok(Some(bytes));
            }
            self.counters
                .hashed
                .fetch_add(digest.size, Ordering::Relaxed);
            let right = Digest::of(&bytes) == *digest;
            if self.judge(digest, kind, &file, stamp, right)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Opens a blob under its claim; the lock ends here, so that hashing a large file stops nobody.
    fn open_claimed(&self, digest: &Digest, kind: Kind) -> io::Result<Option<(File, Stamp)>> {
        let Some(claim) = self.claim(digest, kind)? else {
            return Ok(None);
        };
        let Some(file) = open_file(&claim.shard, &claim.name, OFlags::empty())? else {
            return Ok(None);
        };
        let stamp = Stamp::of(&rustix::fs::fstat(&file)?);
        Ok(Some((file, stamp)))
    }

    /// Remembers what hashing found, or moves the very inode that was hashed out of the way.
    fn judge(
        &self,
        digest: &Digest,
        kind: Kind,
        file: &File,
        stamp: Stamp,
        right: bool,
    ) -> io::Result<bool> {
        if right && Stamp::of(&rustix::fs::fstat(file)?) == stamp {
            self.verified.insert(digest, kind, stamp);
            return Ok(true);
        }
        if !right {
            let name = layout::blob_name(digest, kind);
            let inode = rustix::fs::fstat(file)?;
            let same = |stat: &Stat| (stat.st_dev, stat.st_ino) == (inode.st_dev, inode.st_ino);
            self.quarantine_if(&self.blobs, &digest.hash, &name, &same)?;
        }
        Ok(false)
    }

    /// Moves a name to `quarantine/` if, under the shard's lock, it is still bad.
    pub(crate) fn quarantine_if(
        &self,
        area: &Area,
        hash: &[u8; 32],
        name: &str,
        is_bad: &dyn Fn(&Stat) -> bool,
    ) -> io::Result<bool> {
        let Some(shard) = area.shard(hash)? else {
            return Ok(false);
        };
        area::lock(&shard, FlockOperation::LockExclusive)?;
        match area::stat(&shard, name)? {
            Some(stat) if is_bad(&stat) => {
                self.quarantine_locked(&shard, name)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Moves a name to `quarantine/`; the caller holds the shard's lock exclusively.
    pub(crate) fn quarantine_locked(&self, shard: &OwnedFd, name: &str) -> io::Result<()> {
        self.counters.quarantined.fetch_add(1, Ordering::Relaxed);
        // File systems bound names at 255 bytes, ours have at most 100, foreign ones any length.
        let short: String = name.chars().filter(char::is_ascii).take(128).collect();
        let target = format!("{short}.{}", self.scratch.unique_name());
        match rustix::fs::renameat(shard, name, &self.quarantine, target) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // Evidence is good to have, but no reason to keep what is damaged.
            Err(Errno::NOSPC | Errno::DQUOT) => area::unlink(shard, name),
            Err(error) => Err(error.into()),
        }
    }

    /// Leases the digest and, at most once an hour, leaves a trace of the use on disk.
    ///
    /// The trace is the access time, since the modification time belongs to the content.
    pub(crate) fn note_use(
        &self,
        shard: &OwnedFd,
        name: &str,
        stat: &Stat,
        digest: &Digest,
        mode: u32,
    ) {
        self.leases.renew(digest);
        // A store on a read-only file system can still be read, so failures are no errors here.
        if self.is_stale(stat) {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            };
            let keep = Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_OMIT,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: keep,
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let _ignored = rustix::fs::utimensat(shard, name, &times, flags);
        }
        // Whoever got a hard link can change the mode of the inode we share.
        let wanted = platform::mode(mode);
        if Mode::from_raw_mode(stat.st_mode) != wanted
            && let Ok(Some(file)) = open_file(shard, name, OFlags::empty())
        {
            let _ignored = rustix::fs::fchmod(&file, wanted);
        }
    }

    /// Whether an inode fits the blob, and a use of it leaves nothing to do.
    pub(crate) fn needs_nothing(&self, stat: &Stat, digest: &Digest) -> bool {
        let mode = Mode::from_raw_mode(stat.st_mode).bits() & 0o7777;
        fits(stat, digest) && mode == Kind::Plain.mode() && !self.is_stale(stat)
    }

    fn is_stale(&self, stat: &Stat) -> bool {
        let used = i128::from(last_use(stat));
        let now = i128::from(unix_seconds(SystemTime::now()));
        // A trace in the future is as useless as an old one.
        now - used >= i128::from(self.granularity.as_secs()) || used > now
    }
}

/// Whether an inode can be the blob: a regular file of its size.
pub(crate) fn fits(stat: &Stat, digest: &Digest) -> bool {
    is_regular(stat) && u64::try_from(stat.st_size) == Ok(digest.size)
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// When an inode was used last, in seconds since 1970.
#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the type of this field differs between systems"
)]
pub(crate) fn last_use(stat: &Stat) -> i64 {
    stat.st_atime as i64
}

pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// Opens a file of a shard for reading; `None` when it is gone.
pub(crate) fn open_file(shard: &OwnedFd, name: &str, more: OFlags) -> io::Result<Option<File>> {
    // A pipe put in a blob's place must not make us wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    match rustix::fs::openat(shard, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As [`open_file`], but reading it is not a use where the system can tell.
pub(crate) fn open_file_unnoticed(shard: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    match open_file(shard, name, platform::no_atime()) {
        // Only the owner may read unnoticed.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_file(shard, name, OFlags::empty())
        }
        result => result,
    }
}

/// The digest of a file's bytes, read from its start without moving its position.
pub(crate) fn hash_file(file: &File) -> io::Result<Digest> {
    let mut hasher = DigestFunction::Blake3.hasher();
    let size = file.metadata()?.len();
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(CHUNK).clamp(1, CHUNK)];
    let mut position = 0;
    loop {
        match file.read_at(&mut buffer, position) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
