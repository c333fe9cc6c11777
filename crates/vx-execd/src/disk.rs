//! The executor's directory: who may use it, what is left in it from earlier, and how things go away.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation};

use crate::failure::Failure;

/// How long a predecessor may take to end.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// `VX_HOME/exec`, held by this process alone.
#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    numbers: AtomicU64,
    _lock: fs::File,
}

impl Home {
    /// Takes `root`, removing what an executor that died has left in its working directories.
    ///
    /// Waits some seconds for a predecessor that is just ending.
    pub(crate) fn take(root: PathBuf) -> Result<Home, Failure> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&root)
            .map_err(Failure::local("make the directory", &root))?;
        let path = root.join("lock");
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Failure::local("open the lock", &path))?;
        let lock = lock_within(file, PREDECESSOR)
            .map_err(Failure::local("lock, as another executor uses it,", &path))?;
        let home = Home {
            root,
            numbers: AtomicU64::new(0),
            _lock: lock,
        };
        for name in ["work", "fetch"] {
            let path = home.root.join(name);
            remove_tree(&path).map_err(Failure::local("clear", &path))?;
            builder
                .create(&path)
                .map_err(Failure::local("make the directory", &path))?;
        }
        Ok(home)
    }

    /// The place of one of its parts.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A new directory for one action. Blocks.
    pub(crate) fn work(&self) -> Result<WorkDir, Failure> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join("work")
            .join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(Failure::local("make the directory", &path))?;
        Ok(WorkDir { path })
    }
}

/// The working directory of one action; gone when this is.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = remove_tree(&path) {
                crate::log(&format!("cannot remove `{}`: {error}", path.display()));
            }
        };
        // Thousands of files may be in it, which would hold up an async thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

fn lock_within(file: fs::File, limit: Duration) -> io::Result<fs::File> {
    let (sender, receiver) = mpsc::channel();
    // The thread stays behind only when we give up, and then the process ends.
    std::thread::Builder::new()
        .name("lock".to_owned())
        .spawn(move || {
            let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
            drop(sender.send(locked.map(|()| file)));
        })?;
    match receiver.recv_timeout(limit) {
        Ok(locked) => Ok(locked?),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Removes a directory with everything in it, also what its owner has locked away from itself; nothing there is fine.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_dir() => return fs::remove_file(path),
        Ok(_) => {}
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    let mut pending = vec![path.to_path_buf()];
    while let Some(folder) = pending.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

/// Gives `path` the time that everything in a sandbox has.
pub(crate) fn set_normal_time(path: &Path) -> io::Result<()> {
    let time = rustix::fs::Timespec {
        tv_sec: vx_sandbox::NORMAL_MTIME.cast_signed(),
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// `rest` below `root`, provided that no link on the way leads elsewhere; `None` when something on the way is missing.
///
/// The last part may be anything. Blocks.
pub(crate) fn inside(root: &Path, rest: &str) -> io::Result<Option<PathBuf>> {
    let mut path = root.to_path_buf();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => path.push(part),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(path))
}

/// Makes the directory `rest` below `root` with its parents, following no link. Blocks.
pub(crate) fn make_inside(root: &Path, rest: &str) -> Result<(), Failure> {
    let mut path = root.to_path_buf();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        let made = match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match fs::symlink_metadata(&path) {
                    Ok(meta) if meta.is_dir() => Ok(()),
                    Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
                    Err(error) => Err(error),
                }
            }
            made => made,
        };
        made.map_err(Failure::local("make the directory", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_locked_away_is_removed_as_well() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("x");
        fs::create_dir_all(folder.join("deep/er")).unwrap();
        fs::write(folder.join("deep/er/f"), "").unwrap();
        for name in ["deep/er", "deep"] {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&folder).unwrap();
        assert!(!folder.exists());
        remove_tree(&folder).unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let (base, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), base.path().join("way")).unwrap();
        assert_eq!(inside(base.path(), "way/secret").unwrap(), None);
        assert_eq!(
            inside(base.path(), "way").unwrap(),
            Some(base.path().join("way"))
        );
        assert!(make_inside(base.path(), "way/new").is_err());
        make_inside(base.path(), "a/b").unwrap();
        assert_eq!(
            inside(base.path(), "a/b/c").unwrap(),
            Some(base.path().join("a/b/c"))
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_are_cleared_and_a_second_owner_is_kept_out() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("exec");
        let home = Home::take(root.clone()).unwrap();
        let kept = home.work().unwrap();
        fs::write(kept.path().join("left"), "").unwrap();
        let file = fs::File::open(root.join("lock")).unwrap();
        assert!(lock_within(file, Duration::from_millis(10)).is_err());
        std::mem::forget(kept);
        drop(home);
        let home = Home::take(root.clone()).unwrap();
        assert_eq!(fs::read_dir(home.part("work")).unwrap().count(), 0);
    }
}
