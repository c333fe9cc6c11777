//! A server in this process with commands made for tests, and clients for it.
//!
//! The first word of a command says what it does:
//! `echo <text>` repeats the text on standard output; `exit <n>` ends so;
//! `flood <n>` produces n bytes; `wait` waits to be cancelled; `deaf` waits and
//! ignores that; `cat` repeats its input; `read` reads some of it; `where` tells what
//! it knows of its client; `resize` waits for a new size of the window; `block`
//! blocks its thread; `steps <n>` blocks it for a while n times, with output between; `event <n>` sends one event of n bytes; `fail <text>`; `panic`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{
    Client, ClientConfig, Command, CommandHandler, CommandStatus, EndStatus, IncomingCommand,
    Listener, Outcome, OutputChunk, OutputSink, ServerConfig, serve,
};
use tokio_util::sync::CancellationToken;

pub(crate) const SERVICE: &str = "test-daemon";
pub(crate) const PROTOCOL: u32 = 7;
/// Far more than anything here takes; only a failure gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What happened in the server, for the test to see.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) begun: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    pub(crate) produced: AtomicUsize,
    /// Bytes of input that commands have read.
    pub(crate) read: AtomicUsize,
    /// Inputs that broke off.
    pub(crate) broken: AtomicUsize,
    pub(crate) stuck: AtomicUsize,
    /// Lets what blocks go.
    pub(crate) unblock: AtomicBool,
}

impl Seen {
    /// Waits until a counter reaches `at_least`.
    pub(crate) fn wait(&self, counter: impl Fn(&Seen) -> &AtomicUsize, at_least: usize) {
        let started = Instant::now();
        while counter(self).load(Ordering::SeqCst) < at_least {
            assert!(started.elapsed() < PATIENCE, "waited in vain");
            std::thread::yield_now();
        }
    }
}

struct CountDrop(Arc<Seen>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) struct Commands(pub(crate) Arc<Seen>);

impl CommandHandler for Commands {
    type Payload = ();

    async fn handle(
        &self,
        mut command: IncomingCommand<()>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> EndStatus {
        let seen = &self.0;
        seen.begun.fetch_add(1, Ordering::SeqCst);
        let _counted = CountDrop(Arc::clone(seen));
        let text = command.name.clone();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "echo" => {
                out.stdout(rest.to_owned()).await.unwrap();
                out.stderr("told".to_owned()).await.unwrap();
            }
            "exit" => return EndStatus::Exit(rest.parse().unwrap()),
            "flood" => {
                let mut left: usize = rest.parse().unwrap();
                while left > 0 {
                    let chunk = left.min(40_000);
                    if out.stdout(vec![b'x'; chunk]).await.is_err() {
                        return EndStatus::Cancelled;
                    }
                    seen.produced.fetch_add(chunk, Ordering::SeqCst);
                    left -= chunk;
                }
            }
            "event" => {
                let event: Vec<u8> = (0..rest.parse().unwrap()).map(|n: u32| n as u8).collect();
                out.event(event).await.unwrap();
            }
            "wait" => {
                let _gone = out.stdout("waiting").await;
                cancel.cancelled().await;
                seen.cancelled.fetch_add(1, Ordering::SeqCst);
                return EndStatus::Cancelled;
            }
            "deaf" => {
                let _gone = out.stdout("waiting").await;
                std::future::pending::<()>().await;
            }
            "cat" => loop {
                match command.stdin.next().await {
                    Ok(Some(bytes)) => {
                        seen.read.fetch_add(bytes.len(), Ordering::SeqCst);
                        if out.stdout(bytes).await.is_err() {
                            return EndStatus::Cancelled;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        seen.broken.fetch_add(1, Ordering::SeqCst);
                        return EndStatus::Failed {
                            message: error.to_string(),
                        };
                    }
                }
            },
            "read" => {
                // Reads once, and no more.
                let bytes = command.stdin.next().await.unwrap().unwrap();
                seen.read.fetch_add(bytes.len(), Ordering::SeqCst);
                cancel.cancelled().await;
            }
            "where" => {
                let told = format!(
                    "{:?} {:?} {:?} {}",
                    command.cwd, command.env, command.terminal, command.client_build
                );
                out.stdout(told).await.unwrap();
            }
            "resize" => {
                out.stdout("ready").await.unwrap();
                command.window.changed().await.unwrap();
                let size = *command.window.borrow();
                out.stdout(format!("{size:?}")).await.unwrap();
            }
            "block" => {
                out.stdout("blocking").await.unwrap();
                let wait = &seen.unblock;
                while !wait.load(Ordering::SeqCst) {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
            }
            "steps" => {
                for step in 0..rest.parse().unwrap() {
                    std::thread::park_timeout(Duration::from_millis(5));
                    out.stdout(vec![step]).await.unwrap();
                    // Others are heard between the steps.
                    tokio::task::yield_now().await;
                }
            }
            "fail" => {
                return EndStatus::Failed {
                    message: rest.to_owned(),
                };
            }
            _ => panic!("unknown command {word}"),
        }
        EndStatus::Exit(0)
    }

    fn stuck(&self, command: &CommandStatus) {
        assert!(command.is_stuck);
        self.0.stuck.fetch_add(1, Ordering::SeqCst);
    }
}

/// A server on a thread of its own; ends when this is dropped.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) seen: Arc<Seen>,
    pub(crate) shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _folder: Option<tempfile::TempDir>,
}

pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::new(SERVICE, "0.1.0", PROTOCOL);
    config.drain = Duration::from_millis(50);
    config.grace = Duration::from_millis(200);
    config.stuck_after = Duration::from_secs(2);
    config
}

impl Server {
    pub(crate) fn unix(config: ServerConfig) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        Server::start(listener.into(), Endpoint::Unix(path), config, Some(folder))
    }

    pub(crate) fn tcp(config: ServerConfig) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = endpoint_of(&listener);
        Server::start(listener.into(), endpoint, config, None)
    }

    fn start(
        listener: Listener,
        endpoint: Endpoint,
        config: ServerConfig,
        folder: Option<tempfile::TempDir>,
    ) -> Server {
        let seen = Arc::new(Seen::default());
        let shutdown = CancellationToken::new();
        let (handler, stop) = (Commands(Arc::clone(&seen)), shutdown.clone());
        let thread = std::thread::spawn(move || {
            run_server(listener, config, handler, stop);
        });
        Server {
            endpoint,
            seen,
            shutdown,
            thread: Some(thread),
            _folder: folder,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.endpoint, client_config()).unwrap()
    }

    pub(crate) fn run(&self, command: &str) -> (Outcome, Output) {
        let mut output = Output::default();
        let outcome = self
            .client()
            .run(&Command::new(command), |frame| output.take(frame));
        (outcome, output)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.shutdown.cancel();
        self.join();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn run_server(
    listener: Listener,
    config: ServerConfig,
    handler: Commands,
    stop: CancellationToken,
) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve(listener, config, handler, stop))
        .unwrap();
}

pub(crate) fn endpoint_of(listener: &TcpListener) -> Endpoint {
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

pub(crate) fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new(SERVICE, PROTOCOL);
    config.handshake_timeout = PATIENCE;
    config
}

/// All that a command produced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) events: Vec<Vec<u8>>,
}

impl Output {
    pub(crate) fn take(&mut self, frame: OutputChunk<'_>) {
        match frame {
            OutputChunk::Stdout(bytes) => self.stdout.extend_from_slice(bytes),
            OutputChunk::Stderr(bytes) => self.stderr.extend_from_slice(bytes),
            OutputChunk::Event(bytes) => self.events.push(bytes.to_vec()),
        }
    }
}
