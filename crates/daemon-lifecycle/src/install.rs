//! Putting a program in place: a copy that was verified before anybody can see it,
//! and a record of what was done.
//!
//! The record lies beside the program, as `.NAME.install.json`. It is written before
//! the program and names the old content and the new one, so that a crash at any
//! moment leaves a program that the record knows.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use daemon_contract::{InstallConfig, InstallResult, TimeError, UnixTime};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::build_id::sha256;

/// More than any record.
const RECORD_LIMIT: u64 = 64 << 10;

/// What was installed, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstallRecord {
    /// The name of the program.
    pub binary_name: String,
    /// Where it was copied from.
    pub source: PathBuf,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the content that it replaces, until that has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// When.
    pub install_time: UnixTime,
    /// The job on whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl InstallRecord {
    /// Whether a file with this hash is what was installed.
    pub(crate) fn knows(&self, sha256: &str) -> bool {
        self.sha256 == sha256 || self.replaces.as_deref() == Some(sha256)
    }
}

/// Why a program was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The name is not one of a file.
    #[error("`{name}` is not the name of a program")]
    Name {
        /// The name.
        name: String,
    },
    /// Nobody said where to, and there is no home.
    #[error("there is no place for programs of this user: `HOME` is not set; give a target")]
    NoHome,
    /// The source is no program.
    #[error("`{path}` is not a program: {reason}")]
    Source {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something is in the place that was not installed by this.
    #[error("`{path}` {what}; it was left alone (remove it, or install elsewhere)")]
    Occupied {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Everybody may change the folder.
    #[error("the folder `{folder}` may be changed by everybody, so nothing is installed in it")]
    OpenFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The copy is not what was read.
    #[error(
        "the copy of `{path}` has another content than the original; was it changed meanwhile?"
    )]
    Differs {
        /// The source.
        path: PathBuf,
    },
    /// The clock shows no usable time.
    #[error("could not tell the time of the installation")]
    Time(#[from] TimeError),
    /// The system refused.
    #[error("could not {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Installs a program.
///
/// Without a source it is the program of that name beside the one that runs; without
/// a target it goes to `$XDG_BIN_HOME`, else `~/.local/bin`. What is there is replaced
/// at once by the complete copy if it was installed before and not changed since; a
/// program that runs goes on with its old content.
///
/// # Errors
/// If the source is no program, the place is taken, or the system refuses. What was
/// there is still there then.
pub fn install(config: &InstallConfig) -> Result<InstallResult, InstallError> {
    let name = check_name(&config.binary_name)?;
    let source = match &config.binary_path {
        Some(path) => std::path::absolute(path).map_err(failed("find", path))?,
        None => beside(name)?,
    };
    let target = match &config.target_path {
        Some(path) => std::path::absolute(path).map_err(failed("find", path))?,
        None => user_folder()?.join(name),
    };
    let (Some(folder), Some(_)) = (target.parent(), target.file_name()) else {
        return Err(InstallError::Name {
            name: target.display().to_string(),
        });
    };
    let mut program = open_program(&source)?;
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    let _turn = lock_folder(folder)?;
    let replaces = what_is_replaced(&target)?;

    let copy = Unfinished::at(hidden(&target, "new"));
    let sha256 = copy_verified(&mut program, &source, &copy.0)?;
    let record = InstallRecord {
        binary_name: name.to_owned(),
        source,
        sha256,
        replaces,
        install_time: UnixTime::try_from(SystemTime::now())?,
        job_id: config.job_id.clone(),
    };
    write_record(&target, &record)?;
    fs::rename(&copy.0, &target).map_err(failed("replace", &target))?;
    let record = InstallRecord {
        replaces: None,
        ..record
    };
    write_record(&target, &record)?;
    sync_folder(folder)?;
    Ok(InstallResult::new(target, record.install_time))
}

fn check_name(name: &str) -> Result<&str, InstallError> {
    let plain = Path::new(name).file_name().and_then(|n| n.to_str()) == Some(name);
    if plain && !name.contains('\0') {
        return Ok(name);
    }
    Err(InstallError::Name {
        name: name.to_owned(),
    })
}

fn beside(name: &str) -> Result<PathBuf, InstallError> {
    let own = env::current_exe().map_err(failed("find the folder of", Path::new(name)))?;
    Ok(own.with_file_name(name))
}

fn user_folder() -> Result<PathBuf, InstallError> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_BIN_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/bin")))
        .ok_or(InstallError::NoHome)
}

fn open_program(path: &Path) -> Result<File, InstallError> {
    let file = File::options()
        .read(true)
        // A pipe in its place must not block us.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(failed("read", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    let reason = if !metadata.is_file() {
        "it is not a regular file"
    } else if metadata.len() == 0 {
        "it is empty"
    } else if metadata.mode() & 0o111 == 0 {
        "nobody may execute it"
    } else {
        return Ok(file);
    };
    Err(InstallError::Source {
        path: path.to_owned(),
        reason,
    })
}

/// One installation or removal in a folder at a time; it leaves no file behind.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, InstallError> {
    let file = File::open(folder).map_err(failed("open", folder))?;
    let mode = file.metadata().map_err(failed("look at", folder))?.mode();
    if mode & 0o1002 == 0o002 {
        return Err(InstallError::OpenFolder {
            folder: folder.to_owned(),
        });
    }
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
        .map_err(|error| failed("lock", folder)(error.into()))?;
    Ok(file)
}

/// The hash of what is in the place, which must be what the record knows.
fn what_is_replaced(target: &Path) -> Result<Option<String>, InstallError> {
    let occupied = |what| {
        Err(InstallError::Occupied {
            path: target.to_owned(),
            what,
        })
    };
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at", target)(error)),
        Ok(metadata) if !metadata.is_file() => return occupied("is not a regular file"),
        Ok(_) => {}
    }
    let Some(record) = read_record(target) else {
        return occupied("is there and was not installed by this");
    };
    let hash = hash_file(target).map_err(failed("read", target))?;
    if record.knows(&hash) {
        Ok(Some(hash))
    } else {
        occupied("was changed since it was installed")
    }
}

pub(crate) fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::options()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    sha256(&mut file)
}

/// Copies, brings the copy to the disk, and reads both again: what is installed is
/// what the source has afterwards too.
fn copy_verified(program: &mut File, source: &Path, copy: &Path) -> Result<String, InstallError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o700)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(copy)
        .map_err(failed("create", copy))?;
    io::copy(program, &mut file).map_err(failed("copy", source))?;
    file.set_permissions(fs::Permissions::from_mode(0o755))
        .map_err(failed("make executable", copy))?;
    file.sync_all().map_err(failed("write", copy))?;
    let copied = hash_file(copy).map_err(failed("read", copy))?;
    io::Seek::rewind(program).map_err(failed("read", source))?;
    let original = sha256(program).map_err(failed("read", source))?;
    if copied != original {
        return Err(InstallError::Differs {
            path: source.to_owned(),
        });
    }
    Ok(copied)
}

/// `.NAME.WHAT` beside `target`.
fn hidden(target: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".");
    name.push(what);
    target.with_file_name(name)
}

/// Where the record of a program lies.
pub(crate) fn record_path(target: &Path) -> PathBuf {
    hidden(target, "install.json")
}

/// The record of a program; `None` if there is none that can be understood.
pub(crate) fn read_record(target: &Path) -> Option<InstallRecord> {
    let mut text = String::new();
    File::options()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(record_path(target))
        .ok()?
        .take(RECORD_LIMIT)
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

fn write_record(target: &Path, record: &InstallRecord) -> Result<(), InstallError> {
    let path = record_path(target);
    let new = Unfinished::at(hidden(&path, "new"));
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&new.0)?;
        file.write_all(serde_json::to_string_pretty(record)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new.0, &path)
    };
    write().map_err(failed("write", &path))
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), InstallError> {
    let file = File::open(folder).map_err(failed("open", folder))?;
    rustix::fs::fsync(file.as_fd()).map_err(|error| failed("write", folder)(error.into()))
}

/// A file that is removed unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    /// What a crash left there is nobody's, since the folder is locked.
    fn at(path: PathBuf) -> Unfinished {
        drop(fs::remove_file(&path));
        Unfinished(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
