//! The private directories of one test, all below one short path.
//!
//! Unix sockets have about a hundred bytes for their path, so the root is made
//! directly below the system's temporary directory, and below `/tmp` where that
//! one is too deep itself.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `sun_path` of the strictest system, less the final zero byte.
pub(crate) const SOCKET_PATH_MAX: usize = 103;
/// What a root needs below it: `/run/` and a name.
const ROOM_FOR_SOCKETS: usize = 40;

/// Where things of a test are.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) root: PathBuf,
}

impl Dirs {
    /// Makes the directories; their owner must hand them to the helper, which
    /// removes them.
    pub(crate) fn create() -> io::Result<Dirs> {
        let system = std::env::temp_dir();
        let parent = if system.as_os_str().len() + "/vxt-XXXXXX".len() + ROOM_FOR_SOCKETS
            <= SOCKET_PATH_MAX
        {
            system
        } else {
            PathBuf::from("/tmp")
        };
        // Programs see what the kernel sees; a link in the path would make
        // their output differ from what is expected.
        let root = tempfile::Builder::new()
            .prefix("vxt-")
            .rand_bytes(6)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent.canonicalize()?)?
            .keep();
        let dirs = Dirs { root };
        for dir in [
            dirs.home(),
            dirs.runtime(),
            dirs.temp(),
            dirs.work(),
            dirs.logs(),
        ] {
            make_private(&dir)?;
        }
        Ok(dirs)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// Makes a directory that only its owner can enter.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Copies a file or a whole tree; links are copied as links.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else {
        fs::copy(from, to).map(drop)
    }
}

/// Removes a tree, also where directories in it are read-only.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path);
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_writable(dir: &Path) {
    // What cannot be changed makes the removal fail, which is told.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).ok();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_with_read_only_directories_are_removed() {
        let dirs = Dirs::create().unwrap();
        let inner = dirs.work().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("f"), "x").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
        assert!(dirs.root.as_os_str().len() + ROOM_FOR_SOCKETS <= SOCKET_PATH_MAX);
        remove(&dirs.root).unwrap();
        assert!(!dirs.root.exists());
    }
}
