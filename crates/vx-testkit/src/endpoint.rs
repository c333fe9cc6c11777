//! Where a service of the test listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address that no other test has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket in the private runtime directory.
    Unix(PathBuf),
    /// A port on the loopback interface.
    Tcp(SocketAddr),
}

impl Address {
    /// The port, if there is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Unix(_) => None,
            Address::Tcp(address) => Some(address.port()),
        }
    }
}

/// As it stands in an environment variable: `unix:///path` or `127.0.0.1:9001`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// How an endpoint gets its address; the order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// A Unix socket in the private runtime directory: nobody else can have it.
    Unix,
    /// A TCP port that is bound and listening already; the service gets the
    /// socket (`LISTEN_FDS`, descriptor 3 and on), so there is nothing to lose
    /// and clients may connect before it is up.
    Handed,
    /// A TCP port that the service chooses (it binds port 0) and reports.
    Reported,
    /// A TCP port out of a block leased to this test, for programs that only
    /// take a number.
    Leased,
    /// Exactly this TCP port. Only where the network is the test's own
    /// ([`Tier::Sealed`](crate::Tier::Sealed), or inside
    /// [`sealed`](crate::sealed)): anywhere else it could be somebody else's.
    Fixed(u16),
}
