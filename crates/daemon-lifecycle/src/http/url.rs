//! URLs that are spoken to, and the client that does it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ureq::http::Uri;

use crate::listener::loopback;

/// The port of a URL, and the URL with an address in place of a name.
pub(super) fn local(url: &str) -> Result<(SocketAddr, String), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
    if uri.scheme_str() != Some("http") {
        return Err("only `http` is used on the loopback interface");
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("it has a user name");
    }
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let ip: IpAddr = loopback(host).ok_or("its host is not this machine alone")?;
    let port = authority.port_u16().unwrap_or(80);
    if port == 0 {
        return Err("it has no port");
    }
    let address = SocketAddr::new(ip, port);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((address, format!("http://{address}{path}")))
}

/// A client for one request.
pub(super) fn request(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(timeout.max(Duration::from_millis(1))))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .build()
        .new_agent()
}
