//! A host for tests: runs shell commands in sandboxes made by the test binary itself.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use vx_sandbox::{Io, Launcher, Mount, MountKind, Report, RunError, Spec, UserNamespace};

// The test harness owns `main`; a constructor runs before it, with a single thread.
#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = {
    extern "C" fn init() {
        vx_sandbox::init_if_requested();
    }
    init
};

/// A spec that runs `script` with a shell and a plain `PATH`.
pub(crate) fn shell(script: &str) -> Spec {
    Spec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: "/tmp".into(),
        mounts: Vec::new(),
        user_namespace: UserNamespace::Preferred,
    }
}

/// A mount of `kind` at `at`.
pub(crate) fn mount(at: &str, kind: MountKind) -> Mount {
    Mount {
        at: at.into(),
        kind,
    }
}

/// A read-only tree mount.
pub(crate) fn tree(at: &str, host_dir: &Path) -> Mount {
    mount(
        at,
        MountKind::ReadOnlyTree {
            host_dir: host_dir.into(),
        },
    )
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Report, RunError>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Descriptors for a command, and the files to read afterwards.
pub(crate) fn io() -> (Io, File, File) {
    let out = tempfile::tempfile().unwrap();
    let err = tempfile::tempfile().unwrap();
    let io = Io {
        stdout: out.try_clone().unwrap().into(),
        stderr: err.try_clone().unwrap().into(),
        inherited: Vec::new(),
    };
    (io, out, err)
}

/// Everything in `file`.
pub(crate) fn text(mut file: File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Run to the end.
pub(crate) fn run(spec: &Spec) -> Outcome {
    let (io, out, err) = io();
    let result = Launcher::new().unwrap().spawn(spec, io).unwrap().wait();
    Outcome {
        result,
        stdout: text(out),
        stderr: text(err),
    }
}
