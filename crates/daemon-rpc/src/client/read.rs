//! Reading frames from a blocking stream, without a copy per frame.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::stream::Stream;
use crate::frame::{DATA_CHUNK, FrameError, HEADER, Header, Kind};
use crate::spin::Spin;

/// The buffer at first: enough for a handshake.
const SMALL: usize = 4 << 10;
/// The buffer while output streams in: a chunk and the begin of the next.
const LARGE: usize = DATA_CHUNK + (16 << 10);

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection ended, or broke. `clean`: between two frames.
    Closed {
        clean: bool,
    },
    /// The same in the middle of a frame of a known type: whoever that was speaks
    /// this protocol, and is gone.
    Cut,
    /// The deadline is over.
    TimedOut,
    /// What came is no frame.
    Frame(FrameError),
    Io(io::Error),
}

/// A frame in the buffer of its reader.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: Kind,
    payload: Range<usize>,
}

#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: Vec<u8>,
    /// What is in the buffer and not yet handed out.
    filled: Range<usize>,
}

impl FrameReader {
    pub(super) fn new() -> FrameReader {
        FrameReader {
            buffer: vec![0; SMALL],
            filled: 0..0,
        }
    }

    /// Makes room for streaming.
    pub(super) fn grow(&mut self) {
        self.buffer.resize(LARGE.max(self.buffer.len()), 0);
    }

    /// Whether not a single byte has arrived that was not handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    pub(super) fn payload(&self, frame: &Received) -> &[u8] {
        &self.buffer[frame.payload.clone()]
    }

    /// The next frame of a known type; it stays in the buffer until the next call.
    pub(super) fn next(
        &mut self,
        stream: &Stream,
        limit: u32,
        deadline: Option<Instant>,
    ) -> Result<Received, ReadError> {
        loop {
            self.fill(stream, HEADER, deadline)?;
            let mut header = [0; HEADER];
            let start = self.filled.start;
            header.copy_from_slice(&self.buffer[start..start + HEADER]);
            let header = Header::parse(header, limit).map_err(ReadError::Frame)?;
            self.fill(stream, HEADER + header.payload, deadline)
                .map_err(|error| match error {
                    ReadError::Closed { .. } if header.kind.is_some() => ReadError::Cut,
                    error => error,
                })?;
            // Filling may have moved it.
            let start = self.filled.start + HEADER;
            let payload = start..start + header.payload;
            self.filled.start = payload.end;
            if let Some(kind) = header.kind {
                return Ok(Received { kind, payload });
            }
        }
    }

    /// Reads until `wanted` bytes are there.
    fn fill(
        &mut self,
        stream: &Stream,
        wanted: usize,
        deadline: Option<Instant>,
    ) -> Result<(), ReadError> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        if self.filled.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            if wanted > self.buffer.len() {
                self.buffer.resize(wanted, 0);
            }
        }
        while self.filled.len() < wanted {
            match read(stream, &mut self.buffer[self.filled.end..], deadline) {
                Ok(0) => {
                    return Err(ReadError::Closed {
                        clean: self.is_empty(),
                    });
                }
                Ok(n) => self.filled.end += n,
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> ReadError {
        // The first is what `read` says at the deadline.
        match error.kind() {
            io::ErrorKind::TimedOut => ReadError::TimedOut,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => ReadError::Closed {
                clean: self.is_empty(),
            },
            _ => ReadError::Io(error),
        }
    }
}

/// Reads what arrives until the deadline.
fn read(stream: &Stream, into: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
    let mut spin = *lately();
    let found = spin.find(|| stream.try_read(into).transpose());
    let read = found.unwrap_or_else(|| {
        spin.wait(|| match deadline {
            Some(deadline) if !stream.is_readable_by(deadline)? => {
                Err(io::ErrorKind::TimedOut.into())
            }
            _ => stream.read(into),
        })
    });
    *lately() = spin;
    read
}

/// Whether the answers that this process waited for lately came quickly, over whatever
/// connection.
fn lately() -> MutexGuard<'static, Spin> {
    static LATELY: Mutex<Spin> = Mutex::new(Spin::new());
    LATELY.lock().unwrap_or_else(PoisonError::into_inner)
}
