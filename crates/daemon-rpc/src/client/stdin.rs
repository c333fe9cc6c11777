//! The client's input: sent on a thread of its own, as far as the server grants.
//!
//! Nothing is read before the command wants it, so that a command which does not
//! read leaves what was typed to the next program.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::cancel::Shared;
use crate::frame::{DATA_CHUNK, Kind};
use crate::message::StdinEnd;

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

/// Sends the input. Dropping it ends that; a read that waits is not waited for.
#[derive(Debug)]
pub(super) struct Pump {
    shared: Arc<Shared>,
    turnstile: Arc<Turnstile>,
}

impl Pump {
    pub(super) fn new(shared: &Arc<Shared>) -> Pump {
        Pump {
            shared: Arc::clone(shared),
            turnstile: Arc::default(),
        }
    }

    /// The server takes `credit` more bytes. The first time this begins to read.
    pub(super) fn grant(&mut self, credit: u32, stdin: &mut Option<Box<dyn Read + Send>>) {
        let mut gate = self.turnstile.gate();
        gate.credit = gate.credit.saturating_add(credit as usize);
        drop(gate);
        self.turnstile.changed.notify_one();
        let Some(stdin) = stdin.take() else {
            return;
        };
        let (shared, turnstile) = (Arc::clone(&self.shared), Arc::clone(&self.turnstile));
        let started = thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || pump(stdin, &shared, &turnstile));
        if started.is_err() {
            let _gone = self.shared.send(Kind::StdinEnd, &[StdinEnd::Broken as u8]);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.turnstile.gate().is_closed = true;
        self.turnstile.changed.notify_all();
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
