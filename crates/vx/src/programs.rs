//! Where the programs of vx are: beside this one, else on `PATH`.

use std::path::{Path, PathBuf};

/// The program `name`, when there is one that can be executed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    beside(name).or_else(|| on_path(name))
}

/// A program of the same installation.
fn beside(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.with_file_name(name);
    is_program(&program).then_some(program)
}

/// A program on `PATH`. Relative entries are skipped: what they mean depends on
/// where one stands.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
