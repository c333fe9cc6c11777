//! Where Unix sockets live: a folder that only this user can enter, and a file
//! that is replaced only if it is certain that nobody listens on it.
//!
//! A refused connect alone proves nothing: a regular file refuses as well, and so
//! does a socket between `bind` and `listen`. So the file type and the owner are
//! looked at first, and everything from the first bind to the listen happens
//! under a lock of the folder (an flock on the folder itself: it leaves no file
//! behind, and it goes away with the process).

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Bytes of `sun_path` without the final NUL.
const MAX_PATH: usize = 107;

/// Why a socket file cannot stand at a place.
#[derive(Debug, thiserror::Error)]
pub enum SocketPathError {
    /// The path does not fit the address structure of the system.
    #[error("the path `{path}` of the socket has {length} bytes, the system allows {MAX_PATH}")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The path names no file in a folder.
    #[error("the path `{path}` names no file in a folder")]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else could enter the folder or change what is in it.
    #[error("the folder `{folder}` is not safe: {reason}")]
    Unsafe {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that is not a socket of this user is in the way.
    #[error("`{path}` exists and is {what}; it was left alone")]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The system refused an operation.
    #[error("could not {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path, source: impl Into<io::Error>) -> SocketPathError {
    SocketPathError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Whether `path` can be the path of a socket, as far as its text tells; returns
/// its folder.
pub(crate) fn check(path: &Path) -> Result<&Path, SocketPathError> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_PATH {
        return Err(SocketPathError::TooLong {
            path: path.to_owned(),
            length,
        });
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(_)) if path.is_absolute() => Ok(folder),
        _ => Err(SocketPathError::NoFolder {
            path: path.to_owned(),
        }),
    }
}

/// Binds `path` and listens; `None` if somebody listens there already. `removed` is
/// told when a stale socket was taken away.
pub(crate) fn bind(
    path: &Path,
    removed: &dyn Fn(),
) -> Result<Option<UnixListener>, SocketPathError> {
    let folder = check(path)?;
    make_folder(folder, 0o077)?;
    let lock = File::open(folder).map_err(|e| failed("open", folder, e))?;
    // Held for a few system calls only, so there is no deadline.
    rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
        .map_err(|e| failed("lock", folder, e))?;
    match UnixListener::bind(path) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(error) => return Err(failed("bind", path, error)),
    }
    if !is_stale(path)? {
        return Ok(None);
    }
    fs::remove_file(path).map_err(|e| failed("remove the stale socket", path, e))?;
    removed();
    UnixListener::bind(path)
        .map(Some)
        .map_err(|e| failed("bind", path, e))
}

/// Creates `folder` for this user alone, or checks that the one that is there is
/// this user's and has none of the `forbidden` mode bits.
pub(crate) fn make_folder(folder: &Path, forbidden: u32) -> Result<(), SocketPathError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| failed("create", folder, e))?;
    check_folder(folder, forbidden)
}

/// Checks, if `folder` is there, that it is this user's and has none of the
/// `forbidden` mode bits, and that nobody else can put another one in its place.
pub(crate) fn check_folder(folder: &Path, forbidden: u32) -> Result<(), SocketPathError> {
    let metadata = match fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", folder, error)),
    };
    let own = rustix::process::geteuid().as_raw();
    let reason = if metadata.is_symlink() {
        "it is a symbolic link".to_owned()
    } else if !metadata.is_dir() {
        "it is not a folder".to_owned()
    } else if metadata.uid() != own {
        format!("it belongs to user {}, not to {own}", metadata.uid())
    } else if metadata.mode() & forbidden != 0 {
        format!(
            "its mode is {:04o}, which lets others in (expected 0700)",
            metadata.mode() & 0o7777
        )
    } else {
        return check_way(folder);
    };
    Err(SocketPathError::Unsafe {
        folder: folder.to_owned(),
        reason,
    })
}

/// Checks the folders above: whoever can rename what is in one of them can put
/// another folder in the place of ours.
fn check_way(folder: &Path) -> Result<(), SocketPathError> {
    let real = fs::canonicalize(folder).map_err(|e| failed("look at", folder, e))?;
    for way in [folder, &real] {
        for above in way.ancestors().skip(1) {
            if above.as_os_str().is_empty() {
                continue;
            }
            let metadata = fs::symlink_metadata(above).map_err(|e| failed("look at", above, e))?;
            let open = metadata.is_dir() && metadata.mode() & 0o1002 == 0o002;
            let reason = if !is_trusted(metadata.uid()) {
                format!("it lies in one of user {}", metadata.uid())
            } else if open {
                "it lies in one that everybody may change".to_owned()
            } else {
                continue;
            };
            return Err(SocketPathError::Unsafe {
                folder: folder.to_owned(),
                reason: format!("{reason}, `{}`", above.display()),
            });
        }
    }
    Ok(())
}

/// Root and this user; in a user namespace also those whom it has no number for,
/// since root outside is one of them.
fn is_trusted(uid: u32) -> bool {
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return true;
    }
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let everybody = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    !everybody && number("/proc/sys/kernel/overflowuid") == Some(uid)
}

/// Checks, if something is at `path`, that it is a socket of this user.
pub(crate) fn check_socket(path: &Path) -> Result<(), SocketPathError> {
    let folder = check(path)?;
    check_folder(folder, 0o077)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) => is_own_socket(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path, error)),
    }
}

fn is_own_socket(path: &Path, metadata: &fs::Metadata) -> Result<(), SocketPathError> {
    let what = if !metadata.file_type().is_socket() {
        "not a socket"
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        "a socket of another user"
    } else {
        return Ok(());
    };
    Err(SocketPathError::Occupied {
        path: path.to_owned(),
        what,
    })
}

/// Whether the file is a socket of this user on which nobody listens.
fn is_stale(path: &Path) -> Result<bool, SocketPathError> {
    let metadata = fs::symlink_metadata(path).map_err(|e| failed("look at", path, e))?;
    is_own_socket(path, &metadata)?;
    let probe = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        // A full backlog must answer, not block: it proves that somebody listens.
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|e| failed("probe", path, e))?;
    let address = SocketAddrUnix::new(path).map_err(|e| failed("probe", path, e))?;
    match connect(&probe, &address) {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Ok(false),
        Err(Errno::CONNREFUSED) => Ok(true),
        Err(error) => Err(failed("probe", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_folder_is_made_private_and_a_live_socket_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/deep/sock");
        let _listener = bind(&path, &|| {}).unwrap().unwrap();
        let folder = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.mode() & 0o7777, 0o700);
        assert!(bind(&path, &|| {}).unwrap().is_none());
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/sock");
        drop(bind(&path, &|| {}).unwrap().unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _listener = bind(&path, &|| {}).unwrap().unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn a_file_in_the_way_is_never_deleted() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/sock");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, "a user's data").unwrap();
        let error = bind(&path, &|| {}).unwrap_err();
        assert!(matches!(error, SocketPathError::Occupied { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a user's data");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let error = bind(&path, &|| {}).unwrap_err();
        assert!(matches!(error, SocketPathError::Occupied { .. }), "{error}");
        assert!(fs::symlink_metadata(&path).is_ok());
    }

    #[test]
    fn folders_that_others_can_enter_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        fs::create_dir(&folder).unwrap();
        for mode in [0o755, 0o750, 0o701, 0o1777] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            let error = bind(&folder.join("sock"), &|| {}).unwrap_err();
            assert!(matches!(error, SocketPathError::Unsafe { .. }), "{error}");
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let error = bind(&link.join("sock"), &|| {}).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(bind(&folder.join("sock"), &|| {}).is_ok());
    }

    #[test]
    fn long_paths_are_named() {
        let path = Path::new("/").join("x".repeat(MAX_PATH));
        let error = bind(&path, &|| {}).unwrap_err();
        assert!(
            matches!(error, SocketPathError::TooLong { length: 108, .. }),
            "{error}"
        );
        assert!(matches!(
            bind(Path::new("relative"), &|| {}).unwrap_err(),
            SocketPathError::NoFolder { .. }
        ));
    }
}
