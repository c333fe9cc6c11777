//! Streams of connections that never end and never fail: a server outlives its
//! trouble with single connections.

use std::io;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long to wait when there are no file descriptors or no memory left for a
/// connection, which only time can heal.
const BREATHER: Duration = Duration::from_millis(50);

/// The connections of a TCP listener.
pub(super) fn tcp(
    listener: std::net::TcpListener,
) -> io::Result<impl Stream<Item = io::Result<TcpStream>>> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                // Without it, small answers would wait for more to send.
                Ok((stream, _)) if stream.set_nodelay(true).is_ok() => {
                    return Some((Ok(stream), listener));
                }
                Ok(_) => {}
                Err(error) => recover(&error).await,
            }
        }
    }))
}

/// The connections of a Unix socket that come from our own user or from root.
pub(super) fn unix(
    listener: StdUnixListener,
) -> io::Result<impl Stream<Item = io::Result<UnixStream>>> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let ours = rustix::process::getuid().as_raw();
    Ok(unfold(listener, move |listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == ours || peer.uid() == 0 => {
                        return Some((Ok(stream), listener));
                    }
                    // Others are hung up on.
                    _ => {}
                },
                Err(error) => recover(&error).await,
            }
        }
    }))
}

async fn recover(error: &io::Error) {
    // A peer that was gone before it was accepted is no reason to wait.
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tokio::time::sleep(BREATHER).await;
    }
}
