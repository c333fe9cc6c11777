//! A folder with a socket, who listens there, and whether a process is still there.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Far more than anything here takes; only a failure gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn handle(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

pub(crate) fn ends(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

/// A folder that sockets may stand in.
pub(crate) fn private_tempdir() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
}

pub(crate) fn socket(folder: &Path) -> Endpoint {
    Endpoint::Unix(folder.join("run/sock"))
}

pub(crate) fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(folder.join("run/sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Nobody listens any more. A program that another test starts at this moment may
/// hold a copy of the listener until it is executed.
pub(crate) fn assert_refused(folder: &Path) {
    let started = Instant::now();
    while connect(folder).is_ok() {
        assert!(started.elapsed() < PATIENCE, "somebody still listens");
        std::thread::yield_now();
    }
}

pub(crate) fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
