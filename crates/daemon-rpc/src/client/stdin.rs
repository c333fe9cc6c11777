//! The client's input, sent as far as the server grants.
//!
//! Nothing is read before the command wants it, so that a command which does not
//! read leaves what was typed to the next program. An open file, pipe or terminal is
//! read by the thread that reads the answers, whenever one of both has something;
//! everything else on a thread of its own, since it cannot be asked.

use std::io::{self, IoSliceMut, Read};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::cancel::Shared;
use crate::frame::{DATA_CHUNK, HEADER, Header, Kind};
use crate::message::StdinEnd;
use crate::spin::Spin;

/// Frames of a server that says much, before the input has its turn.
const FRAMES: u32 = 16;

/// The input of a command.
pub enum Input {
    /// A file, pipe, socket or terminal. It is read when it has something to read.
    File(OwnedFd),
    /// Anything else. It is read on a thread of its own, and a read that waits for a
    /// person is left behind when the command ends before.
    Reader(Box<dyn Read + Send>),
}

impl Input {
    /// Reads from this, on a thread of its own.
    pub fn reader(reader: impl Read + Send + 'static) -> Input {
        Input::Reader(Box::new(reader))
    }
}

impl<T: Into<OwnedFd>> From<T> for Input {
    fn from(file: T) -> Input {
        Input::File(file.into())
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Input::File(file) => f.debug_tuple("File").field(file).finish(),
            Input::Reader(_) => f.debug_tuple("Reader").finish_non_exhaustive(),
        }
    }
}

#[derive(Debug, Default)]
struct Gate {
    credit: usize,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Turnstile {
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl Turnstile {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for credit; `None` when the command has ended.
    fn wait(&self) -> Option<usize> {
        let gate = self
            .changed
            .wait_while(self.gate(), |gate| gate.credit == 0 && !gate.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        (!gate.is_closed).then_some(gate.credit)
    }
}

/// An input that is read by the thread that reads the answers.
#[derive(Debug)]
struct Here {
    file: OwnedFd,
    credit: usize,
    /// A frame: room for its header, then what was read.
    frame: Vec<u8>,
    /// Answers since it was looked at.
    answers: u32,
    /// Whether the system can read it without waiting.
    has_nowait: bool,
    spin: Spin,
}

/// What came of looking at the input.
enum Taken {
    Some,
    Nothing,
    End(StdinEnd),
}

/// Sends the input. Dropping it ends that; a read that waits is not waited for.
#[derive(Debug)]
pub(super) struct Pump {
    shared: Arc<Shared>,
    here: Option<Here>,
    elsewhere: Option<Arc<Turnstile>>,
}

impl Pump {
    pub(super) fn new(shared: &Arc<Shared>) -> Pump {
        Pump {
            shared: Arc::clone(shared),
            here: None,
            elsewhere: None,
        }
    }

    /// The server takes `credit` more bytes. The first time this begins to read.
    pub(super) fn grant(&mut self, credit: u32, stdin: &mut Option<Input>) {
        match stdin.take() {
            Some(Input::File(file)) => self.here = Some(Here::new(file)),
            Some(Input::Reader(reader)) => self.start(reader),
            None => {}
        }
        let credit = credit as usize;
        if let Some(here) = &mut self.here {
            here.credit = here.credit.saturating_add(credit);
        }
        if let Some(turnstile) = &self.elsewhere {
            let mut gate = turnstile.gate();
            gate.credit = gate.credit.saturating_add(credit);
            drop(gate);
            turnstile.changed.notify_one();
        }
    }

    fn start(&mut self, reader: Box<dyn Read + Send>) {
        let turnstile = Arc::<Turnstile>::default();
        let (shared, theirs) = (Arc::clone(&self.shared), Arc::clone(&turnstile));
        let started = thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || pump(reader, &shared, &theirs));
        if started.is_err() {
            self.end(StdinEnd::Broken);
        }
        self.elsewhere = Some(turnstile);
    }

    fn end(&self, end: StdinEnd) {
        let _gone = self.shared.send(Kind::StdinEnd, &[end as u8]);
    }

    /// Sends what there is of the input until the server says something. `has_more`:
    /// it has said something already.
    pub(super) fn feed(&mut self, has_more: bool) {
        let mut is_first = true;
        while let Some(here) = self.here.as_mut().filter(|here| here.credit > 0) {
            here.answers += 1;
            if has_more && here.answers < FRAMES {
                return;
            }
            here.answers = 0;
            // After an answer there often is something, as in a conversation.
            let taken = if here.has_nowait && is_first {
                here.send(&self.shared)
            } else {
                Taken::Nothing
            };
            is_first = false;
            let (server, taken) = match taken {
                Taken::Nothing => match here.ready(&self.shared, has_more) {
                    Ok([server, true]) => (server, here.send(&self.shared)),
                    Ok([server, false]) => (server, Taken::Nothing),
                    Err(_) => return,
                },
                taken => (false, taken),
            };
            if let Taken::End(end) = taken {
                self.here = None;
                self.end(end);
            }
            if server || has_more {
                return;
            }
        }
    }
}

/// Whether the server and the input have something to read; waits until one of them
/// has, or only looks.
fn poll_both(shared: &Shared, file: &OwnedFd, only_look: bool) -> rustix::io::Result<[bool; 2]> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    loop {
        let mut both = [
            PollFd::from_borrowed_fd(shared.stream.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN),
        ];
        match poll(&mut both, only_look.then_some(&now)) {
            // An error and the end are told by reading.
            Ok(_) => return Ok(both.map(|one| !one.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Here {
    fn new(file: OwnedFd) -> Here {
        // It is always ready, and a read of it does not wait for a person.
        let is_regular = fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Here {
            file,
            credit: 0,
            frame: vec![0; HEADER + DATA_CHUNK],
            answers: 0,
            has_nowait: !is_regular,
            spin: Spin::default(),
        }
    }

    /// See [`poll_both`].
    fn ready(&mut self, shared: &Shared, only_look: bool) -> rustix::io::Result<[bool; 2]> {
        let (file, spin) = (&self.file, &mut self.spin);
        if only_look {
            return poll_both(shared, file, true);
        }
        let found = spin.find(|| match poll_both(shared, file, true) {
            Ok([false, false]) => None,
            other => Some(other),
        });
        found.unwrap_or_else(|| spin.wait(|| poll_both(shared, file, false)))
    }

    /// Sends a chunk, if there is one.
    fn send(&mut self, shared: &Shared) -> Taken {
        let room = HEADER..HEADER + self.credit.min(DATA_CHUNK);
        match self.read(room) {
            Ok(0) => Taken::End(StdinEnd::Complete),
            Ok(length) => {
                self.credit -= length;
                self.frame[..HEADER].copy_from_slice(&Header::write(Kind::Stdin, length));
                // Who reads the answers learns that the connection is gone.
                let _gone = shared.send_frame(&self.frame[..HEADER + length]);
                Taken::Some
            }
            // There was none, or another process took it.
            Err(Errno::AGAIN | Errno::INTR) => Taken::Nothing,
            Err(_) => Taken::End(StdinEnd::Broken),
        }
    }

    /// Reads without waiting, if the system can do that with such a file: the terminal
    /// and many pipes have other readers as well. Otherwise it was asked whether there
    /// is something.
    fn read(&mut self, room: Range<usize>) -> rustix::io::Result<usize> {
        let into = &mut self.frame[room];
        if self.has_nowait {
            // From where it is.
            let from = u64::MAX;
            let slices = &mut [IoSliceMut::new(into)];
            match preadv2(&self.file, slices, from, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::SPIPE | Errno::NOSYS) => {
                    self.has_nowait = false;
                    // Not asked yet, or in vain: there will be another time.
                    return Err(Errno::AGAIN);
                }
                read => return read,
            }
        }
        rustix::io::read(&self.file, into)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(turnstile) = &self.elsewhere {
            turnstile.gate().is_closed = true;
            turnstile.changed.notify_all();
        }
    }
}

fn pump(mut stdin: Box<dyn Read + Send>, shared: &Shared, turnstile: &Turnstile) {
    let mut buffer = vec![0; DATA_CHUNK];
    let end = loop {
        let Some(credit) = turnstile.wait() else {
            return;
        };
        match stdin.read(&mut buffer[..credit.min(DATA_CHUNK)]) {
            Ok(0) => break StdinEnd::Complete,
            Ok(length) => {
                turnstile.gate().credit -= length;
                // Who reads the answers learns that the connection is gone.
                if shared.send(Kind::Stdin, &buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break StdinEnd::Broken,
        }
    };
    let _gone = shared.send(Kind::StdinEnd, &[end as u8]);
}
