//! The pipe on which a daemon tells its starter that it is ready, or why it is not.
//!
//! One byte `+` means ready; any other text, up to the end of the pipe, is the
//! error; an end without either means that the daemon is gone. So nobody waits for
//! a daemon that failed, and nobody polls for one that has not.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::handed;

const READY: &[u8] = b"+";
/// The most that is said about a failure, in bytes; a pipe takes it at once.
const LIMIT: usize = 4096;

/// A second call must not make a second owner of the descriptor.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The daemon's end; `None` inside once it has said something.
#[derive(Debug)]
pub(crate) struct Teller(Option<OwnedFd>);

impl Teller {
    pub(crate) fn inherited() -> Teller {
        Teller(handed::take(handed::READY_VARIABLE, &TAKEN, FileType::Fifo))
    }

    pub(crate) fn ready(&mut self) {
        self.say(READY);
    }

    pub(crate) fn failed(&mut self, error: &str) {
        // A text that begins like the sign of success would be taken for it.
        let text = error.trim_start_matches('+').as_bytes();
        self.say(&text[..text.len().min(LIMIT)]);
    }

    /// Whoever should hear it may be gone, which is no reason to fail.
    fn say(&mut self, text: &[u8]) {
        if let Some(fd) = self.0.take() {
            drop(std::fs::File::from(fd).write_all(text));
        }
    }
}

/// The starter's end.
#[derive(Debug)]
pub(crate) struct Hearer(OwnedFd);

/// What the starter heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ready,
    /// It says why not.
    Failed(String),
    /// It ended, or closed the pipe, without a word.
    Nothing,
    /// Neither, until the deadline.
    Silence,
}

/// Both ends: one to keep, one to give away.
pub(crate) fn pipe() -> io::Result<(Hearer, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Hearer(read), write))
}

impl Hearer {
    pub(crate) fn hear(self, deadline: Instant) -> io::Result<Heard> {
        let mut file = std::fs::File::from(self.0);
        let mut text = Vec::new();
        let mut buffer = [0; LIMIT];
        loop {
            if !readable(&file, deadline)? {
                return Ok(Heard::Silence);
            }
            let count = file.read(&mut buffer)?;
            text.extend_from_slice(&buffer[..count]);
            if text.starts_with(READY) {
                return Ok(Heard::Ready);
            }
            if count == 0 || text.len() > LIMIT {
                break;
            }
        }
        if text.is_empty() {
            return Ok(Heard::Nothing);
        }
        Ok(Heard::Failed(String::from_utf8_lossy(&text).into_owned()))
    }
}

fn readable(fd: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn heard(say: impl FnOnce(&mut Teller)) -> Heard {
        let (hearer, write) = pipe().unwrap();
        let mut teller = Teller(Some(write));
        say(&mut teller);
        drop(teller);
        hearer
            .hear(Instant::now() + Duration::from_secs(60))
            .unwrap()
    }

    #[test]
    fn what_is_said_is_heard() {
        assert_eq!(heard(Teller::ready), Heard::Ready);
        assert_eq!(heard(|_| {}), Heard::Nothing);
        assert_eq!(
            heard(|t| t.failed("no disk")),
            Heard::Failed("no disk".into())
        );
        let both = heard(|t| {
            t.failed("+no disk");
            t.ready();
        });
        assert_eq!(both, Heard::Failed("no disk".into()));
        let long = heard(|t| t.failed(&"x".repeat(100_000)));
        assert_eq!(long, Heard::Failed("x".repeat(LIMIT)));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (hearer, _write) = pipe().unwrap();
        assert_eq!(hearer.hear(Instant::now()).unwrap(), Heard::Silence);
    }
}
