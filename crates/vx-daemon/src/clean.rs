//! Removes what builds left in a target directory.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vx_proto::command::CleanRequest;

use crate::report::Reporter;
use crate::state::State;

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    /// There is no project.
    #[error("found no Cargo.toml in `{}` or above it", .0.display())]
    NoProject(PathBuf),
    /// Cargo does not say where the target directory is.
    #[error("cannot ask cargo for the target directory: {0}")]
    Cargo(String),
    /// A file cannot be removed.
    #[error("cannot remove `{}`", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Removes the results of one profile, or of all.
pub(crate) async fn clean(
    state: &State,
    request: &CleanRequest,
    reporter: &Reporter,
) -> Result<(), CleanError> {
    let target = match &request.target_dir {
        Some(directory) => request.cwd.join(directory),
        None => target_directory(request).await?,
    };
    let mut path = target.join("vx");
    if let Some(profile) = &request.profile {
        path.push(match profile.as_str() {
            "dev" | "test" => "debug",
            "bench" => "release",
            other => other,
        });
    }
    state.memory.clear();
    match tokio::fs::remove_dir_all(&path).await {
        Ok(()) => reporter.note("Removed", path.display().to_string()).await,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            reporter
                .note(
                    "Removed",
                    format!("nothing: `{}` does not exist", path.display()),
                )
                .await;
        }
        Err(source) => return Err(CleanError::Remove { path, source }),
    }
    Ok(())
}

async fn target_directory(request: &CleanRequest) -> Result<PathBuf, CleanError> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let manifest = match &request.manifest_path {
        Some(path) => request.cwd.join(path),
        None => {
            let cwd = request.cwd.clone();
            tokio::task::spawn_blocking(move || nearest_manifest(&cwd))
                .await
                .map_err(|e| CleanError::Cargo(e.to_string()))??
        }
    };
    let directory = manifest.parent().unwrap_or(Path::new("/")).to_owned();
    let output = tokio::process::Command::new("cargo")
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(&manifest)
        .current_dir(directory)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| CleanError::Cargo(e.to_string()))?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|_| {
        CleanError::Cargo(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    })?;
    Ok(metadata.target_directory)
}

fn nearest_manifest(directory: &Path) -> Result<PathBuf, CleanError> {
    directory
        .ancestors()
        .map(|dir| dir.join("Cargo.toml"))
        .find(|path| path.is_file())
        .ok_or_else(|| CleanError::NoProject(directory.to_owned()))
}
