//! What the protocol costs over a Unix socket: a whole command on a connection
//! of its own, and the rate at which output streams.

#![allow(missing_docs, reason = "the macros of criterion document nothing")]

use std::os::unix::net::UnixListener;
use std::thread;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use daemon_contract::Endpoint;
use daemon_rpc::{
    Client, ClientConfig, Command, CommandHandler, EndStatus, IncomingCommand, Outcome,
    OutputChunk, OutputSink, ServerConfig, serve,
};
use tokio_util::sync::CancellationToken;

/// Produces as many chunks of 64 KiB as the command's length says.
struct Chunks;

impl CommandHandler for Chunks {
    type Payload = u32;

    async fn handle(
        &self,
        command: IncomingCommand<u32>,
        out: OutputSink,
        _cancel: CancellationToken,
    ) -> EndStatus {
        let chunk = Bytes::from(vec![b'x'; daemon_rpc::DATA_CHUNK]);
        for _ in 0..command.payload {
            if out.stdout(chunk.clone()).await.is_err() {
                return EndStatus::Cancelled;
            }
        }
        EndStatus::Exit(0)
    }
}

#[expect(clippy::unwrap_used, reason = "without a server nothing is measured")]
fn start(folder: &tempfile::TempDir) -> Endpoint {
    let path = folder.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let config = ServerConfig::new("bench", "0", 1);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(serve(
                listener.into(),
                config,
                Chunks,
                CancellationToken::new(),
            ))
    });
    Endpoint::Unix(path)
}

#[expect(clippy::unwrap_used, reason = "a failure must not be measured")]
fn benches(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = start(&folder);
    let config = ClientConfig::new("bench", 1);
    let nothing = Command::new("chunks").with_payload(&0_u32).unwrap();
    let success = Outcome::Finished(EndStatus::Exit(0));

    let mut group = criterion.benchmark_group("command");
    group.bench_function("one write", |bencher| {
        bencher.iter(|| {
            let command = Client::start(&endpoint, config.clone(), &nothing).unwrap();
            assert_eq!(command.finish(|_| {}), success);
        });
    });
    group.bench_function("handshake first", |bencher| {
        bencher.iter(|| {
            let client = Client::connect(&endpoint, config.clone()).unwrap();
            assert_eq!(client.run(&nothing, |_| {}), success);
        });
    });
    group.finish();

    let chunks = 1024_u32;
    let command = Command::new("chunks").with_payload(&chunks).unwrap();
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(
        (chunks as usize * daemon_rpc::DATA_CHUNK) as u64,
    ));
    group.bench_function("64 MiB in chunks of 64 KiB", |bencher| {
        bencher.iter(|| {
            let client = Client::connect(&endpoint, config.clone()).unwrap();
            let mut received = 0;
            let outcome = client.run(&command, |frame| {
                if let OutputChunk::Stdout(bytes) = frame {
                    received += bytes.len();
                }
            });
            assert_eq!(outcome, success);
            assert_eq!(received, chunks as usize * daemon_rpc::DATA_CHUNK);
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
