//! One command from its request to its end: sends it, renders what comes back,
//! and turns the outcome into an exit code.

use std::io;

use daemon_rpc::{Client, EndStatus, Interruption, Outcome, OutputChunk, Refused};
use vx_proto::command::{BuildEvent, Command};

use crate::context::{Context, ToTerminal};
use crate::daemon::{self, SERVICE};
use crate::exit::{self, Failure, Kind};
use crate::interrupt::Interrupt;
use crate::render::Format;

/// How often a command is sent again that was not admitted: nothing has happened
/// then, so this is safe.
const ATTEMPTS: u32 = 5;

/// Sees every event before it is rendered.
pub(crate) type Observer<'a> = &'a mut dyn FnMut(&BuildEvent);

/// Carries out a command, and starts the daemon for it when it does not run.
pub(crate) fn run(
    context: &Context,
    command: &Command,
    format: Format,
    observer: Observer<'_>,
) -> Result<u8, Failure> {
    let interrupt = interrupt()?;
    let client = daemon::connect_or_start(&context.settings)?;
    converse(
        context, client, command, format, observer, &interrupt, ATTEMPTS,
    )
}

/// Carries out a command over a connection that is there, and never starts a
/// daemon.
pub(crate) fn run_with(
    context: &Context,
    client: Client,
    command: &Command,
    format: Format,
    observer: Observer<'_>,
) -> Result<u8, Failure> {
    let interrupt = interrupt()?;
    converse(context, client, command, format, observer, &interrupt, 1)
}

fn interrupt() -> Result<Interrupt, Failure> {
    Interrupt::install().map_err(|error| {
        Failure::new(Kind::Internal, "cannot listen for signals").because(error.to_string())
    })
}

fn converse(
    context: &Context,
    client: Client,
    command: &Command,
    format: Format,
    observer: Observer<'_>,
    interrupt: &Interrupt,
    attempts: u32,
) -> Result<u8, Failure> {
    let request = daemon_rpc::Command::new(SERVICE)
        .with_payload(command)
        .map_err(|error| {
            Failure::new(Kind::Internal, "cannot encode the request").because(error.to_string())
        })?;
    let mut listener = Listener {
        renderer: context.renderer(format),
        observer,
        interrupt,
        problem: None,
    };
    let mut client = client;
    let mut attempt = 1;
    let outcome = loop {
        interrupt.watch(client.canceller());
        match client.run(&request, |frame| listener.frame(frame)) {
            Outcome::NotAdmitted {
                reason: Refused::Draining | Refused::Closed,
            } if attempt < attempts => {
                attempt += 1;
                client = daemon::connect_or_start(&context.settings)?;
            }
            outcome => break outcome,
        }
    };
    let told = listener.renderer.finish();
    if let Some(problem) = listener.problem.take() {
        return Err(problem);
    }
    told.map_err(|error| not_read(&error))?;
    judge(outcome, interrupt.was_interrupted())
}

/// Takes what the daemon sends.
struct Listener<'a> {
    renderer: ToTerminal,
    observer: Observer<'a>,
    interrupt: &'a Interrupt,
    /// Why the command was given up from here.
    problem: Option<Failure>,
}

impl Listener<'_> {
    fn frame(&mut self, frame: OutputChunk<'_>) {
        if self.problem.is_some() {
            return;
        }
        let rendered = match frame {
            OutputChunk::Stdout(bytes) => self.renderer.stdout(bytes),
            OutputChunk::Stderr(bytes) => {
                self.renderer.stderr(bytes);
                Ok(())
            }
            OutputChunk::Event(bytes) => match postcard::from_bytes::<BuildEvent>(bytes) {
                Ok(event) => {
                    (self.observer)(&event);
                    self.renderer.event(&event)
                }
                Err(error) => {
                    self.give_up(
                        Failure::new(
                            Kind::Internal,
                            "vx-daemon sent an event that makes no sense",
                        )
                        .because(error.to_string())
                        .hint("run `vx kill`; the next build starts the daemon of this version"),
                    );
                    Ok(())
                }
            },
        };
        if let Err(error) = rendered {
            self.give_up(not_read(&error));
        }
    }

    fn give_up(&mut self, why: Failure) {
        self.problem = Some(why);
        self.interrupt.cancel();
    }
}

/// Standard output cannot be written. A reader that left is told nothing.
fn not_read(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::told(Kind::Request),
        _ => Failure::new(Kind::Internal, "cannot write to standard output")
            .because(error.to_string()),
    }
}

/// What the outcome means to whoever started us.
fn judge(outcome: Outcome, interrupted: bool) -> Result<u8, Failure> {
    match outcome {
        // It ended before it noticed a late Ctrl+C.
        Outcome::Finished(EndStatus::Exit(code)) => Ok(u8::try_from(code).unwrap_or(1)),
        Outcome::Finished(EndStatus::Cancelled)
        | Outcome::NotAdmitted {
            reason: Refused::Cancelled,
        }
        | Outcome::Interrupted {
            reason: Interruption::Abandoned,
        } => Err(Failure::told(Kind::Interrupted)),
        _ if interrupted => Err(Failure::told(Kind::Interrupted)),
        Outcome::Finished(EndStatus::Signal(signal)) => Err(Failure::new(
            Kind::Internal,
            format!("the command was ended by signal {signal}"),
        )),
        Outcome::Finished(EndStatus::Failed { message }) => Err(Failure::new(
            Kind::Internal,
            "vx-daemon could not carry out the command",
        )
        .because(message)),
        Outcome::NotAdmitted { reason } => Err(Failure::new(
            Kind::Service,
            "vx-daemon did not take the command",
        )
        .because(reason.to_string())),
        Outcome::Interrupted { reason } => Err(exit::broke_off(reason.to_string())),
        Outcome::Protocol { what } => Err(exit::broke_off(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: Outcome, interrupted: bool) -> u8 {
        judge(outcome, interrupted).unwrap_or_else(|failure| failure.kind.code())
    }

    #[test]
    fn only_an_end_with_code_0_is_success() {
        let broken = || Outcome::Interrupted {
            reason: Interruption::Closed,
        };
        assert_eq!(code(Outcome::Finished(EndStatus::Exit(0)), false), 0);
        assert_eq!(code(Outcome::Finished(EndStatus::Exit(101)), false), 101);
        assert_eq!(code(Outcome::Finished(EndStatus::Exit(-1)), false), 1);
        assert_eq!(code(Outcome::Finished(EndStatus::Cancelled), false), 130);
        assert_eq!(code(broken(), false), 4);
        assert_eq!(code(broken(), true), 130);
        let refused = Outcome::NotAdmitted {
            reason: Refused::Busy,
        };
        assert_eq!(code(refused, false), 3);
        let garbled = Outcome::Protocol {
            what: String::new(),
        };
        assert_eq!(code(garbled, false), 4);
    }
}
