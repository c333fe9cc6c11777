//! Ctrl+C: the first one asks the daemon to end the command, the second one ends
//! this process at once.
//!
//! A thread waits for the signals, since the main thread waits for the daemon.
//! Whatever happens here, the daemon ends the command when our connection goes
//! away, so leaving is always safe.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use daemon_rpc::{CancelMode, Canceller};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::Kind;
use crate::terminal;

/// How long the daemon has to end a command that was cancelled.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    canceller: Option<Canceller>,
    interrupted: bool,
}

/// Reacts to Ctrl+C as long as the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    state: Arc<Mutex<State>>,
}

impl Interrupt {
    /// Starts to listen for signals.
    pub(crate) fn install() -> io::Result<Interrupt> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupt = Interrupt {
            state: Arc::default(),
        };
        let ours = interrupt.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _signal in signals.forever() {
                    ours.signalled();
                }
            })?;
        Ok(interrupt)
    }

    /// What to cancel from now on. Cancels at once when a signal came before.
    pub(crate) fn watch(&self, canceller: Canceller) {
        let mut state = self.lock();
        if state.interrupted {
            canceller.cancel(CancelMode::Soft);
        }
        state.canceller = Some(canceller);
    }

    /// Cancels as Ctrl+C does, for another reason to end.
    pub(crate) fn cancel(&self) {
        if let Some(canceller) = &self.lock().canceller {
            canceller.cancel(CancelMode::Soft);
        }
    }

    /// Whether a signal came.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.lock().interrupted
    }

    fn signalled(&self) {
        let mut state = self.lock();
        let canceller = match &state.canceller {
            Some(canceller) if !state.interrupted => canceller.clone(),
            // Nothing runs yet, or it has been asked before.
            _ => {
                drop(state);
                self.leave();
            }
        };
        state.interrupted = true;
        drop(state);
        // Before the request to cancel, which may have to wait its turn. The
        // process usually ends before this thread wakes.
        let ours = self.clone();
        let _started = thread::Builder::new()
            .name("grace".to_owned())
            .spawn(move || {
                thread::park_timeout(GRACE);
                ours.leave();
            });
        canceller.cancel(CancelMode::Soft);
    }

    fn leave(&self) -> ! {
        if let Some(canceller) = &self.lock().canceller {
            canceller.abandon();
        }
        if terminal::is_watched() {
            // Takes the line of the progress bar away.
            let _gone = io::stderr().write_all(b"\r\x1b[2K");
        }
        std::process::exit(i32::from(Kind::Interrupted.code()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
