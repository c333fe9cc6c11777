//! The child's end of a lifeline, and who is at the other end of a socket.
//!
//! A lifeline is the read end of a pipe whose write end only the starter holds.
//! Nothing is ever written to it. It reports end of file when the starter is
//! gone, however it went, so a service that polls it cannot outlive its owner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use rustix::fs::FileType;
use rustix::net::sockopt::socket_peercred;

use crate::handed;

/// The variable that tells a child the number of its lifeline's descriptor.
pub const LIFELINE_VARIABLE: &str = "DAEMON_LIFELINE_FD";

/// A second call must not make a second owner of the descriptor.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The lifeline of this process, once; `None` if there is none, if the variable
/// does not name a pipe, or if it was taken before.
///
/// It is readable (end of file) as soon as the starter is gone. The descriptor
/// is closed in programs that this process starts. As with
/// [`Listener::inherited`](crate::Listener::inherited), the variable is removed
/// only while the process has a single thread.
pub fn lifeline() -> Option<OwnedFd> {
    handed::take(LIFELINE_VARIABLE, &TAKEN, FileType::Fifo)
}

/// The user id of the process that connected, or that listens, at the other end
/// of a Unix socket.
///
/// # Errors
/// The system's answer, e.g. if `socket` is not a Unix socket.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    Ok(socket_peercred(socket)?.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_an_own_pair_is_this_user() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(peer_uid(&one).unwrap(), own);
        assert_eq!(peer_uid(&other).unwrap(), own);
    }
}
