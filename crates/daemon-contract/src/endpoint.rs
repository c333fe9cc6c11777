//! Where a service listens: one value is the address to bind and the address to
//! connect to.
//!
//! Parsing never resolves a name and never touches a file, so a value can be
//! checked before anything is started.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// A name or an IP address, an IPv6 address without its brackets.
        host: String,
        /// The port; 0 lets the system choose when it is bound.
        port: u16,
    },
    /// A Unix domain socket, by its absolute path.
    Unix(PathBuf),
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{input}` is not an endpoint: {reason} (expected `host:port`, `tcp://host:port` or `unix:///path`)"
)]
pub struct EndpointError {
    /// The text.
    pub input: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Endpoint {
    /// Whether the endpoint can only be reached from this machine: a Unix
    /// socket, `localhost`, or an IP address of the loopback interface.
    ///
    /// Other names are not local, whatever they resolve to: what they resolve to
    /// can change between the check and the use.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(input: &str) -> Result<Self, EndpointError> {
        let fail = |reason| EndpointError {
            input: input.to_owned(),
            reason,
        };
        if let Some(path) = input.strip_prefix("unix:") {
            let path = path
                .strip_prefix("//")
                .ok_or_else(|| fail("a Unix socket is written `unix://` and its path"))?;
            if !path.starts_with('/') {
                return Err(fail("the path of a Unix socket must be absolute"));
            }
            if path.contains('\0') {
                return Err(fail("the path contains a NUL"));
            }
            return Ok(Endpoint::Unix(PathBuf::from(path)));
        }
        let rest = input.strip_prefix("tcp://").unwrap_or(input);
        if rest.contains('/') {
            return Err(fail("neither `tcp://` nor `unix://`"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| fail("no port"))?;
        // A sign or blanks are accepted by no resolver, but by the parser of numbers.
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail("the port is not a number"));
        }
        let port = port
            .parse()
            .map_err(|_| fail("the port is larger than 65535"))?;
        let host = match host.strip_prefix('[').map(|h| h.strip_suffix(']')) {
            Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(fail("no IPv6 address between the brackets")),
            None if host.contains(':') => {
                return Err(fail("an IPv6 address needs brackets around it"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(fail("no host"));
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
            return Err(fail("the host contains a character that no host name has"));
        }
        Ok(Endpoint::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
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
    fn every_form_parses_to_one_canonical_text() {
        for (input, parsed, shown) in [
            ("127.0.0.1:9001", tcp("127.0.0.1", 9001), "127.0.0.1:9001"),
            (
                "tcp://build.example:1",
                tcp("build.example", 1),
                "build.example:1",
            ),
            ("tcp://[::1]:9002", tcp("::1", 9002), "[::1]:9002"),
            ("localhost:0", tcp("localhost", 0), "localhost:0"),
            (
                "unix:///run/user/1000/vx.sock",
                Endpoint::Unix("/run/user/1000/vx.sock".into()),
                "unix:///run/user/1000/vx.sock",
            ),
        ] {
            let endpoint: Endpoint = input.parse().unwrap();
            assert_eq!(endpoint, parsed);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse::<Endpoint>().unwrap(), parsed);
        }
    }

    #[test]
    fn errors_name_the_input() {
        for input in [
            "",
            "localhost",
            ":9001",
            "localhost:",
            "localhost:99999",
            "localhost:+1",
            "::1:9001",
            "[::1:9001",
            "[nonsense]:1",
            "a b:1",
            "http://localhost:80",
            "unix:/run/x",
            "unix://relative",
        ] {
            let error = input.parse::<Endpoint>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("`{input}` is not an endpoint: ")),
                "{error}"
            );
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in [
            "localhost:1",
            "127.0.0.1:1",
            "127.3.4.5:1",
            "[::1]:1",
            "unix:///x",
        ] {
            assert!(local.parse::<Endpoint>().unwrap().is_local(), "{local}");
        }
        for remote in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost.example:1"] {
            assert!(!remote.parse::<Endpoint>().unwrap().is_local(), "{remote}");
        }
    }

    #[test]
    fn serde_uses_the_text() {
        let endpoint = tcp("127.0.0.1", 9001);
        let json = serde_json::to_string(&endpoint).unwrap();
        assert_eq!(json, "\"127.0.0.1:9001\"");
        assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
        assert!(serde_json::from_str::<Endpoint>("\"nowhere\"").is_err());
    }
}
