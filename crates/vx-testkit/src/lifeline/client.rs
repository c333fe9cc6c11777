//! The test's end of the lifeline: starts the helper and asks it for programs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};

use super::sweep::readable;
use super::wire::{self, Context, Launch, Reply, Request};
use super::{enter, landlock};
use crate::leaks::Report;
use crate::tier::Tier;

/// What the helper is called in lists of processes.
pub(crate) const HELPER_NAME: &str = "vx-testkit-helper";

/// There is no helper in that tier.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) tier: Tier,
    pub(crate) source: io::Error,
}

/// The running helper; when it is dropped, the helper ends everything.
#[derive(Debug)]
pub(crate) struct Helper {
    socket: Mutex<Option<UnixStream>>,
    process: Mutex<Child>,
}

impl Helper {
    /// Starts the helper and makes it responsible for `context`, in the tier that
    /// the context wants or, unless it is required, the best one below that can
    /// be had. Returns what is in force with it.
    pub(crate) fn start(mut context: Context, required: bool) -> Result<(Helper, Tier), Refused> {
        for &tier in context.tier.ladder() {
            context.tier = tier;
            let started = match tier {
                Tier::Landlock => landlock::check().and_then(|()| Helper::start_in(&context)),
                _ => Helper::start_in(&context),
            };
            match started {
                Ok(helper) => return Ok((helper, tier)),
                Err(source) if required || tier == Tier::Plain => {
                    return Err(Refused { tier, source });
                }
                Err(error) => {
                    let reason = context.tier_reason.get_or_insert_default();
                    if !reason.is_empty() {
                        reason.push_str("; ");
                    }
                    *reason += &format!("`{tier}` cannot be had: {error}");
                }
            }
        }
        Err(Refused {
            tier: context.tier,
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    fn start_in(context: &Context) -> io::Result<Helper> {
        if !enter::available() {
            return Err(io::Error::other(
                "this program's start-up functions were not run, so its copy \
                 could not become the helper",
            ));
        }
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(HELPER_NAME)
            // Should it ever reach a test harness, no test has this name.
            .args(["--exact", "vx-testkit helper"])
            .env_clear()
            .env(enter::ROLE, enter::ROLE_HELPER)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .current_dir("/");
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        let process = command.spawn()?;
        let helper = Helper {
            socket: Mutex::new(Some(ours)),
            process: Mutex::new(process),
        };
        // A helper that refuses has started nothing; it ends with its socket.
        if let Err(error) = helper.ask(&Request::Open(context.clone()), &[]) {
            helper.socket().take();
            helper
                .process
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait()?;
            return Err(error);
        }
        Ok(helper)
    }

    fn socket(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the helper process is gone");
        let guard = self.socket();
        let socket = guard.as_ref().ok_or_else(gone)?;
        wire::send(socket, request, fds)?;
        let (reply, fds) = wire::receive(socket)?.ok_or_else(gone)?;
        match reply {
            Reply::Failed {
                errno: Some(errno), ..
            } => Err(io::Error::from_raw_os_error(errno)),
            Reply::Failed { message, .. } => Err(io::Error::other(message)),
            reply => Ok((reply, fds)),
        }
    }

    /// Asks for one socket of the helper's network.
    pub(super) fn ask_socket(&self, request: &Request) -> io::Result<OwnedFd> {
        let (_, mut fds) = self.ask(request, &[])?;
        fds.pop()
            .ok_or_else(|| io::Error::other("the helper process gave a wrong answer"))
    }

    /// Starts a program with the given standard streams and listeners.
    pub(crate) fn spawn(
        &self,
        mut launch: Launch,
        stdio: [BorrowedFd<'_>; 3],
        listeners: &[BorrowedFd<'_>],
        service: Option<String>,
    ) -> io::Result<Process> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        launch.listeners = listeners.len();
        let mut fds = stdio.to_vec();
        fds.push(writer.as_fd());
        fds.extend_from_slice(listeners);
        match self.ask(&Request::Spawn { launch, service }, &fds)? {
            (Reply::Spawned { pid }, mut fds) if !fds.is_empty() => Ok(Process {
                pid,
                pidfd: fds.remove(0),
                exit: Mutex::new(reader.into()),
                status: OnceLock::new(),
            }),
            _ => Err(io::Error::other("the helper process gave a wrong answer")),
        }
    }

    /// Registers a command that runs first when the environment ends.
    pub(crate) fn teardown(&self, launch: Launch, limit: Duration) -> io::Result<()> {
        self.ask(&Request::Teardown { launch, limit }, &[])
            .map(drop)
    }

    /// Kills a program that was started, with its process group.
    pub(crate) fn kill_group(&self, process: &Process) -> io::Result<()> {
        let pid = process.pid;
        self.ask(&Request::KillGroup { pid }, &[]).map(drop)
    }

    /// Signals a service, now or at a line of a log; a byte in the pipe tells that
    /// it is done.
    pub(crate) fn strike(
        &self,
        service: &str,
        signal: i32,
        line: Option<(String, String)>,
        told: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let request = Request::Strike {
            service: service.to_owned(),
            signal,
            line,
        };
        self.ask(&request, &[told]).map(drop)
    }

    /// The path as it leads this process to what is in the helper's mount
    /// namespace.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", process.id())).join(path)
    }

    /// Keeps the descriptor open until everything the test started is dead.
    pub(crate) fn hold(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.ask(&Request::Hold, &[fd]).map(drop)
    }

    /// Ends everything and waits until the helper is gone, too.
    pub(crate) fn finish(&self, failed: bool, faults: Vec<String>) -> io::Result<Report> {
        let reply = self.ask(&Request::Finish { failed, faults }, &[])?.0;
        self.socket().take();
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wait()?;
        match reply {
            Reply::Finished(report) => Ok(report),
            _ => Err(io::Error::other("the helper process gave a wrong answer")),
        }
    }
}

/// A program that the helper started for us.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    exit: Mutex<File>,
    status: OnceLock<ExitStatus>,
}

impl Process {
    /// Waits for the end; `None` when the deadline came first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        use std::io::Read;
        if let Some(&status) = self.status.get() {
            return Ok(Some(status));
        }
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&status) = self.status.get() {
            return Ok(Some(status));
        }
        if !readable(&*exit, deadline)? {
            return Ok(None);
        }
        let mut raw = [0; 4];
        exit.read_exact(&mut raw).map_err(|_| {
            io::Error::other("the helper process ended before it told the exit status")
        })?;
        let status = ExitStatus::from_raw(i32::from_le_bytes(raw));
        Ok(Some(*self.status.get_or_init(|| status)))
    }

    /// Becomes readable when the process has ended.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Signals the process; one that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
