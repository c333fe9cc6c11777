//! A connected socket, TCP or Unix, with deadlines.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_lifecycle::connect_unix;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};

use crate::failpoint;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects; `timeout` is for writing as well.
    pub(super) fn connect(endpoint: &Endpoint, timeout: Duration) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let stream = connect_tcp(host, *port, timeout)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Unix(path) => connect_unix(path, timeout).map(Stream::Unix),
        }
    }

    /// The user at the other end of a Unix socket.
    pub(super) fn peer_uid(&self) -> io::Result<Option<u32>> {
        match self {
            Stream::Tcp(_) => Ok(None),
            Stream::Unix(stream) => Ok(Some(sockopt::socket_peercred(stream)?.uid.as_raw())),
        }
    }

    /// Waits until there is something to read, if only the end; says whether that was
    /// in time.
    pub(super) fn is_readable_by(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut one = [PollFd::new(self, PollFlags::IN)];
            match poll(&mut one, Some(&left)) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Stream::Tcp(stream) => { stream }.read(buffer),
                Stream::Unix(stream) => { stream }.read(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// What can be read without waiting; `None` if nothing has arrived.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(self, buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all. `step` names what is written, for tests.
    pub(super) fn write_all(&self, bytes: &[u8], step: &str) -> io::Result<()> {
        for part in failpoint::halves(step, bytes) {
            match self {
                Stream::Tcp(stream) => { stream }.write_all(part),
                Stream::Unix(stream) => { stream }.write_all(part),
            }?;
            failpoint::hit(step);
        }
        Ok(())
    }

    /// Ends the connection for every thread that uses it.
    pub(super) fn shutdown(&self) {
        // It may have ended already.
        let _ended = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    // Services bind `localhost` at this address, whatever the resolver says.
    let addresses: Vec<SocketAddr> = if host.eq_ignore_ascii_case("localhost") {
        vec![(Ipv4Addr::LOCALHOST, port).into()]
    } else {
        (host, port).to_socket_addrs()?.collect()
    };
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
