//! Counters in the text format of Prometheus, over HTTP/1.0 on a Unix socket that only the daemon's user can reach.
//!
//! Off unless the administrator names a socket.
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Who asks for metrics and says nothing is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happened since the daemon started.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) collected: AtomicU64,
    pub(crate) damaged: AtomicU64,
}

impl Metrics {
    /// Adds to a counter.
    pub(crate) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// All counters as text.
    pub(crate) fn text(&self) -> String {
        let list = [
            (
                "connections",
                "Connections that were admitted",
                &self.connections,
            ),
            (
                "connections_refused",
                "Connections that were refused",
                &self.refused,
            ),
            (
                "requests",
                "Requests, those of batches each",
                &self.requests,
            ),
            (
                "request_errors",
                "Requests that were answered by an error",
                &self.faults,
            ),
            ("files", "Files that callers stored", &self.files),
            ("file_bytes", "Bytes of those files", &self.bytes),
            (
                "blobs_collected",
                "Blobs that collections removed",
                &self.collected,
            ),
            (
                "blobs_damaged",
                "Files that verification moved to quarantine",
                &self.damaged,
            ),
        ];
        let mut text = String::new();
        for (name, help, counter) in list {
            let value = counter.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ok = write!(
                text,
                "# HELP vrift_{name}_total {help}.\n# TYPE vrift_{name}_total counter\nvrift_{name}_total {value}\n"
            );
        }
        text
    }
}

/// Answers whoever connects, one after another, as long as the process lives.
pub(crate) fn serve(listener: UnixListener, metrics: Arc<Metrics>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .stack_size(128 << 10)
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // A scraper that goes away is asked again by nobody.
                let _gone = answer(stream, &metrics);
            }
        })
        .map(drop)
}

fn answer(mut stream: UnixStream, metrics: &Metrics) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 4096];
    let mut length = 0;
    while length < request.len() && !request[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut request[length..])? {
            0 => break,
            read => length += read,
        }
    }
    let text = metrics.text();
    let head = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}
