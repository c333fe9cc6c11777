//! Who holds a lock, and who owns a socket, as the kernel knows it.
//!
//! What a lock file says about its holder is for people; it may be old, cut off or
//! forged. The kernel lists for each descriptor of a process the locks that it
//! holds (`/proc/PID/fdinfo/FD`, see proc(5)), so nothing needs to be believed.
//! Only processes of this user (all, for root) and of this pid namespace can be
//! looked at.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daemon_contract::ProcessIdentity;

use crate::process::IdentifiedProcess;

/// More than the kernel writes for any descriptor that we look for.
const FDINFO_LIMIT: u64 = 16 << 10;

/// The processes that hold an flock on the file `path`; more than one if the
/// descriptor was handed on. Empty also if there is no such file.
pub(crate) fn of_lock(path: &Path) -> io::Result<Vec<ProcessIdentity>> {
    let file = match fs::symlink_metadata(path) {
        Ok(metadata) => (metadata.dev(), metadata.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    find(|pid| holds_lock(pid, file))
}

/// Whether the process `pid` holds an flock on the file `path`.
pub(crate) fn is_holder(pid: u32, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| holds_lock(pid, (m.dev(), m.ino())))
}

/// The processes that have the socket with this inode open.
pub(crate) fn of_socket(inode: u64) -> io::Result<Vec<ProcessIdentity>> {
    let name = PathBuf::from(format!("socket:[{inode}]"));
    find(|pid| descriptors(pid).any(|fd| fs::read_link(fd).is_ok_and(|target| target == name)))
}

/// The processes that `accept` takes. Who ends meanwhile is left out.
fn find(accept: impl Fn(u32) -> bool) -> io::Result<Vec<ProcessIdentity>> {
    let mut found = Vec::new();
    for pid in pids()? {
        if accept(pid)
            && let Ok(identity) = IdentifiedProcess::identity_of(pid)
        {
            found.push(identity);
        }
    }
    Ok(found)
}

/// The numbers of all processes that can be seen.
pub(crate) fn pids() -> io::Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()))
}

/// Paths that lead to the open files of a process; none if they are not ours to see.
fn descriptors(pid: u32) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

fn holds_lock(pid: u32, file: (u64, u64)) -> bool {
    descriptors(pid).any(|fd| {
        // What it leads to; a path is not opened for that.
        let is_file = fs::metadata(&fd).is_ok_and(|m| (m.dev(), m.ino()) == file);
        is_file && has_flock(&fd).unwrap_or(false)
    })
}

/// Whether the open file itself, and not another one of the same file, has the lock.
fn has_flock(fd: &Path) -> io::Result<bool> {
    let text = fd.to_string_lossy().replacen("/fd/", "/fdinfo/", 1);
    let mut info = String::new();
    File::open(text)?
        .take(FDINFO_LIMIT)
        .read_to_string(&mut info)?;
    Ok(info
        .lines()
        .any(|line| line.starts_with("lock:") && line.contains(" FLOCK ")))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn only_who_holds_the_lock_is_found_and_not_who_has_the_file_open() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        assert!(of_lock(&path).unwrap().is_empty());
        let file = File::create(&path).unwrap();
        assert!(of_lock(&path).unwrap().is_empty());
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let own = std::process::id();
        assert!(of_lock(&path).unwrap().iter().any(|p| p.pid == own));
        assert!(is_holder(own, &path));
        drop(file);
        let _open = File::open(&path).unwrap();
        assert!(!is_holder(own, &path));
    }

    #[test]
    fn the_owner_of_a_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = link
            .to_str()
            .and_then(|text| {
                text.strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse()
                    .ok()
            })
            .unwrap();
        let own = std::process::id();
        assert!(of_socket(inode).unwrap().iter().any(|p| p.pid == own));
    }
}
