//! A command as its client describes it. `PROTOCOL.md`, section "Command".
//!
//! Directory, variables and terminal are those of the client: a daemon lives for
//! a long time, and what it was started with concerns no command.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::frame::{Kind, put};
use crate::message::{encode, take};

/// What a daemon is to do, and for whom: a name, a typed payload, and what the
/// command needs to know about the place where it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub(crate) head: Head,
    pub(crate) payload: Vec<u8>,
}

/// All but the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) name: String,
    cwd: Option<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) terminal: Terminal,
    /// Whether the client has an input for the command.
    pub(crate) has_stdin: bool,
}

/// The payload has no encoding, e.g. because it is a map of unknown length.
#[derive(Debug, thiserror::Error)]
#[error("the payload of the command `{name}` cannot be encoded")]
pub struct PayloadError {
    /// The command.
    pub name: String,
    /// Why.
    #[source]
    pub source: postcard::Error,
}

/// The terminal of the client, as far as a command may care.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Whether the client's standard input is a terminal.
    pub stdin: bool,
    /// Whether its standard output is.
    pub stdout: bool,
    /// Whether its standard error is.
    pub stderr: bool,
    /// The size of the window when the command was given.
    pub size: Option<WindowSize>,
    /// The value of `TERM`, empty if unset.
    pub term: String,
    /// Whether `NO_COLOR` is set to anything but nothing (<https://no-color.org>).
    pub no_color: bool,
}

/// The size of a window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Command {
    /// A command of this name, without a payload (`()`), directory, variables,
    /// terminal or input.
    pub fn new(name: impl Into<String>) -> Command {
        Command {
            head: Head {
                name: name.into(),
                ..Head::default()
            },
            payload: Vec::new(),
        }
    }

    /// With a payload; the handler's type of payload must be the same.
    ///
    /// # Errors
    /// If the payload cannot be encoded with postcard.
    pub fn with_payload<T: Serialize + ?Sized>(
        mut self,
        payload: &T,
    ) -> Result<Self, PayloadError> {
        self.payload = postcard::to_stdvec(payload).map_err(|source| PayloadError {
            name: self.head.name.clone(),
            source,
        })?;
        Ok(self)
    }

    /// With the directory in which it is to work.
    #[must_use]
    pub fn with_cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.head.cwd = Some(cwd.into().into_os_string().into_vec());
        self
    }

    /// With one variable of the environment.
    #[must_use]
    pub fn with_env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let bytes = |text: &OsStr| text.as_bytes().to_vec();
        let (name, value) = (name.as_ref(), value.as_ref());
        self.head.env.push((bytes(name), bytes(value)));
        self
    }

    /// With those of these variables that this process has.
    #[must_use]
    pub fn with_own_env<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        names
            .into_iter()
            .fold(self, |command, name| match std::env::var_os(name) {
                Some(value) => command.with_env(name, value),
                None => command,
            })
    }

    /// With these facts about the client's terminal.
    #[must_use]
    pub fn with_terminal(mut self, terminal: Terminal) -> Self {
        self.head.terminal = terminal;
        self
    }

    /// With the directory and the terminal of this process.
    #[must_use]
    pub fn from_here(mut self) -> Self {
        if let Ok(cwd) = std::env::current_dir() {
            self = self.with_cwd(cwd);
        }
        self.with_terminal(Terminal::of_this_process())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// The payload of its frame.
    pub(crate) fn encode(&self, has_stdin: bool) -> Vec<u8> {
        let head = if has_stdin == self.head.has_stdin {
            encode(&self.head)
        } else {
            encode(&Head {
                has_stdin,
                ..self.head.clone()
            })
        };
        let mut out = encode(&head);
        out.extend_from_slice(&self.payload);
        out
    }

    /// The whole frame.
    pub(crate) fn frame(&self, has_stdin: bool) -> Vec<u8> {
        let payload = self.encode(has_stdin);
        let mut out = Vec::with_capacity(payload.len() + 16);
        put(&mut out, Kind::Command, &payload);
        out
    }
}

impl Head {
    /// The head and the application's payload of a command's frame.
    pub(crate) fn decode(mut frame: Bytes) -> Option<(Head, Bytes)> {
        let (head, rest): (&[u8], &[u8]) = take(&frame)?;
        let (head, _later) = take::<Head>(head)?;
        let payload = frame.split_off(frame.len() - rest.len());
        Some((head, payload))
    }

    pub(crate) fn cwd(&self) -> Option<PathBuf> {
        let cwd = self.cwd.clone()?;
        Some(OsString::from_vec(cwd).into())
    }

    pub(crate) fn env(&self) -> Vec<(OsString, OsString)> {
        let env = self.env.iter().cloned();
        env.map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
            .collect()
    }
}

impl Terminal {
    /// The terminal of this process.
    pub fn of_this_process() -> Terminal {
        Terminal {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
            size: WindowSize::of_this_process(),
            term: std::env::var("TERM").unwrap_or_default(),
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        }
    }
}

impl WindowSize {
    /// The size of the window of this process: of the first of standard output,
    /// error and input that is a terminal.
    pub fn of_this_process() -> Option<WindowSize> {
        use rustix::termios::tcgetwinsize;
        let size = tcgetwinsize(io::stdout())
            .or_else(|_| tcgetwinsize(io::stderr()))
            .or_else(|_| tcgetwinsize(io::stdin()))
            .ok()?;
        Some(WindowSize {
            columns: size.ws_col,
            rows: size.ws_row,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_golden() {
        let command = Command::new("wc")
            .with_payload(&300u32)
            .unwrap()
            .with_cwd("/x")
            .with_env("K", "v")
            .with_terminal(Terminal {
                stdin: false,
                stdout: true,
                stderr: true,
                size: Some(WindowSize {
                    columns: 200,
                    rows: 50,
                }),
                term: "vt".into(),
                no_color: false,
            });
        let bytes = [
            // The length of the head.
            &[24][..],
            &[2, b'w', b'c'],
            &[1, 2, b'/', b'x'],
            &[1, 1, b'K', 1, b'v'],
            &[0, 1, 1, 1, 0xc8, 1, 50, 2, b'v', b't', 0],
            // It has an input.
            &[1],
            // The payload.
            &[0xac, 2],
        ]
        .concat();
        assert_eq!(command.encode(true), bytes);
        let (head, payload) = Head::decode(bytes.into()).unwrap();
        assert!(head.has_stdin);
        assert_eq!(head.cwd().unwrap(), PathBuf::from("/x"));
        assert_eq!(head.env(), [("K".into(), "v".into())]);
        assert_eq!(head.terminal, command.head.terminal);
        assert_eq!(payload, [0xac, 2][..]);
    }

    #[test]
    fn a_head_of_a_later_version_is_understood_and_a_short_one_is_not() {
        let mut command = Command::new("c").encode(false);
        let length = command[0];
        command[0] += 2;
        command.extend([7, 7]);
        let (head, payload) = Head::decode(command.clone().into()).unwrap();
        assert_eq!((head.name.as_str(), payload.len()), ("c", 0));
        command[0] = length - 1;
        assert!(Head::decode(command.into()).is_none());
        assert!(Head::decode(Bytes::from_static(&[200])).is_none());
        assert!(Head::decode(Bytes::new()).is_none());
    }
}
