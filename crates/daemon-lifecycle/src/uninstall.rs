//! Taking away a program that was installed, and nothing else.

use std::fs;
use std::io;
use std::path::PathBuf;

use daemon_contract::UninstallConfig;

use crate::install::{InstallError, hash_file, lock_folder, read_record, record_path, sync_folder};

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uninstalled {
    /// The program and its record.
    Removed,
    /// The record; somebody had removed the program before.
    WasGone,
    /// Nothing: neither was there.
    NotInstalled,
}

/// Why a program was not taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UninstallError {
    /// What is there was not installed, or is something else by now.
    #[error("`{path}` {reason}; it was left alone")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] InstallError),
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

/// Takes a program away that [`install`](crate::install) put there, if it still is
/// what was installed. A daemon that runs is not ended.
///
/// # Errors
/// [`UninstallError::NotOurs`] if there is no record, or of another daemon, or the file
/// was changed or replaced since; it is still there then.
pub fn uninstall(config: &UninstallConfig) -> Result<Uninstalled, UninstallError> {
    let failed = |action| {
        move |source| UninstallError::Io {
            action,
            path: config.install_path.clone(),
            source,
        }
    };
    let target = std::path::absolute(&config.install_path).map_err(failed("find"))?;
    let not_ours = |reason: String| UninstallError::NotOurs {
        path: target.clone(),
        reason,
    };
    let Some(folder) = target.parent() else {
        return Err(not_ours("is not a program".to_owned()));
    };
    if !folder.exists() {
        return Ok(Uninstalled::NotInstalled);
    }
    let _turn = lock_folder(folder)?;
    let metadata = match fs::symlink_metadata(&target) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("look at")(error)),
    };
    let record = match (read_record(&target), &metadata) {
        (Some(record), _) => record,
        (None, None) => return Ok(Uninstalled::NotInstalled),
        (None, Some(_)) => return Err(not_ours("was not installed by this".to_owned())),
    };
    if record.binary_name != config.daemon_name {
        return Err(not_ours(format!(
            "was installed as `{}`",
            record.binary_name
        )));
    }
    if let Some(metadata) = &metadata {
        if !metadata.is_file() {
            return Err(not_ours("is not a regular file any more".to_owned()));
        }
        let hash = hash_file(&target).map_err(failed("read"))?;
        if !record.knows(&hash) {
            return Err(not_ours("was changed since it was installed".to_owned()));
        }
        fs::remove_file(&target).map_err(failed("remove"))?;
    }
    // Last, so that after a crash it still tells whose the program is.
    fs::remove_file(record_path(&target)).map_err(failed("remove the record of"))?;
    sync_folder(folder)?;
    Ok(match metadata {
        Some(_) => Uninstalled::Removed,
        None => Uninstalled::WasGone,
    })
}
