//! The queue between a command and its client.
//!
//! It is bounded in bytes: a command that produces faster than the client reads
//! waits, and nothing is dropped.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::frame::{DATA_CHUNK, Kind, MAX_EVENT};

/// Bytes of payload that wait for one client.
pub(super) const BUDGET: usize = 4 * DATA_CHUNK;
/// Frames that wait for one client, for those that are nearly empty.
const FRAMES: usize = 1024;

/// Why output was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The client is gone, or the command has ended: there is nobody to tell.
    #[error("the client is gone")]
    Closed,
    /// An event is longer than clients take.
    #[error("the event has {length} bytes, at most {MAX_EVENT} are taken")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> io::Error {
        let kind = match error {
            OutputError::Closed => io::ErrorKind::BrokenPipe,
            OutputError::TooLong { .. } => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}

/// A frame that waits.
pub(super) struct Queued {
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Where a command puts what it produces. Clones share the queue.
#[derive(Clone, Debug)]
pub struct OutputSink {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// Payload per frame.
    chunk: usize,
    /// Held while the parts of an event are sent, so that they stay together.
    event: Arc<Mutex<()>>,
}

/// A queue for frames of at most `max_frame` bytes of type and payload.
pub(super) fn channel(max_frame: u32) -> (OutputSink, mpsc::Receiver<Queued>) {
    let (queue, frames) = mpsc::channel(FRAMES);
    let sink = OutputSink {
        queue,
        room: Arc::new(Semaphore::new(BUDGET)),
        chunk: DATA_CHUNK
            .min((max_frame as usize).saturating_sub(1))
            .max(1),
        event: Arc::new(Mutex::new(())),
    };
    (sink, frames)
}

impl OutputSink {
    /// Sends bytes of standard output; waits if the client is slow.
    ///
    /// # Errors
    /// [`OutputError::Closed`] if nobody is left to read them.
    pub async fn stdout(&self, bytes: impl Into<Bytes>) -> Result<(), OutputError> {
        self.data(Kind::Stdout, bytes.into()).await
    }

    /// Sends bytes of standard error; waits if the client is slow.
    ///
    /// # Errors
    /// [`OutputError::Closed`] if nobody is left to read them.
    pub async fn stderr(&self, bytes: impl Into<Bytes>) -> Result<(), OutputError> {
        self.data(Kind::Stderr, bytes.into()).await
    }

    /// Sends one event, which arrives whole; waits if the client is slow.
    ///
    /// # Errors
    /// [`OutputError::Closed`] if nobody is left to read it, or
    /// [`OutputError::TooLong`] if it has more than 64 MiB.
    pub async fn event(&self, bytes: impl Into<Bytes>) -> Result<(), OutputError> {
        let mut bytes = bytes.into();
        let length = bytes.len();
        if length > MAX_EVENT {
            return Err(OutputError::TooLong { length });
        }
        let _together = self.event.lock().await;
        while bytes.len() > self.chunk {
            let part = bytes.split_to(self.chunk);
            self.send(Kind::EventPart, part).await?;
        }
        self.send(Kind::Event, bytes).await
    }

    async fn data(&self, kind: Kind, mut bytes: Bytes) -> Result<(), OutputError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(self.chunk.min(bytes.len()));
            self.send(kind, part).await?;
        }
        Ok(())
    }

    async fn send(&self, kind: Kind, payload: Bytes) -> Result<(), OutputError> {
        // A chunk is never larger than the budget, so the wait can end.
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let frame = Queued {
            kind,
            payload,
            _room: room.map_err(|_| OutputError::Closed)?,
        };
        self.queue
            .send(frame)
            .await
            .map_err(|_| OutputError::Closed)
    }
}
