//! Starting a program with exactly the descriptors, environment and signals that
//! it is meant to have.
//!
//! `posix_spawn` instead of fork: a fork of a process with a gigabyte of memory
//! takes tens of milliseconds, and what may be done between fork and exec in a
//! process with threads is next to nothing.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::handed::{Handed, LIFE_LOCK_VARIABLE, READY_VARIABLE};
use crate::inherited::{LISTEN_FDS, LISTENER_FD};
use crate::instance::INSTANCE_VARIABLE;
use crate::lifeline::LIFELINE_VARIABLE;
use crate::report::Report;
use crate::{Instance, Listener};

/// A service to start.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// The program. A relative path is taken from the current directory; `PATH`
    /// is not searched.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard output and error are appended here. The folder is made if it
    /// is not there.
    pub log: PathBuf,
    /// Whether a [`SpawnTracker`](crate::SpawnTracker) gives it a lifeline, so
    /// that it ends when the starter does.
    pub lifeline: bool,
}

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program could not be executed.
    #[error("could not start `{program}`")]
    Exec {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The log could not be opened.
    #[error("could not open the log `{log}`")]
    Log {
        /// The log.
        log: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An argument or a variable contains a NUL, which no program can receive.
    #[error("`{text}` contains a NUL and cannot be passed to a program")]
    Nul {
        /// The text.
        text: String,
    },
    /// The system could not make a pipe or a handle.
    #[error("could not prepare the start of `{program}`")]
    Prepare {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A child that was started and not yet reaped.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) report: Report,
}

/// Starts `spec` with `listener`, if any, as descriptor 3 and what else is `handed`
/// from 4 on.
pub(crate) fn spawn(
    spec: &ServiceSpec,
    listener: Option<&Listener>,
    handed: Handed<'_>,
) -> Result<Spawned, SpawnError> {
    let prepare = |source: io::Error| SpawnError::Prepare {
        program: spec.program.clone(),
        source,
    };
    let log_error = |source| SpawnError::Log {
        log: spec.log.clone(),
        source,
    };
    // The child changes its directory before it executes the program.
    let program = std::path::absolute(&spec.program).map_err(prepare)?;
    let log = open_log(&spec.log).map_err(log_error)?;
    let report = Report {
        program: program.clone(),
        log: spec.log.clone(),
        log_start: log.metadata().map_err(log_error)?.len(),
    };
    let null = File::open("/dev/null").map_err(prepare)?;
    let mut actions = FileActions::new().map_err(prepare)?;
    // Sources are moved out of the way first: a source that happens to have the
    // number of another one's destination would be overwritten.
    let mut moved = Vec::new();
    let mut pass = |fd: &dyn AsFdDyn, to: &[RawFd]| -> io::Result<()> {
        let high = fcntl_dupfd_cloexec(fd.fd(), 16)?;
        for &to in to {
            actions.dup2(high.as_raw_fd(), to)?;
        }
        moved.push(high);
        Ok(())
    };
    match listener {
        Some(listener) => pass(listener, &[LISTENER_FD]),
        // So that nothing of ours can stand in its place.
        None => pass(&null, &[LISTENER_FD]),
    }
    .map_err(prepare)?;
    let instance = handed.instance.and_then(Instance::to_variable);
    let handed = handed.numbered();
    for (_, fd, number) in &handed {
        pass(fd, &[*number]).map_err(prepare)?;
    }
    pass(&log, &[1, 2]).map_err(prepare)?;
    pass(&null, &[0]).map_err(prepare)?;
    let first_unused = handed.last().map_or(LISTENER_FD, |(_, _, last)| *last) + 1;
    actions.close_from(first_unused).map_err(prepare)?;
    actions.change_directory(c"/").map_err(prepare)?;

    let program_name = c_string(program.as_os_str())?;
    let mut args = vec![program_name.clone()];
    for arg in &spec.args {
        args.push(c_string(arg)?);
    }
    let mut env = environment(spec, listener.is_some(), &handed)?;
    if let Some(instance) = instance {
        let text = format!("{INSTANCE_VARIABLE}={instance}");
        env.push(c_string(OsStr::new(&text))?);
    }
    let attributes = Attributes::new().map_err(prepare)?;
    let pid = posix_spawn(&program_name, &actions, &attributes, &args, &env).map_err(|source| {
        SpawnError::Exec {
            program: program.clone(),
            source,
        }
    })?;
    // Nobody else reaps our child, so the number is still its own.
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Spawned { pid, pidfd, report }),
        Err(error) => {
            // Without a handle it could never be stopped safely later.
            let _killed = kill_process(pid, Signal::KILL);
            let _reaped = waitpid(Some(pid), WaitOptions::empty());
            Err(prepare(error.into()))
        }
    }
}

/// `AsFd` for a list of different things.
trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

fn open_log(log: &Path) -> io::Result<File> {
    if let Some(folder) = log.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(log)
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| SpawnError::Nul {
        text: text.to_string_lossy().into_owned(),
    })
}

/// The variables of `spec`, with ours instead of whatever it says about them.
fn environment(
    spec: &ServiceSpec,
    listener: bool,
    handed: &[(&'static str, BorrowedFd<'_>, RawFd)],
) -> Result<Vec<CString>, SpawnError> {
    let own = [
        LISTEN_FDS,
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        LIFELINE_VARIABLE,
        LIFE_LOCK_VARIABLE,
        READY_VARIABLE,
        INSTANCE_VARIABLE,
    ];
    let mut env = Vec::with_capacity(spec.env.len() + 1 + handed.len());
    for (name, value) in &spec.env {
        if own.iter().any(|own| name == own) {
            continue;
        }
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        env.push(c_string(&text)?);
    }
    if listener {
        env.push(c_string(OsStr::new(&format!("{LISTEN_FDS}=1")))?);
    }
    for (variable, _, number) in handed {
        let text = format!("{variable}={number}");
        env.push(c_string(OsStr::new(&text))?);
    }
    Ok(env)
}

fn posix_spawn(
    program: &CString,
    actions: &FileActions,
    attributes: &Attributes,
    args: &[CString],
    env: &[CString],
) -> io::Result<Pid> {
    let pointers = |list: &[CString]| -> Vec<*mut libc::c_char> {
        list.iter()
            .map(|text| text.as_ptr().cast_mut())
            .chain([ptr::null_mut()])
            .collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    let mut pid = 0;
    // SAFETY: the lists end with a null pointer and point to strings that live
    // until the call returns, which does not write to them; actions and
    // attributes were initialised by their constructors.
    let code = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            &actions.0,
            &attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    };
    check(code)?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("the system started no process"))
}

/// These functions return the error instead of setting `errno`.
fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// What happens to descriptors and directory in the child, in order.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<FileActions> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the function initialises what it is given.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it was initialised.
        Ok(FileActions(unsafe { raw.assume_init() }))
    }

    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: initialised; the descriptors are only numbers here.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, from, to) })
    }

    /// All our descriptors are closed at exec anyway; this is for those of
    /// libraries that forgot to say so.
    #[cfg(target_env = "gnu")]
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // SAFETY: initialised.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut self.0, first) })
    }

    #[cfg(not(target_env = "gnu"))]
    #[expect(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "the signature of the other variant"
    )]
    fn close_from(&mut self, _first: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn change_directory(&mut self, to: &std::ffi::CStr) -> io::Result<()> {
        // SAFETY: initialised; the text is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, to.as_ptr()) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised, and never used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Session and signals of the child.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A session of its own (so that the terminal's signals do not reach it), no
    /// blocked signals, and the default reaction to each.
    fn new() -> io::Result<Attributes> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the function initialises what it is given.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it was initialised.
        let mut attributes = Attributes(unsafe { raw.assume_init() });
        let flags = libc::POSIX_SPAWN_SETSID
            | libc::POSIX_SPAWN_SETSIGDEF as libc::c_short
            | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        let mut signals = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised; `signals` is initialised by
        // each of the two functions before it is read.
        unsafe {
            check(libc::posix_spawnattr_setflags(&mut attributes.0, flags))?;
            libc::sigemptyset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigmask(
                &mut attributes.0,
                signals.as_ptr(),
            ))?;
            libc::sigfillset(signals.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(
                &mut attributes.0,
                signals.as_ptr(),
            ))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and never used again.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}
