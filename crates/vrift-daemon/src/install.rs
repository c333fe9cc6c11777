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
/// When a file cannot be written; the error names it.
pub fn install_for_user(home: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (path, text) in platform::units(home, program) {
        let write = || -> io::Result<()> {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(&path, text)
        };
        write().map_err(|error| {
            let text = format!("could not write `{}`: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_start_this_program_and_an_obstacle_is_named() {
        let home = tempfile::tempdir().unwrap();
        let program = Path::new("/opt/with \"quotes\" & %h/vrift-daemon");
        let written = install_for_user(home.path(), program).unwrap();
        let text: String = written
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        assert!(text.contains("--private"), "{text}");
        assert!(!text.contains(program.to_str().unwrap()), "it is escaped");
        let obstacle = home.path().join("file");
        fs::write(&obstacle, "").unwrap();
        let error = install_for_user(&obstacle, program).unwrap_err();
        let named = error.to_string().contains(obstacle.to_str().unwrap());
        assert!(named, "{error}");
    }
}
