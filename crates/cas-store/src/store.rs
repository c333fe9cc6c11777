//! Opening a store, and what every operation on it shares.
//!
//! The operations themselves stand in files of their own, each with its `impl Store`.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::area::{self, Area};
use crate::error::OpenError;
use crate::format::Format;
use crate::layout;
use crate::memory::{Leases, Verified};
use crate::platform;
use crate::scratch::Scratch;

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// What was stored last may be gone afterwards, and is then absent: for what can be made again.
    #[default]
    Cheap,
    /// What was answered is on disk. Many blobs at once cost little more than one, so use a [`Group`](crate::Group).
    Grouped,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory levels of a store that is made now, 1 or 2; an existing store keeps its own.
    pub levels: u8,
    /// What survives a power cut.
    pub durability: Durability,
    /// How long garbage collection leaves alone what was used or reported as present.
    pub lease: Duration,
    /// How many blobs this process remembers as verified.
    pub verified_capacity: usize,
    /// Permission bits of directories that are made, before the umask.
    pub directory_mode: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            levels: 1,
            durability: Durability::Cheap,
            lease: Duration::from_secs(3600),
            verified_capacity: 1 << 17,
            directory_mode: 0o700,
        }
    }
}

/// The longest time between a use and its trace on disk.
const STAMP_GRANULARITY: Duration = Duration::from_secs(3600);

/// A store that is open; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) root_dir: OwnedFd,
    pub(crate) blobs: Area,
    pub(crate) index: Area,
    pub(crate) actions: Area,
    pub(crate) quarantine: OwnedFd,
    pub(crate) scratch: Arc<Scratch>,
    pub(crate) durability: Durability,
    pub(crate) lease: Duration,
    /// Uses leave a trace on disk at most this often.
    pub(crate) granularity: Duration,
    pub(crate) verified: Verified,
    pub(crate) leases: Leases,
    /// Cleared when the file system turns out to have no clones.
    pub(crate) may_reflink: AtomicBool,
    pub(crate) counters: Counters,
}

/// What happened in this process since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) stored: AtomicU64,
    pub(crate) known: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) hashed: AtomicU64,
}

impl Store {
    /// Opens the store in the directory `path`, making it when it is missing or empty.
    ///
    /// What dead processes left in its temporary directory is removed.
    pub fn open(path: &Path, options: Options) -> Result<Store, OpenError> {
        if !(1..=2).contains(&options.levels) {
            return Err(OpenError::Levels(options.levels));
        }
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        // Relative paths would change their meaning with the working directory.
        let root = std::path::absolute(path).map_err(io)?;
        DirBuilder::new()
            .recursive(true)
            .mode(options.directory_mode)
            .create(&root)
            .map_err(io)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_dir =
            rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| io(error.into()))?;
        let mode = platform::mode(options.directory_mode);
        let known = read_format(&root_dir, &root)?;
        if known.is_none() {
            refuse_foreign_content(&root_dir, &root)?;
        }
        let tmp = area::open_or_create_path(&root_dir, layout::TMP, mode).map_err(io)?;
        let scratch = Arc::new(Scratch::open(tmp).map_err(io)?);
        let format = match known {
            Some(format) => format,
            None => {
                let format = Format {
                    levels: options.levels,
                };
                write_format(&root_dir, &scratch, format).map_err(io)?;
                // Another process may have been first with another number of levels.
                read_format(&root_dir, &root)?.unwrap_or(format)
            }
        };
        let area = |path, levels| Area::open(&root_dir, path, levels, mode).map_err(io);
        Ok(Store {
            inner: Arc::new(Inner {
                blobs: area(layout::blobs(format.levels), format.levels)?,
                index: area(layout::INDEX, 1)?,
                actions: area(layout::ACTIONS, 1)?,
                quarantine: area::open_or_create_path(&root_dir, layout::QUARANTINE, mode)
                    .map_err(io)?,
                scratch,
                durability: options.durability,
                lease: options.lease,
                granularity: options.lease.min(STAMP_GRANULARITY),
                verified: Verified::with_capacity(options.verified_capacity),
                leases: Leases::lasting(options.lease),
                may_reflink: AtomicBool::new(true),
                counters: Counters::default(),
                root,
                root_dir,
            }),
        })
    }

    /// The store's directory, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }
}

fn read_format(root_dir: &OwnedFd, root: &Path) -> Result<Option<Format>, OpenError> {
    let io = |source| OpenError::Io {
        path: root.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(root_dir, layout::FORMAT, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(io(error.into())),
    };
    let mut bytes = Vec::new();
    // Far more than any format file has.
    file.take(4096).read_to_end(&mut bytes).map_err(io)?;
    Format::parse(&String::from_utf8_lossy(&bytes))
        .map(Some)
        .map_err(|why| OpenError::Format {
            path: root.join(layout::FORMAT),
            why,
        })
}

/// A directory full of something else is not turned into a store by a typing error.
fn refuse_foreign_content(root_dir: &OwnedFd, root: &Path) -> Result<(), OpenError> {
    let names = area::names(root_dir).map_err(|source| OpenError::Io {
        path: root.to_owned(),
        source,
    })?;
    match names
        .into_iter()
        .find(|name| !layout::ROOT_NAMES.contains(&name.as_str()))
    {
        Some(name) => Err(OpenError::NotAStore {
            path: root.to_owned(),
            name,
        }),
        None => Ok(()),
    }
}

/// Synced in every store: it is written once, and nothing can be read without it.
fn write_format(root_dir: &OwnedFd, scratch: &Arc<Scratch>, format: Format) -> io::Result<()> {
    let mut temp = scratch.create(0o444)?;
    temp.file()?.write_all(format.to_text().as_bytes())?;
    temp.seal(true)?;
    temp.publish(root_dir, layout::FORMAT)?;
    platform::sync_directory(root_dir)
}
