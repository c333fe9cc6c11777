//! Sockets in the helper's network: it makes them, the test uses them.
//!
//! A socket stays in the network in which it was made, wherever its descriptor
//! goes. So a test outside a sealed network can listen and connect inside.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::client::Helper;
use super::sweep::timespec;
use super::wire::Request;

/// The helper's part of listening.
pub(super) fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    Ok(TcpListener::bind(address)?.into())
}

/// The helper's part of connecting: it does not wait for the answer.
pub(super) fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

impl Helper {
    /// A listening socket in the network of what the test starts.
    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        Ok(TcpListener::from(
            self.ask_socket(&Request::Listen { address })?,
        ))
    }

    /// A connection in the network of what the test starts.
    pub(crate) fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::from(self.ask_socket(&Request::Connect { address })?);
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&stream, PollFlags::OUT)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}
