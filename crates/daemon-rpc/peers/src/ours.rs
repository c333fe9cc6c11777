//! daemon-rpc: a server, and what its client does for each row.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use daemon_contract::Endpoint;
use daemon_rpc::{
    CancellationToken, Client, ClientConfig, Command, CommandHandler, EndStatus, IncomingCommand,
    Outcome, OutputChunk, OutputSink, ServerConfig, Streams, serve,
};

use crate::{MESSAGE, Samples};

struct Peer;

impl CommandHandler for Peer {
    /// Chunks and their size.
    type Payload = (u64, u32);

    async fn handle(
        &self,
        mut command: IncomingCommand<(u64, u32)>,
        out: OutputSink,
        _cancel: CancellationToken,
    ) -> EndStatus {
        let (chunks, size) = command.payload;
        let chunk = Bytes::from(vec![b'x'; size as usize]);
        for _ in 0..chunks {
            if out.stdout(chunk.clone()).await.is_err() {
                return EndStatus::Cancelled;
            }
        }
        while command.name == "converse"
            && let Ok(Some(bytes)) = command.stdin.next().await
        {
            if out.stdout(bytes).await.is_err() {
                return EndStatus::Cancelled;
            }
        }
        EndStatus::Exit(0)
    }
}

pub async fn serve_at(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let mut config = ServerConfig::new("peer", "0.1.0", 1);
    config.max_connections = 2000;
    serve(listener.into(), config, Peer, CancellationToken::new())
        .await
        .unwrap();
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new("peer", 1);
    config.handshake_timeout = Duration::from_secs(10);
    config
}

fn flood(chunks: u64, size: u32) -> Command {
    Command::new("flood").with_payload(&(chunks, size)).unwrap()
}

const OK: Outcome = Outcome::Finished(EndStatus::Exit(0));

/// A command on a connection of its own, with the first byte of its output.
pub fn connect_and_reply(socket: &Path, rounds: usize) -> Samples {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let command = flood(1, MESSAGE as u32);
    Samples::take(rounds, || {
        let mut received = 0;
        let pending = Client::start(&endpoint, config(), &command).unwrap();
        let outcome = pending.finish(|chunk| {
            if let OutputChunk::Stdout(bytes) = chunk {
                received += bytes.len();
            }
        });
        assert_eq!((outcome, received), (OK, MESSAGE));
    })
}

/// Input that is sent back as output, within one command.
pub fn round_trips(socket: &Path, rounds: usize) -> Samples {
    struct Answers {
        input: UnixStream,
        began: Instant,
        samples: Vec<Duration>,
        left: usize,
    }
    impl Write for Answers {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.samples.push(self.began.elapsed());
            if self.left == 0 {
                self.input.shutdown(std::net::Shutdown::Write)?;
            } else {
                self.left -= 1;
                self.began = Instant::now();
                self.input.write_all(bytes)?;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut input, output) = UnixStream::pair().unwrap();
    input.write_all(&[b'x'; MESSAGE]).unwrap();
    let mut answers = Answers {
        input,
        began: Instant::now(),
        samples: Vec::new(),
        left: rounds,
    };
    let client = Client::connect(&Endpoint::Unix(socket.to_owned()), config()).unwrap();
    let command = Command::new("converse").with_payload(&(0_u64, 0_u32));
    let outcome = client.run_with(
        &command.unwrap(),
        &mut Streams {
            stdin: Some(output.into()),
            stdout: &mut answers,
            stderr: &mut io::sink(),
            on_event: &mut |_| {},
        },
    );
    assert_eq!(outcome, OK);
    Samples(answers.samples.split_off(1))
}

pub fn stream(socket: &Path, bytes: u64, size: u32) -> f64 {
    let client = Client::connect(&Endpoint::Unix(socket.to_owned()), config()).unwrap();
    let (began, mut received) = (Instant::now(), 0);
    let outcome = client.run(&flood(bytes / u64::from(size), size), |chunk| {
        if let OutputChunk::Stdout(bytes) = chunk {
            received += bytes.len() as u64;
        }
    });
    assert_eq!((outcome, received), (OK, bytes));
    bytes as f64 / began.elapsed().as_secs_f64()
}

/// Connections that have said who they are.
pub fn crowd(socket: &Path, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| Client::connect(&Endpoint::Unix(socket.to_owned()), config()).unwrap())
        .collect()
}
