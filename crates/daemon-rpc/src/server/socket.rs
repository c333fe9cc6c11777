//! One connection, TCP or Unix, read and written at the same time.
//!
//! What is read goes through a buffer of the thread, so that a connection has memory
//! for what has arrived and no more.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::executor::yield_now;
use super::reactor::{Direction, Watched};
use crate::failpoint;
use crate::frame::{Decoder, FrameError, Kind};

/// Bytes that are read at a time.
const READ: usize = 16 << 10;
/// Frames of one client before others have their turn.
const FRAMES: u32 = 64;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// What kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Tcp,
    Unix,
}

pub(super) struct Socket {
    family: Family,
    stream: Watched<OwnedFd>,
}

impl Socket {
    pub(super) fn new(family: Family, stream: Watched<OwnedFd>) -> Socket {
        Socket { family, stream }
    }

    /// Waits for data and reads it; 0 is the end.
    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| {
            self.stream.poll(context, Direction::Read, |stream| {
                let length = read(stream, buffer)?;
                Ok((length, length < READ))
            })
        })
        .await
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        read(self.stream.get(), buffer)
    }

    /// Writes all. `step` names what is written, for tests.
    pub(super) async fn write_all(&self, bytes: &[u8], step: &str) -> io::Result<()> {
        for part in failpoint::halves(step, bytes) {
            self.write_part(part).await?;
            failpoint::hit(step);
        }
        Ok(())
    }

    async fn write_part(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|context| {
            while !bytes.is_empty() {
                let written = self.stream.poll(context, Direction::Write, |stream| {
                    let written = send(stream, bytes, SendFlags::NOSIGNAL)?;
                    Ok((written, written < bytes.len()))
                });
                match written? {
                    Poll::Ready(written) => bytes = &bytes[written..],
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Whether what was sent can be lost if the client sends something that is not
    /// read. On a Unix socket it stays with the client.
    pub(super) fn is_fragile(&self) -> bool {
        self.family == Family::Tcp
    }

    /// Tells the client that nothing more comes.
    pub(super) fn finish_writing(&self) {
        // The client may be gone already.
        let _gone = shutdown(self, Shutdown::Write);
    }

    /// The user and the process at the other end, if the socket tells.
    pub(super) fn peer(&self) -> io::Result<Option<(u32, Option<u32>)>> {
        match self.family {
            Family::Tcp => Ok(None),
            Family::Unix => {
                let peer = sockopt::socket_peercred(self.stream.get())?;
                let pid = peer.pid.as_raw_nonzero().get();
                Ok(Some((peer.uid.as_raw(), u32::try_from(pid).ok())))
            }
        }
    }
}

fn read(stream: &OwnedFd, into: &mut BytesMut) -> io::Result<usize> {
    BUFFER.with_borrow_mut(|buffer| {
        let (length, _) = recv(stream, &mut buffer[..], RecvFlags::empty())?;
        into.extend_from_slice(&buffer[..length]);
        Ok(length)
    })
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get().as_fd()
    }
}

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone.
    Gone,
    /// What came is no frame.
    Frame(FrameError),
}

/// The frames that a client sends.
pub(super) struct Frames<'a> {
    socket: &'a Socket,
    decoder: Decoder,
    /// Since others had their turn.
    count: u32,
}

impl<'a> Frames<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Frames {
            socket,
            decoder: Decoder::default(),
            count: 0,
        }
    }

    /// The next frame. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, limit: u32) -> Result<(Kind, Bytes), Broken> {
        self.count += 1;
        if self.count >= FRAMES {
            self.count = 0;
            yield_now().await;
        }
        loop {
            if let Some(frame) = self.decoder.next(limit).map_err(Broken::Frame)? {
                return Ok(frame);
            }
            if self.decoder.buffer.is_empty() {
                // Whoever is silent for hours keeps no memory meanwhile.
                self.decoder.buffer = BytesMut::new();
            }
            match self.socket.read(&mut self.decoder.buffer).await {
                Ok(1..) => {}
                // A connection that breaks says no more than one that ends.
                Ok(0) | Err(_) => return Err(Broken::Gone),
            }
        }
    }

    /// Whether the next frame has arrived already.
    pub(super) fn has_next(&self) -> bool {
        self.decoder.has_frame()
    }

    /// Whether the client is known to be gone, without waiting.
    pub(super) fn is_gone(&mut self) -> bool {
        match self.socket.try_read(&mut self.decoder.buffer) {
            Ok(n) => n == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Reads and forgets until the client closes.
    pub(super) async fn discard(&mut self) {
        loop {
            self.decoder.buffer.clear();
            if !matches!(self.socket.read(&mut self.decoder.buffer).await, Ok(1..)) {
                return;
            }
        }
    }
}
