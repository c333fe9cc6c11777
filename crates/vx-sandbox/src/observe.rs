//! A private copy of a tree in memory that remembers what was read.
//!
//! Every access time in the copy is set to the epoch.
//! Reading, mapping and listing move it (the kernel updates an access time that is not after the modification time), looking up and `stat` do not.
//! A program that owns its files may ask the kernel not to move the time (`O_NOATIME`); compilers and build scripts do not.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, mkdirat, openat, readlinkat,
    statat, symlinkat, utimensat,
};

use crate::error::SetupFailure;
use crate::failure::{Step, failure};
use crate::mounts;
use crate::report::Observed;
use crate::spec::NORMAL_MTIME;

/// One copy and the list of what is in it.
#[derive(Debug)]
pub(crate) struct Copy {
    at: PathBuf,
    mount: OwnedFd,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    is_directory: bool,
}

impl Copy {
    /// Copy the directory `source` (at `host` on the host) for a mount at `at`; the copy is not attached yet.
    pub(crate) fn of(source: &OwnedFd, host: &Path, at: &Path) -> Result<Copy, SetupFailure> {
        let mount = mounts::memory("0555")?;
        let mut copy = Copy {
            at: at.to_path_buf(),
            mount,
            entries: Vec::new(),
        };
        copy.entries.push(Entry {
            path: PathBuf::new(),
            is_directory: true,
        });
        let mut pending = vec![PathBuf::new()];
        while let Some(folder) = pending.pop() {
            copy.copy_folder(source, host, &folder, &mut pending)?;
        }
        Ok(copy)
    }

    /// The file system to attach.
    pub(crate) fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    fn copy_folder(
        &mut self,
        source: &OwnedFd,
        host: &Path,
        folder: &Path,
        pending: &mut Vec<PathBuf>,
    ) -> Result<(), SetupFailure> {
        let name = |path: &Path| host.join(path).display().to_string();
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from =
            openat(source, dot(folder), directory, Mode::empty()).step("open", name(folder))?;
        let path_only = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(&self.mount, dot(folder), path_only, Mode::empty())
            .step("open the copy of", name(folder))?;
        for entry in Dir::read_from(&from).step("list", name(folder))? {
            let entry = entry.step("list", name(folder))?;
            let file_name = OsStr::from_bytes(entry.file_name().to_bytes());
            if file_name == "." || file_name == ".." {
                continue;
            }
            let path = folder.join(file_name);
            let is_directory = copy_one(from.as_fd(), to.as_fd(), file_name, entry.file_type())
                .step("copy", name(&path))?;
            if is_directory {
                pending.push(path.clone());
            }
            self.entries.push(Entry { path, is_directory });
        }
        Ok(())
    }

    /// Set all times; after everything that will be mounted inside has its mount point.
    pub(crate) fn arm(&self) -> Result<(), SetupFailure> {
        for entry in &self.entries {
            set_times(self.mount.as_fd(), &entry.path, 0)
                .step("set the times of", self.at.join(&entry.path).display())?;
        }
        Ok(())
    }

    /// What was looked at since [`Copy::arm`].
    pub(crate) fn observed(&self) -> Observed {
        let mut observed = Observed {
            at: self.at.clone(),
            ..Observed::default()
        };
        for entry in &self.entries {
            let untouched = statat(&self.mount, dot(&entry.path), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_atime == 0 && stat.st_atime_nsec == 0);
            // Names come from UTF-8 protocols; one that is not could not be named in a report either.
            let Some(path) = entry.path.to_str().filter(|_| !untouched) else {
                continue;
            };
            if entry.is_directory {
                observed.listed_directories.push(path.to_owned());
            } else {
                observed.read_files.push(path.to_owned());
            }
        }
        observed.read_files.sort_unstable();
        observed.listed_directories.sort_unstable();
        observed
    }
}

/// Set the modification time of `path` to the normal one and its access time to `atime`.
pub(crate) fn set_times(base: BorrowedFd<'_>, path: &Path, atime: u64) -> rustix::io::Result<()> {
    let seconds = |value: u64| Timespec {
        tv_sec: value.cast_signed(),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: seconds(atime),
        last_modification: seconds(NORMAL_MTIME),
    };
    utimensat(base, dot(path), &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// The system knows no empty path; the top of a tree is a dot.
fn dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Copy one entry; the answer is whether it is a directory, whose content comes later.
fn copy_one(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
) -> io::Result<bool> {
    let kind = match kind {
        FileType::Unknown => {
            FileType::from_raw_mode(statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
        }
        known => known,
    };
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o555))?;
            Ok(true)
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(target.as_c_str(), to, name)?;
            Ok(false)
        }
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = std::fs::File::from(openat(from, name, read, Mode::empty())?);
            let is_executable = rustix::fs::fstat(&source)?.st_mode & 0o111 != 0;
            let mode = Mode::from_raw_mode(if is_executable { 0o555 } else { 0o444 });
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut copy = std::fs::File::from(openat(to, name, write, mode)?);
            io::copy(&mut source, &mut copy)?;
            Ok(false)
        }
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Refuse a source that is not a directory before it is copied.
pub(crate) fn open_source(host: &Path) -> Result<OwnedFd, SetupFailure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(host, flags, Mode::empty())
        .map_err(|errno| failure("open", host.display(), errno.raw_os_error()))
}
