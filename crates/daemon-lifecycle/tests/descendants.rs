//! What `kill_all` ends: the children, and all that they started, wherever it went.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, ProcessIdentity};
use daemon_lifecycle::{IdentifiedProcess, Listener, ServiceSpec, SpawnTracker};

const PATIENCE: Duration = Duration::from_secs(60);

/// A shell that starts a child, one in a process group of its own, one in a session of
/// its own, and one whose parent is gone; their pids go to files.
const FAMILY: &str = r#"
sleep 3600 & echo $! > child
set -m; sleep 3600 & echo $! > group; set +m
setsid sh -c 'echo $$ > session; exec sleep 3600' &
sh -c 'sleep 3600 & echo $! > orphan'
touch complete
wait
"#;

fn family(tracker: &SpawnTracker, folder: &Path, trap: &str) {
    let script = format!("cd {}\n{trap}\n{FAMILY}", folder.display());
    let spec = ServiceSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        log: folder.join("log"),
        lifeline: true,
    };
    let endpoint = Endpoint::Unix(folder.join("sock"));
    let listener = Listener::bind(&endpoint).unwrap();
    tracker.spawn(&spec, listener).unwrap();
}

fn members(folder: &Path) -> Vec<ProcessIdentity> {
    let started = Instant::now();
    let names = ["child", "group", "session", "orphan"];
    let read = |name: &str| -> Option<ProcessIdentity> {
        let pid = fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        IdentifiedProcess::identity_of(pid).ok()
    };
    loop {
        let found: Vec<_> = names.iter().filter_map(|name| read(name)).collect();
        if found.len() == names.len() && folder.join("complete").exists() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?}");
        std::thread::yield_now();
    }
}

fn alive(members: &[ProcessIdentity]) -> usize {
    members
        .iter()
        .filter(|member| IdentifiedProcess::find(member).unwrap().is_some())
        .count()
}

fn all_end(trap: &str, grace: Duration) {
    let root = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let mut stranger = Command::new("sleep").arg("3600").spawn().unwrap();
    let tracker = SpawnTracker::new();
    family(&tracker, root.path(), trap);
    let members = members(root.path());
    assert_eq!(alive(&members), 4);
    tracker.kill_all(grace);
    let left = alive(&members);
    let stranger_lives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(left, 0);
    assert!(stranger_lives);
    assert!(tracker.alive().is_empty());
}

#[test]
fn descendants_of_a_child_that_ends_politely_end_too() {
    all_end("", PATIENCE);
}

#[test]
fn descendants_of_a_child_that_is_killed_end_too() {
    all_end("trap '' TERM", Duration::ZERO);
}

/// The one that left the session is out of reach then, as the documentation says.
#[test]
fn what_a_killed_child_left_in_its_session_ends_when_it_is_reaped() {
    let root = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap();
    let tracker = SpawnTracker::new();
    family(&tracker, root.path(), "");
    let members = members(root.path());
    let child = IdentifiedProcess::identity_of(tracker.alive()[0].pid).unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &child.pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let started = Instant::now();
    while tracker.try_wait().unwrap().is_empty() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let left: Vec<_> = members
        .iter()
        .filter_map(|member| IdentifiedProcess::find(member).unwrap())
        .collect();
    let names: Vec<_> = left
        .iter()
        .map(|process| process.identity().clone())
        .collect();
    for process in left {
        process.stop(Duration::ZERO).unwrap();
    }
    assert_eq!(names, [members[2].clone()]);
}
