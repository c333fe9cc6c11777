//! A command that runs: its output is taken in until the command itself has
//! ended, not until nobody has its output open any more. A daemon that a command
//! leaves behind must not hang the test.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::command::{Command, CommandError};
use crate::lifeline::client::Process;
use crate::lifeline::sweep::timespec;
use crate::lifeline::wire::Launch;
use crate::run::Run;

/// More output than this is a mistake.
const OUTPUT_MAX: usize = 64 << 20;
/// More than a pipe holds, so one drain after the end takes everything in.
const DRAIN_MAX: usize = 2 << 20;

/// The read end does not block.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// A command that runs; killed with its process group when dropped.
#[derive(Debug)]
pub struct Running {
    command: Command,
    process: Process,
    streams: [Stream; 2],
    started: Instant,
}

impl Running {
    pub(crate) fn start(command: &Command, launch: Launch) -> io::Result<Running> {
        let stdin: OwnedFd = if command.stdin.is_empty() {
            File::open("/dev/null")?.into()
        } else {
            let mut file = tempfile::tempfile_in(command.inner.dirs.temp())?;
            file.write_all(&command.stdin)?;
            file.seek(SeekFrom::Start(0))?;
            file.into()
        };
        let (stdout, stdout_end) = output_pipe()?;
        let (stderr, stderr_end) = output_pipe()?;
        let started = Instant::now();
        let process = command.inner.helper.spawn(
            launch,
            [stdin.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()],
            &[],
            None,
        )?;
        Ok(Running {
            command: command.clone(),
            process,
            streams: [Stream::new(stdout), Stream::new(stderr)],
            started,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Sends it a signal, by number (`libc::SIGINT`); one that has ended is left
    /// alone.
    ///
    /// # Errors
    /// If there is no such signal, or the process may not be signalled.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.process.signal(signal)
    }

    /// Reads until `text` has been said on either output; `false` if it ended
    /// without saying so, or its time is up.
    ///
    /// # Errors
    /// If its output cannot be read.
    pub fn wait_for_output(&mut self, text: &str) -> io::Result<bool> {
        let deadline = self.started + self.command.limit;
        let said = |streams: &[Stream; 2]| {
            streams
                .iter()
                .any(|stream| String::from_utf8_lossy(&stream.bytes).contains(text))
        };
        loop {
            if said(&self.streams) {
                return Ok(true);
            }
            match self.follow(deadline)? {
                Step::Output => {}
                Step::Ended | Step::TimeUp => return Ok(said(&self.streams)),
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it takes too long, see [`try_wait`](Self::try_wait).
    #[track_caller]
    #[must_use = "its exit status says whether it succeeded"]
    pub fn wait(self) -> Run {
        match self.try_wait() {
            Ok(run) => run,
            Err(error) => panic!("{}", crate::env::chain(&error)),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it takes longer than its limit or cannot be followed.
    pub fn try_wait(mut self) -> Result<Run, CommandError> {
        let line = self.command.line();
        let failed = |source| CommandError::Follow {
            line: line.clone(),
            source,
        };
        let limit = self.command.limit;
        let deadline = self.started + limit;
        let in_time = loop {
            match self.follow(deadline).map_err(failed)? {
                Step::Output => {}
                Step::Ended => break true,
                Step::TimeUp => break false,
            }
        };
        if !in_time {
            self.command
                .inner
                .helper
                .kill_group(&self.process)
                .map_err(failed)?;
        }
        let status = self
            .process
            .wait(None)
            .map_err(failed)?
            .ok_or_else(|| failed(io::ErrorKind::TimedOut.into()))?;
        let duration = self.started.elapsed();
        // All it wrote is in the pipes by now.
        for stream in &mut self.streams {
            stream.drain().map_err(failed)?;
        }
        let held_open = self.streams.iter().any(|stream| stream.fd.is_some());
        let [stdout, stderr] = &mut self.streams;
        let run = Run {
            status,
            stdout: std::mem::take(&mut stdout.bytes),
            stderr: std::mem::take(&mut stderr.bytes),
            duration,
            held_open,
            redactions: Arc::new(self.command.inner.redactions()),
            line: line.clone(),
        };
        if in_time {
            Ok(run)
        } else {
            Err(CommandError::TimedOut {
                limit,
                run: Box::new(run),
            })
        }
    }

    /// Waits until something happens and takes in what was said.
    fn follow(&mut self, deadline: Instant) -> io::Result<Step> {
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.process.handle(),
            PollFlags::IN,
        )];
        for stream in &self.streams {
            if let Some(fd) = &stream.fd {
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return Ok(Step::TimeUp),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = !fds[0].revents().is_empty();
        for stream in &mut self.streams {
            stream.drain()?;
        }
        Ok(if ended { Step::Ended } else { Step::Output })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has ended is left alone.
        if matches!(self.process.wait(Some(Instant::now())), Ok(None)) {
            self.command.inner.helper.kill_group(&self.process).ok();
        }
    }
}

enum Step {
    Output,
    Ended,
    TimeUp,
}

/// One output of a command and what was read of it.
#[derive(Debug)]
struct Stream {
    /// `None` after the end of file.
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(fd: OwnedFd) -> Stream {
        Stream {
            fd: Some(fd),
            bytes: Vec::new(),
        }
    }

    /// Reads what is there, but not for ever if it is written as fast as read.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let mut budget = DRAIN_MAX;
        while let (Some(fd), true) = (&self.fd, budget > 0) {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.fd = None,
                Ok(length) if self.bytes.len() + length > OUTPUT_MAX => {
                    return Err(io::Error::other(
                        "it writes more output than a test can use",
                    ));
                }
                Ok(length) => {
                    self.bytes.extend_from_slice(&buffer[..length]);
                    budget = budget.saturating_sub(length);
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
