//! Ending a command from another thread, e.g. the one that receives signals.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stream::Stream;
use crate::command::WindowSize;
use crate::frame::{Kind, put};
use crate::message::{CancelMode, encode};

/// How far the client's own side of the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// No command yet.
    Nothing,
    /// No command, and none must be sent any more.
    Forbidden,
    /// The whole command.
    Command,
}

/// What the client and its cancellers share: the socket, and the right to write.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stream: Stream,
    /// Held while writing, so that frames do not mix.
    sent: Mutex<Sent>,
    abandoned: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub(super) fn new(stream: Stream) -> Shared {
        Shared {
            stream,
            sent: Mutex::new(Sent::Nothing),
            abandoned: false.into(),
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the command, unless it was cancelled before; says whether it did.
    pub(super) fn send_command(&self, bytes: &[u8]) -> io::Result<bool> {
        let mut sent = self.sent();
        if *sent == Sent::Forbidden {
            return Ok(false);
        }
        *sent = Sent::Command;
        self.stream.write_all(bytes, "client-inside-command")?;
        Ok(true)
    }

    /// Writes a frame that belongs to the command; without a command, or when it
    /// was not to be sent, there is nobody to tell.
    pub(super) fn send(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 8);
        put(&mut frame, kind, payload);
        self.send_frame(&frame)
    }

    /// The same with a frame as it is.
    pub(super) fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        let sent = self.sent();
        if *sent != Sent::Command {
            return Ok(());
        }
        self.stream.write_all(frame, "client-inside-input")
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// Ends the command of its client. Cloned freely, used from any thread.
#[derive(Clone, Debug)]
pub struct Canceller(pub(super) Arc<Shared>);

impl Canceller {
    /// Asks the server to end the command. The client goes on reading: the End
    /// still comes, and says [`EndStatus::Cancelled`](crate::EndStatus::Cancelled)
    /// if the command took notice.
    ///
    /// This may wait as long as a write of input takes, which is for ever if the
    /// server was stopped; [`Canceller::abandon`] never waits.
    ///
    /// Before the command is sent this keeps it from being sent. When the
    /// connection is gone this does nothing.
    pub fn cancel(&self, mode: CancelMode) {
        let mut sent = self.0.sent();
        if *sent == Sent::Nothing {
            *sent = Sent::Forbidden;
        }
        drop(sent);
        // Whoever reads learns that the connection is gone.
        let _gone = self.0.send(Kind::Cancel, &[mode.byte()]);
    }

    /// Ends the connection: the client stops reading at once, and the server
    /// cancels the command as it does when a client dies.
    pub fn abandon(&self) {
        self.0
            .abandoned
            .store(true, std::sync::atomic::Ordering::SeqCst);
        self.0.stream.shutdown();
    }
}

/// Tells the command of its client about the window. Cloned freely, used from any
/// thread.
#[derive(Clone, Debug)]
pub struct Window(pub(super) Arc<Shared>);

impl Window {
    /// Tells the command the new size. Before the command is sent and after its end
    /// this does nothing: the command itself carries the first size.
    pub fn resized(&self, size: WindowSize) {
        // Whoever reads learns that the connection is gone.
        let _gone = self.0.send(Kind::Resize, &encode(&size));
    }
}
