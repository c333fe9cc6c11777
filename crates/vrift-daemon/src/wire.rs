//! Lines of JSON over a Unix socket, with descriptors beside them.
//!
//! A message is one line; its descriptors travel with its first bytes and are taken in the order of the messages that announce them.
//! Knows nothing of JSON.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage,
};

use crate::platform;

/// Bytes of a line, its end included.
pub const MAX_LINE: usize = 1 << 20;
/// Descriptors of a message.
pub const MAX_FDS: usize = 64;
/// How long to wait until others have received enough of the descriptors that programs of the same user have sent.
const CROWDED: Duration = Duration::from_secs(60);
/// How often to try meanwhile.
const AGAIN: Duration = Duration::from_millis(1);
/// Descriptors that wait for the messages that announce them.
const MAX_WAITING: usize = 4 * MAX_FDS;

/// A connection, cut into lines.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// How much of the buffer has been looked at for the end of a line.
    searched: usize,
    fds: VecDeque<OwnedFd>,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Channel {
        Channel {
            stream,
            buffer: Vec::new(),
            searched: 0,
            fds: VecDeque::new(),
        }
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The next line without its end; `None` when the other side has closed.
    ///
    /// A line that is too long is an error of kind `FileTooLarge`, one that is cut `UnexpectedEof`.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let found = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = found {
                let end = self.searched + end;
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= MAX_LINE {
                return Err(ErrorKind::FileTooLarge.into());
            }
            if self.fill()? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_WAITING))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut chunk)];
            match rustix::net::recvmsg(&self.stream, &mut slices, &mut control, platform::RECEIVE) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(platform::receive_fds(fds));
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || self.fds.len() > MAX_WAITING {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "more descriptors than a message may have",
            ));
        }
        self.buffer.extend_from_slice(&chunk[..received.bytes]);
        Ok(received.bytes)
    }

    /// The next descriptors, in the order in which they came; fewer when there are not so many.
    pub(crate) fn take_fds(&mut self, count: usize) -> Vec<OwnedFd> {
        let count = count.min(self.fds.len());
        self.fds.drain(..count).collect()
    }

    /// Closes descriptors that no message announced, if nothing that was sent is left unread.
    pub(crate) fn drop_unannounced(&mut self) {
        if self.buffer.is_empty() {
            self.fds.clear();
        }
    }

    /// Sends a line, whole, with descriptors.
    pub(crate) fn send(&self, line: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = [line, b"\n"].concat();
        let mut fds = fds;
        while !line.is_empty() {
            let sent = self.send_some(&line, fds)?;
            line.drain(..sent);
            fds = &[];
        }
        Ok(())
    }

    fn send_some(&self, line: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "more descriptors than a message may have",
            ));
        }
        let began = Instant::now();
        loop {
            let slices = [IoSlice::new(line)];
            let flags = platform::send_flags(&self.stream);
            match rustix::net::sendmsg(&self.stream, &slices, &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::TOOMANYREFS) if began.elapsed() < CROWDED => {
                    // Nothing tells when others have received theirs.
                    std::thread::sleep(AGAIN);
                }
                Err(Errno::TOOMANYREFS) => {
                    return Err(io::Error::other(
                        "programs of this user have sent more descriptors that nobody has received than its limit of open files (`ulimit -n`)",
                    ));
                }
                result => return Ok(result?),
            }
        }
    }

    /// Whether the other side is gone; nothing is read.
    pub(crate) fn is_gone(&self) -> bool {
        use rustix::event::{PollFd, Timespec, poll};
        let fd = self.stream.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(fd, platform::GONE)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(platform::GONE)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn lines_and_their_descriptors_arrive_in_order() {
        let (one, mut other) = pair();
        let file = tempfile::tempfile().unwrap();
        one.send(b"first", &[]).unwrap();
        one.send(b"second", &[file.as_fd(), file.as_fd()]).unwrap();
        one.send(b"third", &[file.as_fd()]).unwrap();
        assert_eq!(other.receive().unwrap().as_deref(), Some(&b"first"[..]));
        assert_eq!(other.receive().unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(other.take_fds(2).len(), 2);
        assert_eq!(other.receive().unwrap().as_deref(), Some(&b"third"[..]));
        assert_eq!(other.take_fds(2).len(), 1);
        drop(one);
        assert!(other.is_gone());
        assert_eq!(other.receive().unwrap(), None);
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let (one, mut other) = pair();
        let writer = std::thread::spawn(move || {
            let block = [b'x'; 4096];
            while (&one.stream).write_all(&block).is_ok() {}
        });
        let error = other.receive().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(other.buffer.len() <= MAX_LINE + (16 << 10));
        drop(other);
        writer.join().unwrap();
    }

    #[test]
    fn a_line_that_is_cut_is_no_line() {
        let (one, mut other) = pair();
        (&one.stream).write_all(b"{\"half").unwrap();
        drop(one);
        assert_eq!(
            other.receive().unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
