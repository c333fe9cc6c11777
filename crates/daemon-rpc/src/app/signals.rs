//! Signals of the process that waits for a command: Ctrl+C in three steps, and
//! changes of the window.
//!
//! A thread waits for the signals, since the main thread waits for the daemon. It
//! never waits itself: what could is done by threads of its own, so that the next
//! Ctrl+C is always seen.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator;
use signal_hook::low_level::emulate_default_handler;

use crate::client::{Canceller, Client, Window};
use crate::command::WindowSize;
use crate::message::CancelMode;

#[derive(Debug, Default)]
struct State {
    client: Option<(Canceller, Window)>,
    /// How often the command was asked to end.
    asked: u32,
    last: Option<i32>,
}

/// Reacts to signals as long as the process lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals(Arc<Mutex<State>>);

impl Signals {
    pub(super) fn install() -> io::Result<Signals> {
        let mut incoming = iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH])?;
        let signals = Signals::default();
        let ours = signals.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in incoming.forever() {
                    ours.received(signal);
                }
            })?;
        Ok(signals)
    }

    /// From now on signals are about the command of this client.
    pub(super) fn watch(&self, client: &Client) {
        let mut state = self.state();
        let canceller = client.canceller();
        if state.asked > 0 {
            // Nothing was sent yet, so this does not wait.
            canceller.cancel(CancelMode::Soft);
        }
        state.client = Some((canceller, client.window()));
    }

    /// The last signal that asked for the end.
    pub(super) fn last(&self) -> Option<i32> {
        self.state().last
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self, signal: i32) {
        let mut state = self.state();
        if signal == SIGWINCH {
            let size = WindowSize::of_this_process();
            if let (Some((_, window)), Some(size)) = (state.client.clone(), size) {
                in_background(move || window.resized(size));
            }
            return;
        }
        state.asked += 1;
        state.last = Some(signal);
        let Some((canceller, _)) = state.client.clone() else {
            // Nothing runs that could be asked.
            leave(signal);
            return;
        };
        // Nobody is left to press anything a second time.
        let step = if signal == SIGHUP { 3 } else { state.asked };
        match step {
            1 => in_background(move || canceller.cancel(CancelMode::Soft)),
            2 => in_background(move || canceller.cancel(CancelMode::Hard)),
            _ => {
                canceller.abandon();
                leave(signal);
            }
        }
    }
}

fn leave(signal: i32) {
    // Only fails for signals that are not known.
    let _alive = emulate_default_handler(signal);
}

/// Without another thread nothing is asked, and the third time leaves.
fn in_background(work: impl FnOnce() + Send + 'static) {
    let _started = thread::Builder::new()
        .name("signalled".to_owned())
        .spawn(work);
}
