//! A store that is served in this process, on a port or a socket of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

use cas_store::{Options, Store};
use daemon_contract::Endpoint;
use daemon_lifecycle::Listener;
use tempfile::TempDir;
use tonic::transport::Channel;
use vx_proto::cas::CasClient;
use vx_proto::token::Token;
use vx_proto::{DigestFunction, connect, server};

/// A running service; it ends with the test's runtime.
pub(crate) struct Serving {
    pub(crate) endpoint: Endpoint,
    pub(crate) token: Token,
    pub(crate) store: Store,
    // Removed last.
    dir: TempDir,
}

impl Serving {
    /// On a free port.
    pub(crate) fn on_tcp() -> Serving {
        Serving::start(|_| "127.0.0.1:0".parse().unwrap())
    }

    /// On a Unix socket.
    pub(crate) fn on_unix() -> Serving {
        Serving::start(|dir| Endpoint::Unix(dir.join("run/casd.sock")))
    }

    fn start(endpoint: impl FnOnce(&Path) -> Endpoint) -> Serving {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&endpoint(dir.path())).unwrap();
        let store = Store::open(&dir.path().join("cas"), Options::default()).unwrap();
        let serving = Serving {
            endpoint: listener.endpoint(),
            token: Token::random().unwrap(),
            store: store.clone(),
            dir,
        };
        let token = serving.token.clone();
        tokio::spawn(server::serve_until(
            listener,
            vx_casd::routes(store),
            Some(token),
            server::version_info(vx_casd::SERVICE),
            std::future::pending(),
        ));
        serving
    }

    pub(crate) fn channel(&self) -> Channel {
        connect::channel(&self.endpoint)
    }

    pub(crate) fn client(&self) -> CasClient {
        self.client_with(DigestFunction::Blake3)
    }

    pub(crate) fn client_with(&self, function: DigestFunction) -> CasClient {
        CasClient::new(self.channel(), Some(&self.token), function)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}
