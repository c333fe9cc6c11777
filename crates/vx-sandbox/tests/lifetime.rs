//! Nothing outlives its owner, however the owner ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{mount, run, shell};
use vx_sandbox::{Io, Launcher, MountKind, RunError, Running, Spec};

/// Leaves a grandchild in a session of its own that holds the command's output, then says so and waits for ever.
const STUBBORN: &str = "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM HUP; while :; do read x < /tmp; kill -STOP $$; done' &) ; echo ready; while :; do kill -STOP $$; done";

/// Start `spec` with a pipe as its output, which every process of the run holds.
fn start(spec: &Spec) -> (Running, BufReader<impl Read + use<>>) {
    let (read, write) = std::io::pipe().unwrap();
    let io = Io {
        stdout: write.try_clone().unwrap().into(),
        stderr: write.into(),
        inherited: Vec::new(),
    };
    let running = Launcher::new().unwrap().spawn(spec, io).unwrap();
    let mut output = BufReader::new(read);
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "ended before it was ready"
        );
    }
    (running, output)
}

#[test]
fn kill_ends_everything_at_once() {
    let (running, mut output) = start(&shell(STUBBORN));
    let killer = running.killer();
    let before = Instant::now();
    killer.kill();
    assert!(matches!(running.wait(), Err(RunError::Killed)));
    // The pipe ends when the last process that holds it is gone.
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
}

#[test]
fn dropping_a_run_ends_everything() {
    let (running, mut output) = start(&shell(STUBBORN));
    drop(running);
    output.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_end_of_the_command_is_the_end_of_what_it_left_behind() {
    let spec = shell("(setsid sh -c 'while :; do kill -STOP $$; done' &); echo ready; exit 3");
    let (running, mut output) = start(&spec);
    assert_eq!(
        running.wait().unwrap().ending,
        vx_sandbox::Ending::Exited(3)
    );
    output.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_killer_is_harmless_after_the_end() {
    let (io, _, _) = support::io();
    let running = Launcher::new().unwrap().spawn(&shell(":"), io).unwrap();
    let killer = running.killer();
    running.wait().unwrap();
    killer.kill();
}

/// Runs in a process of its own, see the next test: starts a command and waits for it.
#[test]
fn host_to_be_killed() {
    if std::env::var_os("HOST_TO_BE_KILLED").is_none() {
        return;
    }
    let io = Io {
        stdout: std::io::stderr().lock().by_ref_fd(),
        stderr: std::io::stderr().lock().by_ref_fd(),
        inherited: Vec::new(),
    };
    drop(
        Launcher::new()
            .unwrap()
            .spawn(&shell(STUBBORN), io)
            .unwrap()
            .wait(),
    );
}

/// A duplicate of a standard stream.
trait ByRefFd {
    fn by_ref_fd(&self) -> std::os::fd::OwnedFd;
}

impl ByRefFd for std::io::StderrLock<'_> {
    fn by_ref_fd(&self) -> std::os::fd::OwnedFd {
        std::os::fd::AsFd::as_fd(self).try_clone_to_owned().unwrap()
    }
}

#[test]
fn a_host_killed_hard_leaves_no_process() {
    let (read, write) = std::io::pipe().unwrap();
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host_to_be_killed", "--nocapture"])
        .env("HOST_TO_BE_KILLED", "1")
        .stdout(Stdio::null())
        .stderr(write)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(read);
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "ended before it was ready"
        );
    }
    host.kill().unwrap();
    host.wait().unwrap();
    output.read_to_end(&mut Vec::new()).unwrap();
}

/// Runs as an ordinary user, see the next test.
#[test]
fn ordinary_user() {
    let Some(folder) = std::env::var_os("ORDINARY_USER_FOLDER") else {
        return;
    };
    let folder = Path::new(&folder);
    assert!(!rustix::process::geteuid().is_root());
    let mut spec = shell("id -u; cat /w/a; echo x > /out/y; (echo x > /in/a) 2>&1");
    spec.mounts.push(mount(
        "/in",
        MountKind::ReadOnlyTree {
            host_dir: folder.join("in"),
        },
    ));
    spec.mounts.push(mount(
        "/w",
        MountKind::ObservedCopy {
            host_dir: folder.join("in"),
        },
    ));
    spec.mounts.push(mount(
        "/out",
        MountKind::WritableDir {
            host_dir: folder.join("out"),
        },
    ));
    let outcome = run(&spec);
    let report = outcome.result.unwrap();
    assert_eq!(report.tier, vx_sandbox::Tier::UserNamespace);
    assert_eq!(report.observed[0].read_files, ["a"]);
    assert!(
        outcome.stdout.starts_with("1000\ncontent"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("Read-only file system"),
        "{}",
        outcome.stdout
    );
    assert!(folder.join("out/y").exists());
}

#[test]
fn it_works_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        // Every other test has shown it already.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let everyone = |path: &Path| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    };
    everyone(folder.path());
    for name in ["in", "out"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        everyone(&folder.path().join(name));
    }
    File::create(folder.path().join("in/a"))
        .unwrap()
        .write_all(b"content")
        .unwrap();
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args(["--exact", "ordinary_user"])
        .env("ORDINARY_USER_FOLDER", folder.path())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(folder.path().join("out/y").exists());
}
