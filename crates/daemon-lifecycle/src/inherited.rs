//! Taking over a listener that the starter bound: file descriptor 3, announced
//! by `LISTEN_FDS`, as service managers do it.
//!
//! `LISTEN_PID` is optional here: whoever spawns without forking cannot know the
//! number before the environment is written. If it is there it must fit.

use std::env;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, listen, sockopt};

use crate::Listener;
use crate::process::remove_variables;

/// The first inherited descriptor.
pub(crate) const LISTENER_FD: RawFd = 3;
/// Announces how many listeners were handed over.
pub(crate) const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_PID: &str = "LISTEN_PID";
/// As many as the system lets wait; it lowers the number to its own limit.
pub(crate) const BACKLOG: i32 = 4096;

/// A second call must not make a second owner of the descriptor.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why an announced listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The announcement is not one listener.
    #[error("`LISTEN_FDS={value}` announces something else than one listener")]
    Announcement {
        /// The value.
        value: String,
    },
    /// The descriptor is no listener.
    #[error("file descriptor 3, announced by `LISTEN_FDS`, is {what}")]
    NotAListener {
        /// What it is.
        what: &'static str,
    },
    /// The system refused an operation on it.
    #[error("could not take over the listener on file descriptor 3")]
    Io {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// The listener that the starter of this process handed over, once.
    ///
    /// `None` if there is none, if it was meant for another process, or if it was
    /// taken before. Call it early in `main`: the variables are removed only as
    /// long as the process has a single thread, since nobody may read the
    /// environment meanwhile. The socket then listens in the name of this
    /// process, so that clients can see whom they talk to.
    ///
    /// # Errors
    /// If a listener is announced and descriptor 3 is not one.
    pub fn inherited() -> Result<Option<Listener>, InheritError> {
        let Some(count) = env::var_os(LISTEN_FDS) else {
            return Ok(None);
        };
        if let Some(pid) = env::var_os(LISTEN_PID)
            && pid.to_str().and_then(|pid| pid.parse().ok()) != Some(std::process::id())
        {
            return Ok(None);
        }
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        remove_variables(&[LISTEN_FDS, LISTEN_PID]);
        match count.to_str() {
            Some("0") => return Ok(None),
            Some("1") => {}
            _ => {
                return Err(InheritError::Announcement {
                    value: count.to_string_lossy().into_owned(),
                });
            }
        }
        // SAFETY: borrowed only to ask whether it is open; a closed descriptor
        // makes the calls fail and nothing else.
        let borrowed = unsafe { BorrowedFd::borrow_raw(LISTENER_FD) };
        let family = identify(borrowed)?;
        // SAFETY: the descriptor is open, and the announcement says that it was
        // opened for this process to own; `TAKEN` lets this happen once.
        let socket = unsafe { OwnedFd::from_raw_fd(LISTENER_FD) };
        adopt(socket, family)
    }
}

/// The family of a listening stream socket.
fn identify(socket: BorrowedFd<'_>) -> Result<AddressFamily, InheritError> {
    let kind = sockopt::socket_type(socket).map_err(|_| InheritError::NotAListener {
        what: "not a socket",
    })?;
    if kind != SocketType::STREAM {
        return Err(InheritError::NotAListener {
            what: "a socket without streams",
        });
    }
    if !sockopt::socket_acceptconn(socket).map_err(io_error)? {
        return Err(InheritError::NotAListener {
            what: "a socket that does not listen",
        });
    }
    sockopt::socket_domain(socket).map_err(io_error)
}

fn adopt(socket: OwnedFd, family: AddressFamily) -> Result<Option<Listener>, InheritError> {
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(io_error)?;
    // The kernel tells clients the process that called `listen` last.
    listen(&socket, BACKLOG).map_err(io_error)?;
    match family {
        AddressFamily::UNIX => Ok(Some(Listener::Unix(socket.into()))),
        AddressFamily::INET | AddressFamily::INET6 => Ok(Some(Listener::Tcp(socket.into()))),
        _ => Err(InheritError::NotAListener {
            what: "a socket of another kind than TCP and Unix",
        }),
    }
}

fn io_error(error: rustix::io::Errno) -> InheritError {
    InheritError::Io {
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_listening_stream_sockets_are_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(identify(listener.as_fd()).unwrap(), AddressFamily::INET);
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(identify(one.as_fd()).is_err());
        let (read, _write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let error = identify(read.as_fd()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "file descriptor 3, announced by `LISTEN_FDS`, is not a socket"
        );
    }
}
