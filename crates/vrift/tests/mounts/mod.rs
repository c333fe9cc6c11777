//! Shell scripts that mount file systems, where nobody else sees that.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may panic and print like tests"
)]

use std::path::Path;
use std::process::Command;

/// What a script mounts.
#[allow(dead_code, reason = "each test file uses one of them")]
#[derive(Clone, Copy)]
pub(crate) enum Mounts {
    /// Directories at other places or otherwise, which anybody may where there are user namespaces.
    Directories,
    /// Images of file systems, which takes root and a loop device.
    Images,
}

/// Runs `script` in `dir`, with the path of the program in `VRIFT`, and returns what it says.
///
/// Where it cannot be run, and where it ends with 77, nothing is shown and that is told.
pub(crate) fn run(mounts: Mounts, dir: &Path, script: &str) -> Option<String> {
    let is_root = rustix::process::geteuid().is_root();
    let flags = match (mounts, is_root) {
        (_, true) => "-m",
        (Mounts::Directories, false) => "-Urm",
        (Mounts::Images, false) => {
            eprintln!("not shown: mounting takes root");
            return None;
        }
    };
    let output = Command::new("unshare")
        .args([flags, "sh", "-c", script])
        .current_dir(dir)
        .env("VRIFT", env!("CARGO_BIN_EXE_vrift"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    let is_refused = !is_root && err.contains("unshare failed");
    if output.status.code() == Some(77) || is_refused {
        eprintln!("not shown: nothing can be mounted here: {err}");
        return None;
    }
    assert!(output.status.success(), "{out}{err}");
    Some(out)
}
