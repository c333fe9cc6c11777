//! Counts primes below a number: `primes N`. A slow computation in a daemon, with
//! progress on standard error and Ctrl+C, that remembers what it has computed.
//!
//! A command that computes has a thread of its own, so it simply does; between two
//! pieces of work it looks whether it is still wanted.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use daemon_rpc::{App, CancellationToken, CommandHandler, EndStatus, IncomingCommand, OutputSink};

/// Numbers between two looks at the rest of the world.
const PIECE: u64 = 1 << 14;

/// How many primes there are below a number, for each that was asked for.
#[derive(Default)]
struct Primes(Mutex<BTreeMap<u64, u64>>);

impl CommandHandler for Primes {
    type Payload = u64;

    async fn handle(
        &self,
        command: IncomingCommand<u64>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> EndStatus {
        let below = command.payload;
        // What was computed before is a good place to begin.
        let (mut at, mut count) = self
            .known()
            .range(..=below)
            .next_back()
            .map_or((0, 0), |(at, count)| (*at, *count));
        let mut shown = None;
        while at < below {
            if cancel.is_cancelled() {
                self.known().insert(at, count);
                let _gone = out.stderr(format!("stopped at {at}\n")).await;
                return EndStatus::Cancelled;
            }
            let end = below.min(at.saturating_add(PIECE));
            count += (at..end).filter(|number| is_prime(*number)).count() as u64;
            at = end;
            let percent = u128::from(at) * 100 / u128::from(below);
            if shown.replace(percent) != Some(percent) {
                let line = match command.terminal.stderr {
                    true => format!("\r{percent:>3} %"),
                    false => format!("{percent} %\n"),
                };
                // If nobody is left to see it, `cancel` says so.
                let _gone = out.stderr(line).await;
            }
        }
        self.known().insert(at, count);
        if command.terminal.stderr && shown.is_some() {
            let _gone = out.stderr("\r     \r").await;
        }
        match out.stdout(format!("{count}\n")).await {
            Ok(()) => EndStatus::Exit(0),
            Err(_) => EndStatus::Cancelled,
        }
    }
}

impl Primes {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As slow as it gets.
fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|d| d * d <= number)
            .all(|d| !number.is_multiple_of(d))
}

fn main() -> ExitCode {
    let app = App::new("primes", env!("CARGO_PKG_VERSION"), 1);
    let Some(below) = std::env::args().nth(1).map_or(Some(0), |n| n.parse().ok()) else {
        return app.usage("usage: primes N");
    };
    app.main(Primes::default(), "primes", &below)
}
