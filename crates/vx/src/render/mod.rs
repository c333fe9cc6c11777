//! From events to what the user or a program reads.
//!
//! Knows nothing of connections. Status goes to standard error, and what
//! programs read goes to standard output, as cargo does it.

mod downloads;
mod human;
mod json;
mod names;
mod progress;
mod short;

use std::io::{self, Write};

use vx_proto::command::BuildEvent;

pub(crate) use downloads::Downloads;
pub(crate) use human::Human;
pub(crate) use json::{Json, Rendered};
pub(crate) use progress::Progress;

use crate::options::{MessageFormat, OutputOptions};

/// How much is said.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors and the compiler's messages.
    Quiet,
    /// Also what is done.
    Normal,
    /// Also what need not be done, and commands.
    Verbose,
}

impl Verbosity {
    /// What `-q` and `-v` ask for.
    pub(crate) fn of(options: &OutputOptions) -> Verbosity {
        match (options.quiet, options.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, 0) => Verbosity::Normal,
            _ => Verbosity::Verbose,
        }
    }
}

/// How the compiler's messages reach the user.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// As the compiler shows them.
    Full,
    /// One line each.
    Short,
    /// Programs get them instead.
    Omitted,
}

/// What `--message-format` asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// For people.
    pub(crate) messages: Messages,
    /// For programs, when they read.
    pub(crate) json: Option<Rendered>,
}

impl Format {
    /// Later values win, and the flavours of JSON add up, as with cargo.
    pub(crate) fn of(values: &[MessageFormat]) -> Format {
        let mut format = Format {
            messages: Messages::Full,
            json: None,
        };
        for value in values {
            format = match value {
                MessageFormat::Human => Format {
                    messages: Messages::Full,
                    json: None,
                },
                MessageFormat::Short => Format {
                    messages: Messages::Short,
                    json: None,
                },
                MessageFormat::Json => Format {
                    messages: Messages::Omitted,
                    json: Some(format.json.unwrap_or(Rendered::Plain)),
                },
                MessageFormat::JsonDiagnosticRenderedAnsi => Format {
                    messages: Messages::Omitted,
                    json: Some(Rendered::Ansi),
                },
                MessageFormat::JsonDiagnosticShort => Format {
                    messages: Messages::Omitted,
                    json: Some(Rendered::Short),
                },
                MessageFormat::JsonRenderDiagnostics => Format {
                    messages: Messages::Full,
                    json: Some(Rendered::Nowhere),
                },
            };
        }
        format
    }
}

/// Both sides of a command's output.
#[derive(Debug)]
pub(crate) struct Renderer<E: Write, O: Write> {
    human: Human<E>,
    json: Option<Json>,
    stdout: O,
}

impl<E: Write, O: Write> Renderer<E, O> {
    /// A renderer of one command.
    pub(crate) fn new(human: Human<E>, json: Option<Json>, stdout: O) -> Renderer<E, O> {
        Renderer {
            human,
            json,
            stdout,
        }
    }

    /// Renders an event. An error is one of standard output: nobody reads it.
    /// That standard error is gone is no reason to end a build.
    pub(crate) fn event(&mut self, event: &BuildEvent) -> io::Result<()> {
        self.human.event(event);
        if let Some(line) = self.json.as_mut().and_then(|json| json.line(event)) {
            self.stdout.write_all(line.as_bytes())?;
            self.stdout.flush()?;
        }
        Ok(())
    }

    /// Passes on what another program printed.
    pub(crate) fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }

    /// Passes on what another program printed.
    pub(crate) fn stderr(&mut self, bytes: &[u8]) {
        self.human.raw(bytes);
    }

    /// Takes the progress bar away and ends the lines for programs.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.human.finish();
        if let Some(line) = self.json.as_mut().and_then(Json::end) {
            self.stdout.write_all(line.as_bytes())?;
            self.stdout.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
