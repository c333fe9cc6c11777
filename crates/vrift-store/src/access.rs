//! Opening what is beneath a directory, in the name of somebody.
//!
//! Who reads with their own rights asks nobody ([`Beneath::own`]).
//! Who reads for others, with rights that those lack, passes a [`Reader`] that looks at each directory and each file after it was opened: a check before that could be about something else.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};

use crate::platform;
use crate::stamp::Stamp;

/// Says what may be read.
pub trait Reader: Sync {
    /// Whether this directory, which is open, may be listed and entered.
    ///
    /// # Errors
    /// Why not.
    fn directory(&self, dir: BorrowedFd<'_>, stat: &Stat) -> io::Result<()>;

    /// Whether this regular file, which is open, may be read.
    ///
    /// # Errors
    /// Why not.
    fn file(&self, file: BorrowedFd<'_>, stat: &Stat) -> io::Result<()>;

    /// Whether there is nothing to ask, since whoever asked for the content reads it.
    fn allows_all(&self) -> bool {
        false
    }
}

/// Reads with the rights of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own;

impl Reader for Own {
    fn directory(&self, _dir: BorrowedFd<'_>, _stat: &Stat) -> io::Result<()> {
        Ok(())
    }

    fn file(&self, _file: BorrowedFd<'_>, _stat: &Stat) -> io::Result<()> {
        Ok(())
    }

    fn allows_all(&self) -> bool {
        true
    }
}

/// A directory, and in whose name it is read.
#[derive(Clone, Copy)]
pub struct Beneath<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// Who is asked.
    pub reader: &'a dyn Reader,
}

impl<'a> Beneath<'a> {
    /// With the rights of this process.
    pub fn own(dir: BorrowedFd<'a>) -> Beneath<'a> {
        Beneath { dir, reader: &Own }
    }

    /// Opens a regular file; no symbolic link is followed, and nothing waits for a pipe.
    ///
    /// # Errors
    /// The system's, or that it is no regular file or may not be read.
    pub fn open(&self, path: &[u8]) -> io::Result<(File, Stamp)> {
        let path = Path::new(OsStr::from_bytes(path));
        let file = if self.reader.allows_all() {
            platform::open_beneath(self.dir, path, OFlags::RDONLY)?
        } else {
            self.open_asking(path)?
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        self.reader.file(file.as_fd(), &stat)?;
        Ok((File::from(file), Stamp::of(&stat)))
    }

    /// Asks for each directory on the way: any of them may have been replaced, or mounted over, since it was listed.
    fn open_asking(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut current: Option<OwnedFd> = None;
        let mut names = path.iter().peekable();
        while let Some(name) = names.next() {
            let parent = current.as_ref().map_or(self.dir, AsFd::as_fd);
            let is_last = names.peek().is_none();
            let flags = if is_last {
                OFlags::RDONLY
            } else {
                OFlags::RDONLY | OFlags::DIRECTORY
            };
            let opened = platform::open_beneath(parent, Path::new(name), flags)?;
            if !is_last {
                let stat = rustix::fs::fstat(&opened)?;
                self.reader.directory(opened.as_fd(), &stat)?;
            }
            current = Some(opened);
        }
        current.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
