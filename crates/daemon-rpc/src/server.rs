//! The server: accepts connections, lets in who may come in, runs their commands.
//!
//! It does not know what a command means. What it guards: who does not belong
//! here costs little and learns nothing; a client that leaves ends its command; a
//! client that does not read holds up nobody else and no more memory than its
//! queue; an end of the service gives running commands a bounded time.

mod accept;
mod admit;
mod config;
mod connection;
mod deliver;
mod output;
mod socket;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::message::EndStatus;

pub use accept::Listener;
pub use config::{ServeError, ServerConfig};
pub use output::{OutputError, OutputSink};

/// A command of a client that was let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IncomingCommand {
    /// What the client sent.
    pub payload: Bytes,
    /// What the client said about its own version.
    pub client_build: String,
    /// The client's process, if the socket tells (Unix sockets do).
    pub client_pid: Option<u32>,
}

/// Carries out commands.
pub trait CommandHandler: Send + Sync + 'static {
    /// Carries out one command.
    ///
    /// What is sent to `out` reaches the client in order. `cancel` fires when the
    /// client asks for it, when it is gone, and when the service ends. A client
    /// that is gone is waited for only as long as [`ServerConfig::grace`], then
    /// the future is dropped. So it is when the client wants a hard end.
    fn handle(
        &self,
        command: IncomingCommand,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> impl Future<Output = EndStatus> + Send;
}

/// What all connections share.
struct Server<H> {
    config: ServerConfig,
    handler: H,
    /// One permit per command that may run.
    commands: Arc<Semaphore>,
    /// No new commands.
    draining: CancellationToken,
    /// Commands are to end.
    cancel: CancellationToken,
    /// Commands are dropped.
    abort: CancellationToken,
}

/// Serves until `shutdown` fires, and returns when all connections have ended.
///
/// After `shutdown` nothing new is let in. Running commands get
/// [`ServerConfig::drain`] to end by themselves, are then cancelled, and dropped
/// when [`ServerConfig::grace`] is over as well.
///
/// # Errors
/// If the configuration is unsafe or the listener not usable. Once it serves it
/// does not fail: an error of a connection ends that connection.
pub async fn serve<H: CommandHandler>(
    listener: Listener,
    config: ServerConfig,
    handler: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let listener = accept::prepare(listener, &config)?;
    let server = Arc::new(Server {
        commands: Arc::new(Semaphore::new(config.max_concurrent)),
        config,
        handler,
        draining: shutdown.clone(),
        cancel: CancellationToken::new(),
        abort: CancellationToken::new(),
    });
    let connections = TaskTracker::new();
    accept::accept(listener, &server, &connections, &shutdown).await;
    connections.close();
    let (drain, grace) = (server.config.drain, server.config.grace);
    for (patience, then) in [(drain, &server.cancel), (grace, &server.abort)] {
        if tokio::time::timeout(patience, connections.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        then.cancel();
    }
    connections.wait().await;
    Ok(())
}
