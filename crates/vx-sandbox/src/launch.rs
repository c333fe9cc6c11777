//! The host's side of a run: start stage one, hand it the spec, hear the report, end it.
//!
//! Stage one gets a Unix socket as its standard input.
//! Over it travel the spec with the command's file descriptors, later the report; and as long as it is open the command may live.
//! So a host that dies, however it dies, takes the command with it.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::error::{RunError, SpawnError};
use crate::report::Report;
use crate::spec::Spec;
use crate::wire::{Envelope, HIDDEN_ARGUMENT, Message};

/// More than this is no report.
const REPORT_LIMIT: u64 = 256 << 20;

/// File descriptors that a command gets.
#[derive(Debug)]
pub struct Io {
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
    /// Others, each with the number under which the command finds it (3 or above).
    pub inherited: Vec<(OwnedFd, i32)>,
}

/// Starts commands, all from one thread that lives as long as the launcher and every command it started.
///
/// The kernel ties "die with your parent" to the thread that forked, so a thread of a pool would not do.
#[derive(Debug)]
pub struct Launcher {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    stdin: OwnedFd,
    reply: mpsc::SyncSender<std::io::Result<Child>>,
}

impl Launcher {
    /// A launcher that executes the running program again; its `main` must begin with [`init_if_requested`].
    pub fn new() -> Result<Launcher, SpawnError> {
        Launcher::with_program(PathBuf::from("/proc/self/exe"))
    }

    /// A launcher that executes `program`, which must begin with [`init_if_requested`].
    pub fn with_program(program: PathBuf) -> Result<Launcher, SpawnError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("vx-sandbox".to_owned())
            .spawn(move || {
                for Job { stdin, reply } in queue {
                    // A caller that is gone has closed its end of the socket; the child sees that and ends.
                    if let Err(mpsc::SendError(Ok(mut orphan))) = reply.send(start(&program, stdin))
                    {
                        drop(orphan.wait());
                    }
                }
            })
            .map_err(SpawnError::Start)?;
        Ok(Launcher { jobs })
    }

    /// Start the command of `spec`.
    ///
    /// Blocks for a millisecond or so, until the sandbox process has read the spec.
    pub fn spawn(&self, spec: &Spec, io: Io) -> Result<Running, SpawnError> {
        crate::check::check(spec)?;
        let (host, guest) = UnixStream::pair().map_err(SpawnError::Start)?;
        let (reply, answer) = mpsc::sync_channel(1);
        let job = Job {
            stdin: guest.into(),
            reply,
        };
        self.jobs.send(job).map_err(|_| SpawnError::LauncherGone)?;
        let child = answer
            .recv()
            .map_err(|_| SpawnError::LauncherGone)?
            .map_err(SpawnError::Start)?;
        let running = Running {
            child,
            _launcher: self.jobs.clone(),
            killer: Killer {
                socket: Arc::new(host),
                killed: Arc::new(AtomicBool::new(false)),
            },
        };
        running.send_spec(spec, &io)?;
        Ok(running)
    }
}

fn start(program: &Path, stdin: OwnedFd) -> std::io::Result<Child> {
    Command::new(program)
        .arg(HIDDEN_ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// A command that was started.
///
/// Dropping it ends the command and waits until it is gone.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Keeps the thread that started the command, whose end would be the command's.
    _launcher: mpsc::Sender<Job>,
    killer: Killer,
}

impl Running {
    /// A handle with which any thread can end the command.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Wait until the command and everything it started is gone, and tell how it went. Blocks.
    pub fn wait(mut self) -> Result<Report, RunError> {
        let mut text = Vec::new();
        let read = (&*self.killer.socket)
            .take(REPORT_LIMIT)
            .read_to_end(&mut text);
        drop(self.child.wait());
        let killed = self.killer.killed.load(Ordering::SeqCst);
        match read {
            Err(_) if killed => return Err(RunError::Killed),
            Err(error) => return Err(RunError::Read(error)),
            Ok(_) => {}
        }
        match serde_json::from_slice(&text) {
            Ok(Message::Done(report)) => Ok(report),
            Ok(Message::Failed(failure)) => Err(RunError::Setup(failure)),
            Err(_) if killed => Err(RunError::Killed),
            Err(_) if text.is_empty() => Err(RunError::Vanished),
            Err(error) => Err(RunError::Malformed(error)),
        }
    }

    fn send_spec(&self, spec: &Spec, io: &Io) -> Result<(), SpawnError> {
        let envelope = Envelope {
            spec: spec.clone(),
            inherited: io.inherited.iter().map(|(_, number)| *number).collect(),
        };
        let body = serde_json::to_vec(&envelope).map_err(SpawnError::Encode)?;
        let length = u32::try_from(body.len()).map_err(|_| {
            SpawnError::Start(std::io::Error::other("the specification exceeds 4 GiB"))
        })?;
        let mut fds: Vec<BorrowedFd<'_>> = vec![io.stdout.as_fd(), io.stderr.as_fd()];
        fds.extend(io.inherited.iter().map(|(fd, _)| fd.as_fd()));
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(SpawnError::Start(std::io::Error::other(
                "too many inherited descriptors",
            )));
        }
        let head = length.to_be_bytes();
        sendmsg(
            &*self.killer.socket,
            &[IoSlice::new(&head)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map_err(|errno| SpawnError::Start(errno.into()))?;
        (&*self.killer.socket)
            .write_all(&body)
            .map_err(SpawnError::Start)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.killer.hang_up();
        drop(self.child.wait());
    }
}

/// Ends a command together with everything it started; cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Killer {
    socket: Arc<UnixStream>,
    killed: Arc<AtomicBool>,
}

impl Killer {
    /// End the command at once. Without effect when it has ended already.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.hang_up();
    }

    fn hang_up(&self) {
        // Not connected any more means that the other side is gone already.
        drop(self.socket.shutdown(Shutdown::Write));
    }
}

/// Become the sandbox process if this program was started as one; returns at once otherwise.
///
/// Must be the first call of `main`, while the process has a single thread.
pub fn init_if_requested() {
    let mut arguments = std::env::args_os();
    if arguments.len() == 2
        && arguments
            .nth(1)
            .is_some_and(|argument| argument == HIDDEN_ARGUMENT)
    {
        crate::stage::run();
    }
}
