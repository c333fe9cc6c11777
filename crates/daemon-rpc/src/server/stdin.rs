//! The input of a command: what its client sends, as fast as the command reads.
//!
//! Nothing is asked of the client before the command reads for the first time, so
//! a command that does not read leaves what was typed to the next program. Then
//! the client may send as much as the window; what was read is granted again.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

use crate::message::StdinEnd;

/// Bytes that wait for a command at most.
const WINDOW: usize = 256 << 10;

/// Why there is no more input, although there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StdinError {
    /// The client is gone, and it is unknown what else it had to say.
    #[error("the client went away before the end of its input")]
    ClientGone,
    /// The client could not read the rest of its input.
    #[error("the client could not read the rest of its input")]
    Broken,
}

impl From<StdinError> for io::Error {
    fn from(error: StdinError) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, error)
    }
}

#[derive(Debug, Default)]
struct State {
    data: BytesMut,
    end: Option<Result<(), StdinError>>,
    is_open: bool,
    /// What the client may still send.
    granted: usize,
    /// What may be granted in addition.
    due: usize,
    reader: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    due: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The input of a command, to be read by its handler.
///
/// Also an [`AsyncRead`], e.g. for `tokio::io::BufReader`. An input that breaks off
/// is an error and never looks like one that ended.
#[derive(Debug)]
pub struct StdinSource(Arc<Shared>);

/// The side of the connection.
#[derive(Clone, Debug)]
pub(super) struct StdinFeed(Arc<Shared>);

/// An input; one that the client does not have is at its end.
pub(super) fn channel(has_stdin: bool) -> (StdinFeed, StdinSource) {
    let shared = Arc::new(Shared::default());
    if !has_stdin {
        shared.state().end = Some(Ok(()));
    }
    (StdinFeed(Arc::clone(&shared)), StdinSource(shared))
}

impl StdinSource {
    /// The next bytes; `None` when the input has ended. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// If the input breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StdinError> {
        poll_fn(|context| {
            self.poll_with(context, |data| {
                let bytes = data.split().freeze();
                (bytes.len(), bytes)
            })
        })
        .await
    }

    /// Takes from the data, with how much it took, as soon as there are some.
    fn poll_with<T>(
        &self,
        context: &mut Context<'_>,
        take_from: impl FnOnce(&mut BytesMut) -> (usize, T),
    ) -> Poll<Result<Option<T>, StdinError>> {
        let mut state = self.0.state();
        if !state.data.is_empty() {
            let (taken, value) = take_from(&mut state.data);
            state.due += taken;
            if state.due >= WINDOW / 2 {
                self.0.due.notify_one();
            }
            return Poll::Ready(Ok(Some(value)));
        }
        if let Some(end) = state.end {
            return Poll::Ready(end.map(|()| None));
        }
        if !state.is_open {
            state.is_open = true;
            state.due = WINDOW;
            self.0.due.notify_one();
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for StdinSource {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = self.poll_with(context, |data| {
            let length = data.len().min(buffer.remaining());
            buffer.put_slice(&data[..length]);
            data.advance(length);
            (length, ())
        });
        read.map(|read| read.map(drop).map_err(io::Error::from))
    }
}

impl StdinFeed {
    /// Takes bytes of the client; `false` if it sent more than it was granted, or
    /// after the end.
    #[must_use]
    pub(super) fn bytes(&self, bytes: &[u8]) -> bool {
        let mut state = self.0.state();
        if bytes.len() > state.granted || state.end.is_some() {
            return false;
        }
        state.granted -= bytes.len();
        state.data.extend_from_slice(bytes);
        wake(state);
        true
    }

    /// Takes the end of the input; `false` if there was one already.
    #[must_use]
    pub(super) fn end(&self, end: StdinEnd) -> bool {
        self.finish(match end {
            StdinEnd::Complete => Ok(()),
            StdinEnd::Broken => Err(StdinError::Broken),
        })
    }

    /// The client is gone.
    pub(super) fn gone(&self) {
        let _was_open = self.finish(Err(StdinError::ClientGone));
    }

    fn finish(&self, end: Result<(), StdinError>) -> bool {
        let mut state = self.0.state();
        if state.end.is_some() {
            return false;
        }
        state.end = Some(end);
        wake(state);
        true
    }

    /// Waits until it is worth while to grant more, and does. Dropping the future
    /// loses nothing.
    pub(super) async fn credit(&self) -> u32 {
        loop {
            {
                let mut state = self.0.state();
                if state.due >= WINDOW / 2 && state.end.is_none() {
                    let due = std::mem::take(&mut state.due);
                    state.granted += due;
                    return u32::try_from(due).unwrap_or(u32::MAX);
                }
            }
            self.0.due.notified().await;
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::AsyncReadExt;

    use super::*;

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn nothing_is_asked_for_before_it_is_read_and_no_more_than_the_window_waits() {
        let (feed, mut source) = channel(true);
        assert!(poll(feed.credit()).is_pending());
        assert!(!feed.bytes(b"x"), "sent without being asked");
        assert!(poll(source.next()).is_pending());
        assert_eq!(poll(feed.credit()), Poll::Ready(WINDOW as u32));
        assert!(poll(feed.credit()).is_pending());
        assert!(feed.bytes(&vec![b'x'; WINDOW]));
        assert!(!feed.bytes(b"x"), "sent more than granted");
        // Small reads are granted together.
        let mut some = vec![0; WINDOW / 2 - 1];
        assert!(poll(source.read_exact(&mut some)).is_ready());
        assert!(poll(feed.credit()).is_pending());
        assert!(poll(source.read_u8()).is_ready());
        assert_eq!(poll(feed.credit()), Poll::Ready(WINDOW as u32 / 2));
    }

    #[test]
    fn the_end_comes_after_the_data_and_breaking_off_is_no_end() {
        for (end, seen) in [
            (StdinEnd::Complete, Ok(None)),
            (StdinEnd::Broken, Err(StdinError::Broken)),
        ] {
            let (feed, mut source) = channel(true);
            assert!(poll(source.next()).is_pending());
            assert!(poll(feed.credit()).is_ready());
            assert!(feed.bytes(b"last"));
            assert!(feed.end(end));
            assert!(!feed.end(StdinEnd::Complete));
            assert!(!feed.bytes(b"x"));
            feed.gone();
            assert_eq!(
                poll(source.next()),
                Poll::Ready(Ok(Some(Bytes::from_static(b"last"))))
            );
            assert_eq!(poll(source.next()), Poll::Ready(seen.clone()));
            assert_eq!(poll(source.next()), Poll::Ready(seen));
        }
        let (feed, mut source) = channel(true);
        feed.gone();
        assert_eq!(
            poll(source.next()),
            Poll::Ready(Err(StdinError::ClientGone))
        );
        let (_feed, mut source) = channel(false);
        assert_eq!(poll(source.next()), Poll::Ready(Ok(None)));
    }
}
