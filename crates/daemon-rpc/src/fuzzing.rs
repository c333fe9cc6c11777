//! Entry points for fuzzers and for the test that replays their corpus. Each takes
//! any bytes and panics where something does not hold.

#![expect(
    clippy::unwrap_used,
    reason = "a fuzzer finds what does not hold by panics"
)]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, ClientConfig, Outcome, OutputChunk, Stream};
use crate::command::{Command, Head, WindowSize};
use crate::frame::{Decoder, HANDSHAKE_LIMIT, HEADER, Kind, put};
use crate::message::{Ask, End, EndStatus, Hello, HelloAck, Refusal, Status, decode, encode};
use crate::server::{CommandHandler, IncomingCommand, OutputSink, ServerConfig, serve_connection};

/// What fits into a socket without anybody who reads.
const MAX_INPUT: usize = 64 << 10;

/// Cuts bytes into frames, in one piece and byte by byte, and reads each as every
/// message there is. Says whether there was a frame.
pub fn frames(data: &[u8]) -> bool {
    let whole = cut([data].into_iter());
    let single = cut(data.chunks(1));
    assert_eq!(whole, single, "frames depend on how the bytes arrive");
    for (kind, payload) in &whole.0 {
        let mut again = Vec::new();
        put(&mut again, *kind, payload);
        assert!(again.len() < HANDSHAKE_LIMIT as usize + HEADER);
        messages(payload);
    }
    messages(data);
    !whole.0.is_empty()
}

/// The frames, and whether they end with an error.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(Kind, Bytes)>, bool) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.buffer.extend_from_slice(piece);
        loop {
            match decoder.next(HANDSHAKE_LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

fn messages(data: &[u8]) {
    if let Some(hello) = Hello::decode(data) {
        assert!(Hello::decode(&hello.encode()).unwrap() == hello);
    }
    if let Some((ask, token)) = Ask::decode(data) {
        assert_eq!(Ask::decode(&ask.encode(token)), Some((ask, token)));
    }
    if let Some(refusal) = Refusal::decode(data) {
        assert_eq!(Refusal::decode(&refusal.encode()), Some(refusal));
    }
    if let Some((head, payload)) = Head::decode(Bytes::copy_from_slice(data)) {
        assert!(data.ends_with(&payload));
        again(&head);
    }
    again_from::<HelloAck>(data);
    again_from::<End>(data);
    again_from::<Status>(data);
    again_from::<WindowSize>(data);
}

fn again_from<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(data: &[u8]) {
    if let Some(message) = decode::<T>(data) {
        again(&message);
    }
}

fn again<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(message: &T) {
    assert_eq!(decode::<T>(&encode(message)).as_ref(), Some(message));
}

/// Repeats its input, and notes that it ran.
struct Noting(Arc<AtomicBool>);

impl CommandHandler for Noting {
    type Payload = u32;

    async fn handle(
        &self,
        mut command: IncomingCommand<u32>,
        out: OutputSink,
        _cancel: CancellationToken,
    ) -> EndStatus {
        self.0.store(true, Ordering::SeqCst);
        while let Ok(Some(bytes)) = command.stdin.next().await {
            if out.stdout(bytes).await.is_err() {
                return EndStatus::Cancelled;
            }
        }
        EndStatus::Exit(0)
    }
}

/// A client that says exactly this and leaves when it has an answer: the server says
/// only what makes sense, and nothing runs that was not accepted. Says whether
/// something ran.
pub fn server(data: &[u8]) -> bool {
    let data = &data[..data.len().min(MAX_INPUT)];
    let (ours, theirs) = UnixStream::pair().unwrap();
    (&ours).write_all(data).unwrap();
    let mut config = ServerConfig::new("fuzz", "0.1.0", 1);
    config.grace = Duration::ZERO;
    config.max_command = 4096;
    // All that comes is there already.
    config.handshake_timeout = Duration::from_millis(1);
    config.command_timeout = Duration::from_millis(1);
    let ran = Arc::new(AtomicBool::new(false));
    let handler = Noting(Arc::clone(&ran));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let said = runtime.block_on(async {
        let serve = serve_connection(theirs, config, handler, CancellationToken::new());
        let (served, said) = tokio::join!(serve, listen(ours));
        served.unwrap();
        said
    });
    let (frames, is_broken) = cut([&said[..]].into_iter());
    assert!(!is_broken, "the server does not keep to its own frames");
    let said_that = |wanted| frames.iter().any(|(kind, _)| *kind == wanted);
    let ran = ran.load(Ordering::SeqCst);
    assert!(!ran || said_that(Kind::Accepted));
    assert!(!said_that(Kind::Accepted) || said_that(Kind::HelloAck));
    ran
}

/// All that the server says. It hears that this client leaves when it has decided
/// what to do with it.
async fn listen(ours: UnixStream) -> Vec<u8> {
    ours.set_nonblocking(true).unwrap();
    let mut ours = tokio::net::UnixStream::from_std(ours).unwrap();
    let mut said = Vec::new();
    // What was not read of ours resets the connection.
    while let Ok(1..) = ours.read_buf(&mut said).await {
        let (frames, _) = cut([&said[..]].into_iter());
        let decided = [Kind::Accepted, Kind::Refused, Kind::Status];
        if frames.iter().any(|(kind, _)| decided.contains(kind)) {
            let _gone = ours.shutdown().await;
        }
    }
    said
}

/// A server that says exactly this and leaves: only a complete stream is a success.
/// Says whether it was one.
pub fn client(data: &[u8]) -> bool {
    let data = &data[..data.len().min(MAX_INPUT)];
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(data).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let mut config = ClientConfig::new("fuzz", 1);
    // Nobody is waited for: all that comes is there already.
    config.handshake_timeout = Duration::from_secs(10);
    let Ok(client) = Client::over(Stream::Unix(ours), &config) else {
        return false;
    };
    let (mut stdout, mut stderr, mut events) = (0, 0, 0);
    let outcome = client.run(&Command::new("anything"), |chunk| match chunk {
        OutputChunk::Stdout(bytes) => stdout += bytes.len() as u64,
        OutputChunk::Stderr(bytes) => stderr += bytes.len() as u64,
        OutputChunk::Event(bytes) => events += bytes.len() as u64,
    });
    let is_success = matches!(outcome, Outcome::Finished(_));
    assert!(
        !is_success || has_end(data, stdout, stderr, events),
        "a success without its End"
    );
    is_success
}

/// Whether there is an End with these counts.
fn has_end(data: &[u8], stdout: u64, stderr: u64, events: u64) -> bool {
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(data);
    while let Ok(Some((kind, payload))) = decoder.next(crate::frame::DEFAULT_MAX_FRAME) {
        let counts = decode::<End>(&payload).map(|end| end.counts);
        if kind == Kind::End
            && counts.is_some_and(|c| (c.stdout, c.stderr, c.events) == (stdout, stderr, events))
        {
            return true;
        }
    }
    false
}
