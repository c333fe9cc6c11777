//! Starts one program for the test: its environment, directory and descriptors
//! are exactly what the request says.
//!
//! Runs in the helper only, which has a single thread, so the code between
//! `fork` and `exec` may allocate.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::wire::Launch;
use super::{landlock, namespaces};

/// Listeners are handed over from this descriptor on, as `sd_listen_fds(3)` has it.
const FIRST_LISTENER: i32 = 3;
/// At most this many listeners per service.
pub(crate) const MAX_LISTENERS: usize = 16;

/// Occupies the descriptors of listeners, so that nothing else of this process
/// has one of those numbers when a child moves its listeners there.
pub(super) fn reserve_listener_descriptors() -> io::Result<()> {
    let last = FIRST_LISTENER + i32::try_from(MAX_LISTENERS).map_err(io::Error::other)?;
    let null: OwnedFd = std::fs::File::open("/dev/null")?.into();
    for number in FIRST_LISTENER..last {
        if number == null.as_raw_fd() {
            continue;
        }
        // SAFETY: the caller has closed everything from 3 on, and what is put
        // there is never closed again.
        let fd = unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if null.as_raw_fd() < last {
        std::mem::forget(null);
    }
    Ok(())
}

/// A program that was started.
pub(super) struct Spawned {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// Starts the program as the leader of its own process group.
pub(super) fn spawn(
    launch: &Launch,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    listeners: Vec<OwnedFd>,
    mounts: Option<&OwnedFd>,
) -> io::Result<Spawned> {
    if listeners.len() != launch.listeners || listeners.len() > MAX_LISTENERS {
        return Err(io::Error::other("wrong number of listeners"));
    }
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.cwd)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .process_group(0);
    let launch = launch.clone();
    let mounts = mounts.map(|mounts| mounts.try_clone()).transpose()?;
    let last_steps = move || {
        reset_signals()?;
        if let Some(mounts) = &mounts {
            namespaces::join(mounts, &launch.cwd)?;
        }
        if let Some(ports) = &launch.tcp_ports {
            landlock::restrict(ports)?;
        }
        if listeners.is_empty() {
            Ok(())
        } else {
            exec_with_listeners(&launch, &listeners)
        }
    };
    // SAFETY: this process has one thread, so its child may do what any process
    // may.
    unsafe { command.pre_exec(last_steps) };
    let child = command.spawn()?;
    let pid = child.id();
    // The child cannot have been collected yet: only this thread collects.
    let pidfd = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no process id"))
        .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))?;
    Ok(Spawned { pid, pidfd })
}

/// No signal blocked, none ignored: this process waits for signals with them
/// blocked, and whoever started the tests may have ignored some (`nohup`). The
/// standard library resets neither.
fn reset_signals() -> io::Result<()> {
    // SAFETY: the set is initialised before it is used, and default actions
    // touch no memory.
    let changed = unsafe {
        for signal in 1..32 {
            // Fails for SIGKILL and SIGSTOP, which cannot be ignored.
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    if changed < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Moves the listeners into place and executes the program; `LISTEN_PID` has to
/// name the process that is to be the service, which is known only here.
fn exec_with_listeners(launch: &Launch, listeners: &[OwnedFd]) -> io::Result<()> {
    for (number, listener) in (FIRST_LISTENER..).zip(listeners) {
        // SAFETY: both are descriptors; the target is one of the reserved ones.
        if unsafe { libc::dup2(listener.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let program = c_string(launch.program.as_os_str())?;
    let mut args = vec![program.clone()];
    for arg in &launch.args {
        args.push(c_string(arg)?);
    }
    let mut env = vec![CString::new(format!("LISTEN_PID={}", std::process::id()))?];
    for (name, value) in &launch.env {
        let mut entry = OsString::from(name);
        entry.push("=");
        entry.push(value);
        env.push(c_string(&entry)?);
    }
    let args = pointers(&args);
    let env = pointers(&env);
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Err(io::Error::last_os_error())
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Takes over descriptor 0 and its siblings are left; everything from 3 on that
/// was inherited is closed, so that no pipe of the test stays open here.
pub(super) fn close_inherited() {
    // SAFETY: nothing in this fresh process owns a descriptor above 2.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}

/// A descriptor that becomes readable when one of the signals arrives; the
/// signals are blocked from now on (programs we start get a clean mask).
pub(super) fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used, and the
    // returned descriptor belongs to nobody else.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
