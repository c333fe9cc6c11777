//! What the outcome of a command means for the process that asked for it: its exit
//! code, and one line for people. The codes are those of `sysexits.h` where it has
//! a fitting one.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGPIPE};
use signal_hook::low_level::emulate_default_handler;

use super::signals::Signals;
use crate::client::{CommandError, DaemonError, Interruption, Outcome, Refused};
use crate::message::{EndStatus, Status};

/// The server could not carry the command out.
pub const FAILED: u8 = 1;
/// Asked for its status, the daemon does not run.
pub const NOT_RUNNING: u8 = 3;
/// The program was not used as it is meant to be (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// The command began, and what became of it is unknown (`EX_SOFTWARE`).
pub const INTERRUPTED: u8 = 70;
/// The command did not begin: nothing has happened, and trying again is safe
/// (`EX_TEMPFAIL`).
pub const NOT_ADMITTED: u8 = 75;
/// The server broke the rules (`EX_PROTOCOL`).
pub const PROTOCOL: u8 = 76;

/// Tells people why, with all causes, and returns the code.
pub(super) fn fail(name: &str, code: u8, error: &dyn Error) -> ExitCode {
    let mut line = format!("{name}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line.push('\n');
    print(&mut io::stderr(), &line);
    ExitCode::from(code)
}

pub(super) fn print(to: &mut dyn Write, text: &str) {
    // Nobody may be left to read it.
    let _unread = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// A status for people.
pub(super) fn describe(status: &Status) -> String {
    let mut text = format!(
        "{}, build {}\n{}, up {} s, {} connection(s), {} command(s)\n",
        status.version,
        status.build,
        if status.is_draining {
            "about to end"
        } else {
            "running"
        },
        status.uptime_secs,
        status.connections,
        status.running,
    );
    for command in &status.commands {
        let client = command
            .client_pid
            .map_or_else(String::new, |pid| format!(", for the process {pid}"));
        let stuck = if command.is_stuck { ", stuck" } else { "" };
        text.push_str(&format!(
            "  {} `{}` for {} s{client}{stuck}\n",
            command.id, command.name, command.secs
        ));
    }
    text
}

/// Ends as a program does that the signal ended: shells look at that.
fn end_by(signal: i32) -> ExitCode {
    let _alive = emulate_default_handler(signal);
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(FAILED))
}

pub(super) fn tell(
    name: &str,
    outcome: Result<Outcome, DaemonError>,
    signals: &Signals,
) -> ExitCode {
    let result = outcome
        .map_err(CommandError::from)
        .and_then(Outcome::into_result);
    match result {
        Ok(EndStatus::Exit(code)) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(FAILED)),
        Ok(EndStatus::Signal(signal)) => {
            ExitCode::from(u8::try_from(128 + (signal & 0x7f)).unwrap_or(FAILED))
        }
        Ok(EndStatus::Cancelled)
        | Err(CommandError::NotAdmitted {
            reason: Refused::Cancelled,
        }) => end_by(signals.last().unwrap_or(SIGINT)),
        Err(CommandError::Interrupted {
            reason:
                Interruption::Output {
                    kind: io::ErrorKind::BrokenPipe,
                    ..
                },
        }) => end_by(SIGPIPE),
        Ok(EndStatus::Failed { message }) => fail(name, FAILED, &io::Error::other(message)),
        Err(error) => match (&error, signals.last()) {
            // Whoever pressed Ctrl+C wanted it.
            (CommandError::Interrupted { .. }, Some(signal)) => end_by(signal),
            (CommandError::Failed { .. }, _) => fail(name, FAILED, &error),
            (CommandError::Interrupted { .. }, _) => fail(name, INTERRUPTED, &error),
            (CommandError::Protocol { .. }, _) => fail(name, PROTOCOL, &error),
            (CommandError::Daemon(_) | CommandError::NotAdmitted { .. }, _) => {
                fail(name, NOT_ADMITTED, &error)
            }
        },
    }
}
