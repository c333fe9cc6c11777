//! One connection, TCP or Unix, read and written at the same time.
//!
//! Memory for reading is taken when there is something to read, so that an idle
//! connection costs next to nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Bytes, BytesMut};
use rustix::net::{Shutdown, shutdown};
use tokio::net::{TcpStream, UnixStream};

use crate::failpoint;
use crate::frame::{Decoder, FrameError, Kind};

/// Bytes to make room for when there is something to read.
const READ: usize = 16 << 10;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Waits for data and reads it; 0 is the end.
    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self {
                Socket::Tcp(stream) => stream.readable().await?,
                Socket::Unix(stream) => stream.readable().await?,
            }
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if buffer.is_empty() {
                        *buffer = BytesMut::new();
                    }
                }
                result => return result,
            }
        }
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        buffer.reserve(READ);
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(buffer),
            Socket::Unix(stream) => stream.try_read_buf(buffer),
        }
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
        while !bytes.is_empty() {
            let written = match self {
                Socket::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Socket::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the client that nothing more comes.
    pub(super) fn finish_writing(&self) {
        // The client may be gone already.
        let _gone = shutdown(self, Shutdown::Write);
    }

    /// The user and the process at the other end, if the socket tells.
    pub(super) fn peer(&self) -> io::Result<Option<(u32, Option<u32>)>> {
        match self {
            Socket::Tcp(_) => Ok(None),
            Socket::Unix(stream) => {
                let peer = stream.peer_cred()?;
                let pid = peer.pid().map(i32::cast_unsigned);
                Ok(Some((peer.uid(), pid)))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
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
}

impl<'a> Frames<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Frames {
            socket,
            decoder: Decoder::default(),
        }
    }

    /// The next frame. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, limit: u32) -> Result<(Kind, Bytes), Broken> {
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
