//! `vrift-daemon install --user`: a service of one person, without any privilege.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform;

/// Writes the units of a service for the user whose home directory this is, and returns their paths.
///
/// On Linux these are a socket and a service of systemd, on macOS an agent of launchd; the store is `~/.vrift`.
///
/// # Errors
/// When a file cannot be written.
pub fn install_for_user(home: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (path, text) in platform::units(home, program) {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}
