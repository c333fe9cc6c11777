//! PID 1 of a sandbox: builds the root, starts the command, reaps, looks at what was read, reports.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::time::Timespec;

use crate::error::SetupFailure;
use crate::failure::Step;
use crate::observe::Copy;
use crate::privileges::{self, Outside};
use crate::probe::Tier;
use crate::report::{Ending, Report, Usage};
use crate::root::Sources;
use crate::spec::{MountKind, Spec};
use crate::wire::{Envelope, Message};
use crate::{command, stage};

/// What stage one hands over by forking.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) socket: &'a UnixStream,
    /// Closed on the other side when stage one is gone.
    pub(crate) watched: OwnedFd,
    pub(crate) envelope: Envelope,
    /// Standard output, standard error, then the inherited ones.
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) tier: Tier,
    pub(crate) outside: Outside,
}

/// Do it; never returns.
pub(crate) fn run(job: Job<'_>) -> ! {
    let socket = job.socket;
    let message = match run_command(job) {
        Ok(report) => Message::Done(report),
        Err(failure) => Message::Failed(failure),
    };
    stage::report(socket, &message);
    std::process::exit(0)
}

fn run_command(job: Job<'_>) -> Result<Report, SetupFailure> {
    die_with_stage_one(&job.watched)?;
    // The command has the same user id; it must not look into this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .step("protect", "PID 1 of the sandbox")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::system::sethostname(b"vx").step("set", "the host name")?;
    bring_loopback_up()?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .step("make private", "/")?;
    let spec = &job.envelope.spec;
    if job.tier == Tier::RootOnly {
        give_writable_places_away(spec)?;
    }
    let copies = Sources::collect(spec)?.become_root(&spec.cwd, job.outside.is_root())?;
    let child = command::start(spec, &job.envelope.inherited, job.descriptors, job.tier)?;
    let ending = reap_until(child)?;
    Ok(finish(ending, &copies, job.tier))
}

fn die_with_stage_one(watched: &OwnedFd) -> Result<(), SetupFailure> {
    privileges::die_with_parent()?;
    // If stage one ended before that, the pipe says so.
    let mut pipe = [PollFd::new(watched, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut pipe, Some(&now)).step("watch", "stage one")? {
        0 => Ok(()),
        _ => std::process::exit(1),
    }
}

/// Programs that test themselves talk to themselves; there is nobody else on this network.
fn bring_loopback_up() -> Result<(), SetupFailure> {
    let subject = "the loopback interface";
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .step("reach", subject)?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a complete `ifreq` that outlives the call.
    let result = unsafe {
        libc::ioctl(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).step("start", subject)
    }
}

/// Without a user namespace the command runs as nobody, who owns nothing yet.
fn give_writable_places_away(spec: &Spec) -> Result<(), SetupFailure> {
    for mount in &spec.mounts {
        let MountKind::WritableDir { host_dir } = &mount.kind else {
            continue;
        };
        let mut pending = vec![host_dir.clone()];
        while let Some(path) = pending.pop() {
            let nobody = Some(privileges::NOBODY);
            std::os::unix::fs::lchown(&path, nobody, nobody).step("hand over", path.display())?;
            if !path
                .symlink_metadata()
                .step("look at", path.display())?
                .is_dir()
            {
                continue;
            }
            for entry in std::fs::read_dir(&path).step("list", path.display())? {
                pending.push(entry.step("list", path.display())?.path());
            }
        }
    }
    Ok(())
}

/// Reap whatever ends until the command itself does.
fn reap_until(child: libc::pid_t) -> Result<Ending, SetupFailure> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == child {
            return Ok(if libc::WIFSIGNALED(status) {
                Ending::Signaled(libc::WTERMSIG(status))
            } else {
                Ending::Exited(libc::WEXITSTATUS(status))
            });
        }
        if pid == -1 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error).step("wait for", "the command");
            }
        }
    }
}

/// End what the command left behind, so that nobody writes to the outputs any more, and take stock.
fn finish(ending: Ending, copies: &[Copy], tier: Tier) -> Report {
    // From PID 1 this reaches every process of the namespace but itself; with none left it fails, rightly.
    // SAFETY: plain system calls; -1 means every process that may be signalled.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
        while libc::waitpid(-1, std::ptr::null_mut(), 0) > 0
            || *libc::__errno_location() == libc::EINTR
        {}
    }
    Report {
        ending,
        usage: usage(),
        observed: copies.iter().map(Copy::observed).collect(),
        tier,
    }
}

fn usage() -> Usage {
    // SAFETY: all zeroes is a valid `rusage`, and it outlives the call.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used);
        used
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Usage {
        user: duration(used.ru_utime),
        system: duration(used.ru_stime),
        max_rss: used.ru_maxrss.unsigned_abs() * 1024,
    }
}
