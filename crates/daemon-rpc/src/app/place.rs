//! Where the daemon of a program and a user has its socket, lock and log.
//!
//! `$XDG_RUNTIME_DIR/<name>/`, else `/tmp/<name>-<uid>/`: the folder is made for
//! this user alone and refused if it is not (daemon-lifecycle checks). The log is
//! in `$XDG_STATE_HOME/<name>/`, else `~/.local/state/<name>/`, else beside the
//! socket. (XDG Base Directory Specification 0.8.)

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use daemon_contract::Endpoint;
use daemon_lifecycle::ServiceSpec;

use crate::client::{ClientConfig, Daemon, OnOtherBuild, Start};

/// Variables that the daemon gets: what a process needs to find programs and
/// directories. Whatever else a command needs travels with it.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "RUST_BACKTRACE",
];

/// Why there is no place for a daemon.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The name could not be part of a path.
    #[error("`{name}` is no name for a daemon: letters, digits, `-` and `_` are")]
    Name {
        /// The name.
        name: String,
    },
    /// The program does not know where it is.
    #[error("could not find the executable of this process")]
    Program(#[source] io::Error),
}

pub(super) fn daemon(
    name: &str,
    version: &str,
    config: ClientConfig,
) -> Result<Daemon, PlaceError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(PlaceError::Name {
            name: name.to_owned(),
        });
    }
    let program = env::current_exe().map_err(PlaceError::Program)?;
    let folder = runtime_folder(name);
    let log = state_folder(name)
        .unwrap_or_else(|| folder.clone())
        .join("daemon.log");
    let on_other_build = if is_replaced(&program) {
        // The program on disk is a newer one: a daemon of that is right, and this
        // process is what is left of the older one.
        OnOtherBuild::Keep
    } else {
        OnOtherBuild::Replace
    };
    let start = Start {
        service: ServiceSpec {
            program,
            args: Vec::new(),
            env: passed_on(),
            log,
            lifeline: false,
        },
        lock: folder.join("start.lock"),
    };
    let endpoint = Endpoint::Unix(folder.join("sock"));
    Ok(Daemon::new(endpoint, version, config)
        .started_by(start)
        .on_other_build(on_other_build))
}

/// Whether the user wants no daemon.
pub(super) fn is_in_process(name: &str) -> bool {
    let variable = name.to_ascii_uppercase().replace('-', "_") + "_DAEMON";
    env::var_os(variable).is_some_and(|value| value == "0")
}

fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

fn runtime_folder(name: &str) -> PathBuf {
    match absolute("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join(name),
        None => {
            let user = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/tmp/{name}-{user}"))
        }
    }
}

fn state_folder(name: &str) -> Option<PathBuf> {
    let folder =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(folder.join(name))
}

/// Whether the file of this process's program was removed or replaced.
fn is_replaced(program: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(running), Ok(on_disk)) = (
        std::fs::metadata("/proc/self/exe"),
        std::fs::metadata(program),
    ) else {
        return true;
    };
    (running.dev(), running.ino()) != (on_disk.dev(), on_disk.ino())
}

fn passed_on() -> Vec<(OsString, OsString)> {
    PASSED_ON
        .iter()
        .filter_map(|name| Some((OsString::from(name), env::var_os(name)?)))
        .collect()
}
