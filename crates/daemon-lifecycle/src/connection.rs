//! Connecting to a daemon, and who is at the other end.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::listener::loopback;

/// A connection to a daemon, which may not have accepted it yet.
#[derive(Debug)]
pub enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Connection::Tcp(stream) => stream.as_fd(),
            Connection::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Connects; `None` if nobody listens. An endpoint of another machine is an error.
pub(crate) fn try_connect(
    endpoint: &Endpoint,
    deadline: Instant,
) -> io::Result<Option<Connection>> {
    let connected = match endpoint {
        Endpoint::Tcp { host, port } => {
            let ip = loopback(host).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not an address of this machine alone",
                )
            })?;
            connect_tcp(ip, *port, deadline).map(Connection::Tcp)
        }
        Endpoint::Unix(path) => {
            let left = deadline.saturating_duration_since(Instant::now());
            connect_unix(path, left).and_then(|stream| {
                stream.set_write_timeout(None)?;
                Ok(Connection::Unix(stream))
            })
        }
    };
    match connected {
        Ok(connection) => Ok(Some(connection)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn connect_tcp(ip: IpAddr, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero is not a timeout for the system; at least one try is always made.
    let left = left.max(Duration::from_millis(1));
    let address = SocketAddr::new(ip, port);
    let stream = TcpStream::connect_timeout(&address, left)?;
    // A port of the range that clients get can be connected with itself, when
    // nobody listens there.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Connects to a Unix socket. That, and every later write until another timeout is
/// set, takes at most `timeout`, and at least a millisecond.
///
/// The standard library waits for ever if the listener accepts nobody and its queue is
/// full; the kernel honours the send timeout of the socket.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] in that case, else what the system answers.
pub fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Zero is not a timeout for the system.
    let timeout = timeout.max(Duration::from_millis(1));
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    let address = SocketAddrUnix::new(path)?;
    rustix::io::retry_on_intr(|| connect(&socket, &address)).map_err(|error| {
        if error == rustix::io::Errno::AGAIN {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "its queue is full, since it accepts nobody",
            )
        } else {
            error.into()
        }
    })?;
    Ok(UnixStream::from(socket))
}

/// A listening TCP socket of this machine: who opened it, and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpOwner {
    pub(crate) uid: u32,
    pub(crate) inode: u64,
}

/// Who listens on a TCP port of the loopback interface, as the kernel lists it
/// (`/proc/net/tcp`, see proc(5)): the socket that would get the connection.
pub(crate) fn tcp_owner(host: &str, port: u16) -> io::Result<Option<TcpOwner>> {
    let Some(ip) = loopback(host) else {
        return Ok(None);
    };
    let mut wildcard = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = match fs::read_to_string(table) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for (address, owner) in text.lines().skip(1).filter_map(|l| listening(l, port)) {
            if address == ip {
                return Ok(Some(owner));
            }
            if address.is_unspecified() && (address.is_ipv6() || ip.is_ipv4()) {
                wildcard = Some(owner);
            }
        }
    }
    Ok(wildcard)
}

/// A line of the table, if it is a listener on `port`.
fn listening(line: &str, port: u16) -> Option<(IpAddr, TcpOwner)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, local_port) = fields.get(1)?.rsplit_once(':')?;
    if *fields.get(3)? != LISTEN || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    let owner = TcpOwner {
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    };
    Some((parse_address(address)?, owner))
}

/// The kernel prints each 32 bits of an address as a number of the machine.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in text.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok()?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_listener_of_a_port_is_found_in_the_table() {
        let own = rustix::process::geteuid().as_raw();
        for (bind, host) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "localhost")] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let owner = tcp_owner(host, port).unwrap().unwrap();
            assert_eq!(owner.uid, own);
            drop(listener);
        }
    }

    #[test]
    fn nobody_listening_is_not_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(try_connect(&endpoint, deadline).unwrap().is_some());
        drop(listener);
        assert!(try_connect(&endpoint, deadline).unwrap().is_none());
        let absent = Endpoint::Unix("/nonexistent/sock".into());
        assert!(try_connect(&absent, deadline).unwrap().is_none());
        let remote: Endpoint = "192.0.2.1:1".parse().unwrap();
        assert!(try_connect(&remote, deadline).is_err());
    }
}
