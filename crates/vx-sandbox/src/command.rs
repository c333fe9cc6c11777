//! The last step: the process that becomes the command.

use std::ffi::{CString, NulError};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use crate::error::SetupFailure;
use crate::failure::{Step, failure, invalid};
use crate::privileges;
use crate::probe::Tier;
use crate::spec::Spec;

/// Descriptors above this are free for passing others around; low enough for every limit on open files.
const HIGH: RawFd = 256;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Fork and execute; the answer is the command's process id, once it really runs.
pub(crate) fn start(
    spec: &Spec,
    inherited: &[RawFd],
    descriptors: Vec<OwnedFd>,
    tier: Tier,
) -> Result<libc::pid_t, SetupFailure> {
    let image = Image::of(spec)?;
    let (hear, tell) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step("make", "the start pipe")?;
    // SAFETY: this process has a single thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).step("start", &spec.argv[0]),
        0 => {
            drop(hear);
            // Out of the way of the numbers that the command's descriptors get.
            let tell = rustix::io::fcntl_dupfd_cloexec(&tell, HIGH).unwrap_or(tell);
            let problem = match become_command(spec, &image, inherited, &descriptors, tier) {
                Ok(never) => match never {},
                Err(problem) => problem,
            };
            // What was placed over them is not theirs to close.
            std::mem::forget(descriptors);
            if let Ok(text) = serde_json::to_vec(&problem) {
                // A parent that is gone needs no reason.
                let _ = rustix::io::write(&tell, &text);
            }
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(126) }
        }
        child => {
            drop((tell, descriptors));
            let mut text = Vec::new();
            // The pipe closes without a word when the program starts.
            std::fs::File::from(hear)
                .read_to_end(&mut text)
                .step("start", &spec.argv[0])?;
            if text.is_empty() {
                return Ok(child);
            }
            Err(serde_json::from_slice(&text).unwrap_or_else(|_| invalid("start", &spec.argv[0])))
        }
    }
}

/// Arguments, environment and candidate programs in the form the kernel takes, made before the fork.
#[derive(Debug)]
struct Image {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn of(spec: &Spec) -> Result<Image, SetupFailure> {
        let nul = |_: NulError| invalid("pass", "an argument or variable with a NUL byte");
        let name = &spec.argv[0];
        let programs = if name.contains('/') {
            vec![CString::new(name.as_str()).map_err(nul)?]
        } else {
            let path = spec.env.iter().rfind(|(key, _)| key == "PATH");
            let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_str());
            let folders = path.split(':').filter(|folder| !folder.is_empty());
            folders
                .map(|folder| CString::new(format!("{folder}/{name}")).map_err(nul))
                .collect::<Result<_, _>>()?
        };
        let argv = spec
            .argv
            .iter()
            .map(|text| CString::new(text.as_str()).map_err(nul));
        let env = spec
            .env
            .iter()
            .map(|(key, value)| CString::new(format!("{key}={value}")).map_err(nul));
        Ok(Image {
            programs,
            argv: argv.collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
        })
    }
}

enum Never {}

fn become_command(
    spec: &Spec,
    image: &Image,
    inherited: &[RawFd],
    descriptors: &[OwnedFd],
    tier: Tier,
) -> Result<Never, SetupFailure> {
    rustix::process::setsid().step("make", "a session")?;
    place_descriptors(inherited, descriptors)?;
    reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let no_core = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, no_core)
        .step("limit", "core dumps")?;
    privileges::give_up(tier)?;
    rustix::process::chdir(&spec.cwd).step("enter", spec.cwd.display())?;
    Err(execute(spec, image))
}

/// Standard streams at 0 to 2, the inherited ones at their numbers; everything else closes on execution.
fn place_descriptors(inherited: &[RawFd], descriptors: &[OwnedFd]) -> Result<(), SetupFailure> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step("open", "/dev/null")?;
    let targets: Vec<RawFd> = [1, 2]
        .into_iter()
        .chain(inherited.iter().copied())
        .collect();
    if targets
        .iter()
        .skip(2)
        .any(|number| !(3..HIGH).contains(number))
    {
        return Err(invalid("pass", "a descriptor outside 3 to 255"));
    }
    // First out of the way of all targets, then into place; what is closed after that may be a target already.
    let mut moved = vec![(rustix::io::fcntl_dupfd_cloexec(&null, HIGH), 0)];
    drop(null);
    for (descriptor, target) in descriptors.iter().zip(&targets) {
        moved.push((rustix::io::fcntl_dupfd_cloexec(descriptor, HIGH), *target));
    }
    for (source, target) in moved {
        let source = source.step("pass", format!("descriptor {target}"))?;
        // SAFETY: plain system call; what stood at `target` belongs to this process, which is about to be replaced.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } == -1 {
            return Err(std::io::Error::last_os_error())
                .step("pass", format!("descriptor {target}"));
        }
        // SAFETY: `dup2` has just opened it.
        let placed = unsafe { BorrowedFd::borrow_raw(target) };
        rustix::io::fcntl_setfd(placed, rustix::io::FdFlags::empty())
            .step("pass", format!("descriptor {target}"))?;
    }
    Ok(())
}

/// Ignored signals survive an execution; a command starts with none.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: restores the default action; those that cannot be changed are refused, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is a valid mask and outlives the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Returns only if no candidate could be executed, with the most telling reason.
fn execute(spec: &Spec, image: &Image) -> SetupFailure {
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(&image.argv), pointers(&image.env));
    let mut reason = libc::ENOENT;
    for program in &image.programs {
        // SAFETY: all three point to NUL-terminated data that lives until the call returns.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) | None => {}
            Some(errno) => reason = errno,
        }
    }
    failure(SetupFailure::EXECUTE, &spec.argv[0], reason)
}
