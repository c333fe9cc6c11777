//! Accepting connections, as many as allowed, until the service has ended.
//!
//! While it ends they are accepted as well, so that whoever comes is told.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdTcp;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnix, UnixStream as StdStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::config::{ServeError, ServerConfig};
use super::executor::yield_now;
use super::reactor::{Direction, Reactor, Watched};
use super::socket::{Family, Socket};
use super::{CommandHandler, Server, connection};
use crate::failpoint;

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

/// The same, ready to be waited for.
pub(super) struct Prepared {
    family: Family,
    listener: Watched<OwnedFd>,
    file: Option<SocketFile>,
}

/// The file of a Unix socket, and which one of that name it is.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(listener: &StdUnix) -> Option<SocketFile> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        let metadata = fs::symlink_metadata(&path).ok()?;
        Some(SocketFile {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Nobody else may connect. The folder and the peer's user are checked as well;
    /// this is for whoever looks at the file.
    fn close_to_others(&self) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))
    }

    /// Removes the file, if it still is this one. To be called while the socket
    /// listens: nobody takes the place of a socket that answers, so it cannot
    /// become another one in between.
    fn remove(&self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if is_ours {
            // A file that stays is taken for what it is by the next server.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

impl Prepared {
    async fn accept(&self, reactor: &Arc<Reactor>) -> io::Result<Socket> {
        let stream = poll_fn(|context| {
            self.listener.poll(context, Direction::Read, |listener| {
                Ok((accept_one(self.family, listener)?, false))
            })
        });
        Ok(self.socket(stream.await?, reactor))
    }

    fn socket(&self, stream: OwnedFd, reactor: &Arc<Reactor>) -> Socket {
        Socket::new(self.family, Watched::new(stream, false, reactor))
    }
}

/// The next one in the queue.
fn accept_one(family: Family, listener: &OwnedFd) -> io::Result<OwnedFd> {
    let stream = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    if family == Family::Tcp {
        sockopt::set_tcp_nodelay(&stream, true)?;
    }
    Ok(stream)
}

/// Checks that it is safe to serve there.
pub(super) fn prepare(
    listener: Listener,
    config: &ServerConfig,
    reactor: &Arc<Reactor>,
) -> Result<Prepared, ServeError> {
    let failed = |source| ServeError::Listener { source };
    config.check()?;
    let (family, listener, file) = match listener {
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
            (Family::Tcp, OwnedFd::from(listener), None)
        }
        Listener::Unix(listener) => {
            listener.set_nonblocking(true).map_err(failed)?;
            let file = SocketFile::of(&listener);
            if let Some(file) = &file {
                file.close_to_others().map_err(failed)?;
            }
            (Family::Unix, OwnedFd::from(listener), file)
        }
    };
    Ok(Prepared {
        family,
        listener: Watched::new(listener, true, reactor),
        file,
    })
}

/// A connection that did not come through a listener.
pub(super) fn adopt(
    stream: StdStream,
    config: &ServerConfig,
    reactor: &Arc<Reactor>,
) -> Result<Socket, ServeError> {
    config.check()?;
    stream
        .set_nonblocking(true)
        .map_err(|source| ServeError::Listener { source })?;
    let stream = Watched::new(stream.into(), true, reactor);
    Ok(Socket::new(Family::Unix, stream))
}

/// Accepts until `closing`; those who wait in the queue then are told that the
/// service ends, since closing the listener would reset them without a word.
pub(super) async fn accept<H: CommandHandler>(
    listener: Prepared,
    server: Arc<Server<H>>,
    closing: CancellationToken,
) {
    let (slots, reactor) = (&server.slots, &server.reactor);
    let serve = |socket, slot: Option<OwnedSemaphorePermit>| {
        let connected = server.registry.connected();
        let ours = Arc::clone(&server);
        let connection = async move {
            connection::serve(socket, &ours).await;
            drop((connected, slot));
        };
        let tracked = server.connections.track_future(connection);
        server.spawner.spawn(tracked);
    };
    let mut pause = PAUSE;
    loop {
        let accepted = async {
            let slot = Arc::clone(slots).acquire_owned().await.ok();
            (listener.accept(reactor).await, slot)
        };
        let (accepted, slot) = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(socket) => {
                pause = PAUSE;
                serve(socket, slot);
                // It may have said all already, and another one comes later.
                yield_now().await;
            }
            Err(error) if is_exhausted(&error) => {
                // The connection stays in the queue, and accepting it would fail
                // again at once until another one ends.
                tokio::select! {
                    () = closing.cancelled() => break,
                    () = reactor.sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // That one client left before it was accepted.
            Err(_) => yield_now().await,
        }
    }
    if let Some(file) = &listener.file {
        failpoint::hit("server-before-unlink");
        file.remove();
        failpoint::hit("server-after-unlink");
    }
    // Those who wait in the queue.
    while let Ok(stream) = accept_one(listener.family, listener.listener.get()) {
        serve(listener.socket(stream, reactor), None);
    }
}

/// Whether the system lacks descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
