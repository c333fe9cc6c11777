//! The server: accepts connections, lets in who may come in, runs their commands.
//!
//! It does not know what a command means. What it guards: who does not belong
//! here costs little and learns nothing; a client that leaves ends its command; a
//! client that does not read holds up nobody else and no more memory than its
//! queue; an end of the service gives running commands a bounded time.

mod accept;
mod admit;
mod ask;
mod config;
mod connection;
mod deliver;
mod end;
mod executor;
mod output;
mod reactor;
mod registry;
mod running;
mod socket;
mod stdin;
mod threads;

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::command::{Terminal, WindowSize};
use crate::message::{CommandStatus, EndStatus};
use executor::{Executor, Spawner};
use reactor::Reactor;
use registry::Registry;

pub use accept::Listener;
pub use config::{ServeError, ServerConfig};
pub use output::{OutputError, OutputSink};
pub use stdin::{StdinError, StdinSource};

/// A command of a client that was let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct IncomingCommand<P> {
    /// The number of the command in this server.
    pub id: u64,
    /// The name of the command.
    pub name: String,
    /// What the client sent with it.
    pub payload: P,
    /// The client's directory, if it told.
    pub cwd: Option<PathBuf>,
    /// The variables of the client's environment that it chose to send.
    pub env: Vec<(OsString, OsString)>,
    /// The client's terminal.
    pub terminal: Terminal,
    /// The size of the client's window, now and whenever it changes.
    pub window: watch::Receiver<Option<WindowSize>>,
    /// The command's standard input.
    pub stdin: StdinSource,
    /// What the client said about its own build.
    pub client_build: String,
    /// The client's process, if the socket tells (Unix sockets do).
    pub client_pid: Option<u32>,
}

impl<P> IncomingCommand<P> {
    /// The path as the client means it: relative paths begin in its directory.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        match &self.cwd {
            Some(cwd) => cwd.join(path),
            None => path.as_ref().to_owned(),
        }
    }
}

/// Carries out commands.
pub trait CommandHandler: Send + Sync + 'static {
    /// What a client sends besides the name of the command. A command whose
    /// payload cannot be read as this is refused.
    type Payload: DeserializeOwned + Send + 'static;

    /// Carries out one command.
    ///
    /// It may compute or block: a command that does not come to a point where it
    /// waits within one or two milliseconds has a thread of its own from then on, and
    /// holds up others for no longer than that. Where commands usually take longer than
    /// a tenth of that, they begin so. It runs on threads of this crate, and
    /// within the runtime that [`serve`] was called in: timers, sockets and tasks of
    /// tokio are that runtime's.
    ///
    /// What is sent to `out` reaches the client in order. `cancel` fires when the
    /// client asks for it, when it is gone, and when the service ends. When
    /// [`ServerConfig::grace`] is over, or the client wants a hard end, the future
    /// is dropped. A handler that blocks notices neither; look at
    /// [`CancellationToken::is_cancelled`] in long computations.
    fn handle(
        &self,
        command: IncomingCommand<Self::Payload>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> impl Future<Output = EndStatus> + Send;

    /// Told about a command that was dropped and nevertheless runs on, since it
    /// blocks its thread. It keeps that thread and counts for nothing else.
    fn stuck(&self, command: &CommandStatus) {
        let _unused = command;
    }
}

/// What all connections share.
struct Server<H> {
    config: ServerConfig,
    handler: H,
    since: Instant,
    /// What nearly every client is told.
    ack: (Vec<u8>, u32),
    registry: Arc<Registry>,
    reactor: Arc<Reactor>,
    spawner: Spawner,
    /// One permit per connection that may be open.
    slots: Arc<Semaphore>,
    /// Those that are open.
    connections: TaskTracker,
    /// Ask for the end: with the time that the configuration gives...
    shutdown: CancellationToken,
    /// ... or as soon as nothing runs.
    retire: CancellationToken,
    /// No new commands.
    draining: CancellationToken,
    /// Commands are to end.
    cancel: CancellationToken,
    /// Commands are dropped.
    abort: CancellationToken,
    /// All is over; who waited for that may go.
    ended: CancellationToken,
}

impl<H: CommandHandler> Server<H> {
    fn new(
        config: ServerConfig,
        handler: H,
        shutdown: &CancellationToken,
        executor: &Executor,
    ) -> Arc<Server<H>> {
        Arc::new(Server {
            since: Instant::now(),
            ack: config.acknowledge(u32::MAX),
            registry: Arc::new(Registry::new(config.max_concurrent)),
            reactor: executor.reactor(),
            spawner: executor.spawner(),
            slots: Arc::new(Semaphore::new(config.max_connections)),
            connections: TaskTracker::new(),
            config,
            handler,
            shutdown: shutdown.clone(),
            retire: CancellationToken::new(),
            draining: CancellationToken::new(),
            cancel: CancellationToken::new(),
            abort: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    /// The frame that lets a client in that takes frames of this size, and the size
    /// that is agreed on.
    fn acknowledge(&self, client_max_frame: u32) -> (Vec<u8>, u32) {
        let (frame, max_frame) = &self.ack;
        if client_max_frame >= *max_frame {
            return (frame.clone(), *max_frame);
        }
        self.config.acknowledge(client_max_frame)
    }

    fn is_ending(&self) -> bool {
        self.shutdown.is_cancelled() || self.registry.is_draining()
    }

    fn report_stuck(&self, id: u64) {
        if let Some(command) = self.registry.set_stuck(id) {
            self.handler.stuck(&command);
        }
    }
}

/// Serves until `shutdown` fires, a client asks for the end, or nothing has run
/// for [`ServerConfig::idle_exit`]. Returns when all connections have ended.
///
/// From then on nothing new is let in. If `shutdown` fires (a client that asks for
/// the end makes it fire), running commands get [`ServerConfig::drain`] to end by
/// themselves, are then cancelled, and dropped when [`ServerConfig::grace`] is over
/// as well. What blocks its thread even then is left behind; it goes with the
/// process. The file of a Unix socket is removed.
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
    let executor = start()?;
    let listener = accept::prepare(listener, &config, &executor.reactor())?;
    let server = Server::new(config, handler, &shutdown, &executor);
    let closing = CancellationToken::new();
    let accepting = accept::accept(listener, Arc::clone(&server), closing.clone());
    let accepted = run(&executor, accepting);
    end::conduct(&server, &shutdown).await;
    closing.cancel();
    accepted.await;
    server.ended.cancel();
    let connections = &server.connections;
    connections.close();
    // Clients that are slow to read the end of their command get some time.
    if tokio::time::timeout(server.config.grace, connections.wait())
        .await
        .is_err()
    {
        server.abort.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// Serves one connection that is there already, as [`serve`] does each of its own,
/// and returns when it has ended.
///
/// # Errors
/// If the configuration or the connection is not usable.
pub async fn serve_connection<H: CommandHandler>(
    stream: UnixStream,
    config: ServerConfig,
    handler: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let executor = start()?;
    let socket = accept::adopt(stream, &config, &executor.reactor())?;
    let server = Server::new(config, handler, &shutdown, &executor);
    let ours = Arc::clone(&server);
    let served = run(&executor, async move {
        connection::serve(socket, &ours).await;
    });
    tokio::select! {
        () = served => {}
        () = async {
            end::conduct(&server, &shutdown).await;
            // Whoever is slow to read the end of its command gets some time.
            tokio::time::sleep(server.config.grace).await;
        } => {}
    }
    Ok(())
}

fn start() -> Result<Executor, ServeError> {
    Executor::start(Handle::current()).map_err(|source| ServeError::Resources { source })
}

/// Runs a task; the future that this returns is ready when it has ended.
fn run(
    executor: &Executor,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> {
    let (tell, ended) = oneshot::channel::<()>();
    executor.spawner().spawn(async move {
        task.await;
        drop(tell);
    });
    async move {
        // However it ended.
        let _ended = ended.await;
    }
}
