//! A bound listener, TCP or Unix, ready to serve or to be handed to a child.
//!
//! It does not know who will accept. The bind is the election: of all who try,
//! one gets the address, and everybody else learns that it is in use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use daemon_contract::Endpoint;

use crate::inherited::BACKLOG;
use crate::socket_path::{self, SocketPathError};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Listens on a TCP port.
    Tcp(TcpListener),
    /// Listens on a Unix domain socket.
    Unix(UnixListener),
}

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("`{endpoint}` is in use by another program")]
    InUse {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The endpoint can be reached from other machines, and nothing here
    /// encrypts or authenticates such traffic.
    #[error(
        "refused to listen on `{endpoint}`: it is not an address of this machine alone (use a loopback address or a Unix socket)"
    )]
    NotLocal {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The place of the socket file is not safe or not usable.
    #[error("refused to listen on `{endpoint}`")]
    Path {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong with the place.
        #[source]
        source: SocketPathError,
    },
    /// The system refused for another reason.
    #[error("could not listen on `{endpoint}`")]
    Io {
        /// The endpoint.
        endpoint: Endpoint,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// Whether somebody else listens there: a reason to connect, not to give up.
    pub fn is_in_use(&self) -> bool {
        matches!(self, BindError::InUse { .. })
    }
}

impl Listener {
    /// Binds and listens.
    ///
    /// Only endpoints of this machine are accepted. `localhost` is `127.0.0.1`,
    /// whatever the resolver says, since a name with two addresses could be
    /// bound twice. Port 0 lets the system choose; see [`Listener::endpoint`].
    ///
    /// The folder of a Unix socket is created with mode 0700, and refused if it
    /// exists and is not a folder of this user that nobody else can enter. A
    /// socket file left by a dead server is replaced; any other file stays and
    /// is an error.
    ///
    /// # Errors
    /// [`BindError::InUse`] if somebody listens there, else the obstacle.
    pub fn bind(endpoint: &Endpoint) -> Result<Listener, BindError> {
        Listener::bind_observed(endpoint, &|| {})
    }

    /// As [`Listener::bind`]; `removed` is told when a stale socket was taken away.
    pub(crate) fn bind_observed(
        endpoint: &Endpoint,
        removed: &dyn Fn(),
    ) -> Result<Listener, BindError> {
        let failed = |source| BindError::Io {
            endpoint: endpoint.clone(),
            source,
        };
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let ip = loopback(host).ok_or_else(|| BindError::NotLocal {
                    endpoint: endpoint.clone(),
                })?;
                match TcpListener::bind(SocketAddr::new(ip, *port)) {
                    Ok(listener) => {
                        // The standard library lets 128 wait, and the kernel has the
                        // others try again a second later.
                        rustix::net::listen(&listener, BACKLOG)
                            .map_err(|error| failed(error.into()))?;
                        Ok(Listener::Tcp(listener))
                    }
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        Err(BindError::InUse {
                            endpoint: endpoint.clone(),
                        })
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            Endpoint::Unix(path) => match socket_path::bind(path, removed) {
                Ok(Some(listener)) => Ok(Listener::Unix(listener)),
                Ok(None) => Err(BindError::InUse {
                    endpoint: endpoint.clone(),
                }),
                Err(source) => Err(BindError::Path {
                    endpoint: endpoint.clone(),
                    source,
                }),
            },
        }
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// An address that the system does not tell (an unnamed Unix socket) is an
    /// empty path or port 0.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => Endpoint::Tcp {
                    host: address.ip().to_string(),
                    port: address.port(),
                },
                Err(_) => Endpoint::Tcp {
                    host: Ipv4Addr::LOCALHOST.to_string(),
                    port: 0,
                },
            },
            Listener::Unix(listener) => Endpoint::Unix(
                listener
                    .local_addr()
                    .ok()
                    .and_then(|address| address.as_pathname().map(PathBuf::from))
                    .unwrap_or_default(),
            ),
        }
    }

    /// Makes accepting non-blocking, as async runtimes need it.
    ///
    /// # Errors
    /// The system's answer.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.set_nonblocking(nonblocking),
            Listener::Unix(listener) => listener.set_nonblocking(nonblocking),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// The loopback address that `host` names, if it names one.
pub(crate) fn loopback(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn the_endpoint_names_the_chosen_port_and_is_in_use_from_then_on() {
        let listener = Listener::bind(&tcp("localhost", 0)).unwrap();
        let endpoint = listener.endpoint();
        let Endpoint::Tcp { host, port } = &endpoint else {
            panic!("{endpoint}");
        };
        assert_eq!(host, "127.0.0.1");
        assert_ne!(*port, 0);
        let error = Listener::bind(&endpoint).unwrap_err();
        assert!(error.is_in_use(), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("`127.0.0.1:{port}` is in use by another program")
        );
    }

    #[test]
    fn addresses_of_other_machines_are_refused() {
        for host in ["0.0.0.0", "::", "192.0.2.1", "example.org"] {
            let error = Listener::bind(&tcp(host, 0)).unwrap_err();
            assert!(matches!(error, BindError::NotLocal { .. }), "{error:?}");
        }
    }
}
