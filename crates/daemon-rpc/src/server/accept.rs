//! Accepting connections, as many as allowed, until the service ends.

use std::io;
use std::net::TcpListener as StdTcp;
use std::os::unix::net::UnixListener as StdUnix;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{ServeError, ServerConfig};
use super::socket::Socket;
use super::{CommandHandler, Server, connection};

/// The first pause when the system has no descriptor for a connection; doubled
/// up to [`LONGEST_PAUSE`] as long as that lasts.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A socket that listens, bound here or handed over.
#[derive(Debug)]
pub enum Listener {
    /// Listens on a TCP port.
    Tcp(StdTcp),
    /// Listens on a Unix domain socket.
    Unix(StdUnix),
}

impl From<StdTcp> for Listener {
    fn from(listener: StdTcp) -> Listener {
        Listener::Tcp(listener)
    }
}

impl From<StdUnix> for Listener {
    fn from(listener: StdUnix) -> Listener {
        Listener::Unix(listener)
    }
}

/// The same, registered with the runtime.
pub(super) enum Prepared {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Prepared {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Prepared::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Prepared::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// Checks that it is safe to serve there.
pub(super) fn prepare(listener: Listener, config: &ServerConfig) -> Result<Prepared, ServeError> {
    let failed = |source| ServeError::Listener { source };
    config.check()?;
    match listener {
        Listener::Tcp(listener) => {
            let address = listener.local_addr().map_err(failed)?;
            if !address.ip().is_loopback() {
                let address = address.to_string();
                return Err(ServeError::NotLocal { address });
            }
            if config.token.is_none() {
                return Err(ServeError::NoToken);
            }
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            Ok(Prepared::Tcp(listener))
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            Ok(Prepared::Unix(listener))
        }
    }
}

/// Accepts until `shutdown`; those who wait in the queue then are told that the
/// service ends, since closing the listener would reset them without a word.
pub(super) async fn accept<H: CommandHandler>(
    listener: Prepared,
    server: &Arc<Server<H>>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(server.config.max_connections));
    let serve = |socket, slot: Option<OwnedSemaphorePermit>| {
        let server = Arc::clone(server);
        connections.spawn(async move {
            connection::serve(socket, &server).await;
            drop(slot);
        });
    };
    let mut pause = PAUSE;
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (listener.accept().await, slot)
        };
        let (accepted, slot) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(socket) => {
                pause = PAUSE;
                serve(socket, slot);
            }
            Err(error) if is_exhausted(&error) => {
                // The connection stays in the queue, and accepting it would fail
                // again at once until another one ends.
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // That one client left before it was accepted.
            Err(_) => tokio::task::yield_now().await,
        }
    }
    for socket in waiting(listener) {
        serve(socket, None);
    }
}

/// Whether the system lacks descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// Those who wait in the queue.
fn waiting(listener: Prepared) -> Vec<Socket> {
    let mut sockets = Vec::new();
    match listener {
        Prepared::Tcp(listener) => {
            let Ok(listener) = listener.into_std() else {
                return sockets;
            };
            while let Ok((stream, _)) = listener.accept() {
                let ready = stream.set_nonblocking(true);
                sockets.extend(
                    ready
                        .and_then(|()| TcpStream::from_std(stream))
                        .map(Socket::Tcp),
                );
            }
        }
        Prepared::Unix(listener) => {
            let Ok(listener) = listener.into_std() else {
                return sockets;
            };
            while let Ok((stream, _)) = listener.accept() {
                let ready = stream.set_nonblocking(true);
                sockets.extend(
                    ready
                        .and_then(|()| UnixStream::from_std(stream))
                        .map(Socket::Unix),
                );
            }
        }
    }
    sockets
}
