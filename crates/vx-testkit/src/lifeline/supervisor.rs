//! The helper process: starts what the test asks for, and ends all of it.
//!
//! It knows nothing of test harnesses and asserts nothing. It has one thread and
//! one loop, which waits for the test, for children and for signals.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open};

use super::logs::Logs;
use super::namespaces::Namespaces;
use super::sockets;
use super::spawn;
use super::sweep::Scope;
use super::wire::{self, Context, Launch, Reply, Request};
use crate::tier::Tier;

/// Exit statuses kept as evidence; more than this nobody reads.
const EXITS_MAX: usize = 1000;

/// A program started for the test.
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// Where its exit status goes.
    pub(super) exit: File,
    /// Its name, if it is a service.
    pub(super) service: Option<String>,
    /// Where to tell that it was killed on purpose.
    pub(super) kill_told: Vec<File>,
    /// The command line, for people.
    pub(super) line: String,
}

pub(super) struct Helper {
    socket: UnixStream,
    signals: OwnedFd,
    pub(super) test: Option<OwnedFd>,
    pub(super) scope: Scope,
    pub(super) context: Option<Context>,
    pub(super) children: Vec<Child>,
    pub(super) teardown: Vec<(Launch, Duration)>,
    pub(super) held: Vec<OwnedFd>,
    /// From the first service or fault on.
    pub(super) logs: Option<Logs>,
    pub(super) opened: Instant,
    pub(super) namespaces: Option<Namespaces>,
    /// How programs ended, in that order.
    pub(super) exits: VecDeque<String>,
}

/// Why the helper ends.
pub(super) enum End {
    /// The test asked for it and has its report.
    Finished,
    /// The test process is gone.
    TestGone,
    /// The test runner is gone; the test is to go, too.
    RunnerGone,
    /// Somebody wants this process to end.
    Signalled,
}

/// Runs the helper on its end of the socket; ends the process.
pub(super) fn run(socket: UnixStream) -> ! {
    let code = match prepare(socket) {
        Ok(mut helper) => {
            let end = catch_unwind(AssertUnwindSafe(|| helper.serve()));
            match end {
                Ok(Ok(End::Finished)) => 0,
                Ok(Ok(end)) => helper.end_without_test(&end),
                Ok(Err(_)) | Err(_) => helper.end_without_test(&End::TestGone),
            }
        }
        Err(_) => 71,
    };
    // SAFETY: ends this process; the destructors of the program it is a copy
    // of must not run.
    unsafe { libc::_exit(code) }
}

fn prepare(socket: UnixStream) -> io::Result<Helper> {
    spawn::close_inherited();
    spawn::reserve_listener_descriptors()?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    // Not to be reached by signals to the test's process group. Fails only for
    // a group leader, which has a group of its own already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // SAFETY: ignoring a signal touches no memory of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let signals = spawn::signal_descriptor(&[
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
    ])?;
    let peer = rustix::net::sockopt::socket_peercred(&socket)?.pid;
    Ok(Helper {
        scope: Scope {
            helper: std::process::id(),
            spared: Some(peer.as_raw_nonzero().get().unsigned_abs()),
            init: None,
            tag: String::new(),
        },
        test: pidfd_open(peer, PidfdFlags::empty()).ok(),
        socket,
        signals,
        context: None,
        children: Vec::new(),
        teardown: Vec::new(),
        held: Vec::new(),
        logs: None,
        opened: Instant::now(),
        namespaces: None,
        exits: VecDeque::new(),
    })
}

impl Helper {
    fn serve(&mut self) -> io::Result<End> {
        loop {
            let watch_runner = self
                .context
                .as_ref()
                .is_some_and(|context| context.runner_reads_stderr);
            let stderr = rustix::stdio::stderr();
            let mut fds = vec![
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            let runner = fds.len();
            if watch_runner {
                // Without readers the write end of a pipe reports an error.
                fds.push(PollFd::new(&stderr, PollFlags::empty()));
            }
            if let Some(logs) = &self.logs {
                fds.push(PollFd::new(&logs.events, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let happened: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            self.follow_logs();
            if !happened[1].is_empty() {
                if self.ended_by_signal() {
                    return Ok(End::Signalled);
                }
                self.collect();
            }
            if !happened[0].is_empty() {
                let Some((request, fds)) = wire::receive(&self.socket)? else {
                    return Ok(End::TestGone);
                };
                if let Some(end) = self.answer(request, fds)? {
                    return Ok(end);
                }
            } else if watch_runner && !happened[runner].is_empty() {
                return Ok(End::RunnerGone);
            }
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> io::Result<Option<End>> {
        match request {
            Request::Open(context) => self.open(context)?,
            Request::Spawn { launch, service } => self.spawn(&launch, service, fds)?,
            Request::Strike {
                service,
                signal,
                line,
            } => self.arm(service, signal, line, fds)?,
            Request::Teardown { launch, limit } => {
                self.teardown.push((launch, limit));
                self.reply(&Reply::Done)?;
            }
            Request::KillGroup { pid } => {
                self.kill_group(pid);
                self.reply(&Reply::Done)?;
            }
            Request::Hold => {
                self.held.extend(fds);
                self.reply(&Reply::Done)?;
            }
            Request::Listen { address } => self.give(sockets::listen(address))?,
            Request::Connect { address } => self.give(sockets::connect(address))?,
            Request::Finish { failed, faults } => {
                let report = self.finish(failed, faults);
                self.reply(&Reply::Finished(report))?;
                return Ok(Some(End::Finished));
            }
        }
        Ok(None)
    }

    /// Takes on the test, unless its tier cannot be had.
    fn open(&mut self, context: Context) -> io::Result<()> {
        if context.tier.has_namespaces() {
            match Namespaces::enter(context.tier == Tier::Sealed, &context.disks) {
                Ok(namespaces) => {
                    self.scope.init = Some(namespaces.init);
                    self.namespaces = Some(namespaces);
                }
                Err(error) => return self.refuse(&error),
            }
        }
        self.scope.tag.clone_from(&context.tag);
        self.context = Some(context);
        self.reply(&Reply::Done)
    }

    fn give(&self, made: io::Result<OwnedFd>) -> io::Result<()> {
        match made {
            Ok(fd) => wire::send(&self.socket, &Reply::Done, &[fd.as_fd()]),
            Err(error) => self.refuse(&error),
        }
    }

    pub(super) fn refuse(&self, error: &io::Error) -> io::Result<()> {
        self.reply(&Reply::Failed {
            errno: error.raw_os_error(),
            message: error.to_string(),
        })
    }

    pub(super) fn reply(&self, reply: &Reply) -> io::Result<()> {
        wire::send(&self.socket, reply, &[])
    }

    fn spawn(
        &mut self,
        launch: &Launch,
        service: Option<String>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let (Some(stdin), Some(stdout), Some(stderr), Some(exit)) =
            (fds.next(), fds.next(), fds.next(), fds.next())
        else {
            return Err(io::Error::other("descriptors are missing"));
        };
        if let Some(name) = &service {
            // Before it can say anything.
            let followed = self.logs().and_then(|logs| logs.add(name));
            if let Err(error) = followed {
                return self.refuse(&error);
            }
        }
        let mounts = self.mounts();
        match spawn::spawn(launch, [stdin, stdout, stderr], fds.collect(), mounts) {
            Ok(spawned) => {
                let reply = Reply::Spawned { pid: spawned.pid };
                wire::send(&self.socket, &reply, &[spawned.pidfd.as_fd()])?;
                if let (Some(logs), Some(name)) = (&mut self.logs, &service) {
                    logs.note(name, &format!("started as process {}", spawned.pid));
                }
                self.children.push(Child {
                    pid: spawned.pid,
                    pidfd: spawned.pidfd,
                    exit: exit.into(),
                    service,
                    kill_told: Vec::new(),
                    line: launch.line(),
                });
                Ok(())
            }
            Err(error) => self.refuse(&error),
        }
    }

    pub(super) fn mounts(&self) -> Option<&OwnedFd> {
        self.namespaces
            .as_ref()
            .map(|namespaces| &namespaces.mounts)
    }

    /// Reads pending signals; says whether one of them asks this process to end.
    fn ended_by_signal(&self) -> bool {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        let mut asked = false;
        while let Ok(length) = rustix::io::read(&self.signals, &mut info) {
            if length < 4 {
                break;
            }
            let signal = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            asked |= i32::try_from(signal).is_ok_and(|signal| signal != libc::SIGCHLD);
        }
        asked
    }

    /// Collects children that have ended, adopted ones as well, and tells the
    /// test the exit statuses of those that it started.
    pub(super) fn collect(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if let Some(at) = self.children.iter().position(|child| child.pid == pid) {
                let mut child = self.children.swap_remove(at);
                if self.exits.len() == EXITS_MAX {
                    self.exits.pop_front();
                }
                let status = ExitStatus::from_raw(status.as_raw());
                if status.signal() == Some(libc::SIGKILL) {
                    for mut told in child.kill_told.drain(..) {
                        // Nobody may be interested any more.
                        told.write_all(&[1]).ok();
                    }
                }
                // Nobody may be waiting for it.
                child.exit.write_all(&status.into_raw().to_le_bytes()).ok();
                self.follow_logs();
                if let (Some(logs), Some(name)) = (&mut self.logs, &child.service) {
                    logs.note(name, &format!("ended: {status}"));
                }
                self.exits
                    .push_back(format!("process {pid} `{}`: {status}", child.line));
            }
        }
    }
}
