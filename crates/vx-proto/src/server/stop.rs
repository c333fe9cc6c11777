//! When a service ends: its owner is gone, or somebody asked for it.

use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeError;

/// Why a service ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was asked to, by whoever called it.
    Requested,
    /// SIGTERM or SIGINT.
    Signal,
    /// The process that holds the other end of our lifeline ended, however it
    /// did.
    OwnerGone,
}

/// The signals and the lifeline of this process.
pub(super) struct Watch {
    terminate: Signal,
    interrupt: Signal,
    lifeline: Option<pipe::Receiver>,
}

impl Watch {
    pub(super) fn of_process() -> Result<Watch, ServeError> {
        Watch::new(daemon_lifecycle::lifeline())
    }

    fn new(lifeline: Option<OwnedFd>) -> Result<Watch, ServeError> {
        Ok(Watch {
            terminate: signal(SignalKind::terminate()).map_err(ServeError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(ServeError::Signals)?,
            lifeline: lifeline
                .map(pipe::Receiver::from_owned_fd)
                .transpose()
                .map_err(ServeError::Lifeline)?,
        })
    }

    pub(super) async fn wait(mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Signal,
            _ = self.interrupt.recv() => Stop::Signal,
            () = end_of(self.lifeline) => Stop::OwnerGone,
        }
    }
}

/// Waits for the end of the pipe, for ever when there is none. Nothing is ever
/// written to it.
async fn end_of(lifeline: Option<pipe::Receiver>) {
    let Some(mut pipe) = lifeline else {
        return std::future::pending().await;
    };
    let mut byte = [0];
    while let Ok(1..) = pipe.read(&mut byte).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_lifeline_ends_the_service() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let watch = Watch::new(Some(ours)).unwrap();
        let waiting = tokio::spawn(watch.wait());
        assert!(!waiting.is_finished());
        drop(theirs);
        assert_eq!(waiting.await.unwrap(), Stop::OwnerGone);
    }
}
