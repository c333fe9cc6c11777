//! Real processes: starts, hand-overs and ends.
//!
//! The test program plays the daemons itself: it runs again with one of the
//! `roles::role_…` tests selected and a variable that says which part it has. Without
//! the variable these tests do nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod roles;
mod site;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use daemon_lifecycle::{IdentifiedProcess, Listener, SpawnTracker, StartLock, spawn_detached};
use rustix::process::{Signal, pidfd_send_signal};

use roles::{run_role, spec};
use site::{PATIENCE, answer, assert_refused, connect, ends, handle, private_tempdir, socket};

fn files(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn race(stale: bool) {
    let root = private_tempdir().unwrap();
    let folder = root.path();
    for name in ["started", "answers", "served"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    if stale {
        drop(Listener::bind(&socket(folder)).unwrap());
        assert!(folder.join("run/sock").exists());
    }
    let gate = StartLock::acquire(folder.join("gate"), Instant::now()).unwrap();
    let mut clients: Vec<Child> = (0..32)
        .map(|_| run_role("client", folder).spawn().unwrap())
        .collect();
    drop(gate);
    // Every client is waited for, also after one failed.
    let failed = clients
        .iter_mut()
        .filter_map(|client| (!client.wait().unwrap().success()).then_some(()))
        .count();
    let served = files(&folder.join("served"));
    for pid in &served {
        let server = handle(pid.parse().unwrap());
        let _killed = pidfd_send_signal(server, Signal::KILL);
    }
    let answers: Vec<String> = files(&folder.join("answers"))
        .iter()
        .map(|name| fs::read_to_string(folder.join("answers").join(name)).unwrap())
        .collect();
    assert_eq!(failed, 0, "clients failed");
    assert_eq!(served.len(), 1, "{served:?}");
    assert_eq!(files(&folder.join("started")), served);
    assert_eq!(answers.len(), 32);
    assert!(answers.iter().all(|pid| *pid == served[0]), "{answers:?}");
}

#[test]
fn of_32_first_clients_one_starts_the_daemon_and_all_are_served() {
    race(false);
}

#[test]
fn a_stale_socket_changes_nothing_about_that() {
    race(true);
}

#[test]
fn an_inherited_listener_serves_who_connected_before_the_child_ran() {
    let root = private_tempdir().unwrap();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let early = connect(root.path()).unwrap();
    let tracker = SpawnTracker::new();
    let child = tracker
        .spawn(&spec("server", root.path(), true), listener)
        .unwrap();
    assert_eq!(answer(early), child.pid.to_string());
    assert_eq!(tracker.alive(), [child]);
    // The kernel names the process that listens, not the one that bound.
    let late = connect(root.path()).unwrap();
    let peer = rustix::net::sockopt::socket_peercred(&late).unwrap();
    assert_eq!(peer.pid.as_raw_nonzero().get().cast_unsigned(), child.pid);
    tracker.kill_all(PATIENCE);
    assert!(tracker.alive().is_empty());
    assert_refused(root.path());
}

#[test]
fn children_end_when_their_owner_is_killed() {
    let root = private_tempdir().unwrap();
    let mut owner = run_role("owner", root.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Each answers with its pid, and has taken its lifeline by then.
    let pids: Vec<u32> = ["one", "two"]
        .iter()
        .map(|name| {
            let folder = root.path().join(name);
            let started = Instant::now();
            let stream = loop {
                match connect(&folder) {
                    Ok(stream) => break stream,
                    Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
                }
                std::thread::yield_now();
            };
            answer(stream).parse().unwrap()
        })
        .collect();
    let handles: Vec<OwnedFd> = pids.iter().map(|pid| handle(*pid)).collect();
    assert!(handles.iter().all(|h| !ends(h, Duration::ZERO)));
    owner.kill().unwrap();
    assert_eq!(owner.wait().unwrap().signal(), Some(9));
    for handle in &handles {
        assert!(ends(handle, PATIENCE), "a child outlived its owner");
    }
}

#[test]
fn kill_all_ends_only_what_was_started_here() {
    let root = private_tempdir().unwrap();
    let other = private_tempdir().unwrap();
    let stranger = SpawnTracker::new();
    let listener = Listener::bind(&socket(other.path())).unwrap();
    let spared = stranger
        .spawn(&spec("server", other.path(), true), listener)
        .unwrap();
    let tracker = SpawnTracker::new();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let child = tracker
        .spawn(&spec("server", root.path(), true), listener)
        .unwrap();
    let gone = handle(child.pid);
    tracker.kill_all(PATIENCE);
    assert!(ends(&gone, Duration::ZERO));
    assert_eq!(stranger.alive(), [spared]);
    assert_eq!(
        answer(connect(other.path()).unwrap()),
        spared.pid.to_string()
    );
}

#[test]
fn who_ignores_the_request_is_killed_when_the_grace_is_over() {
    let root = private_tempdir().unwrap();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let early = connect(root.path()).unwrap();
    let tracker = SpawnTracker::new();
    let child = tracker
        .spawn(&spec("stubborn", root.path(), false), listener)
        .unwrap();
    assert_eq!(answer(early), "no");
    let gone = handle(child.pid);
    tracker.kill_all(Duration::from_millis(50));
    assert!(ends(&gone, Duration::ZERO));
}

#[test]
fn dropping_the_tracker_ends_the_children() {
    let root = private_tempdir().unwrap();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let tracker = SpawnTracker::new();
    let child = tracker
        .spawn(&spec("server", root.path(), false), listener)
        .unwrap();
    let gone = handle(child.pid);
    drop(tracker);
    assert!(ends(&gone, Duration::ZERO));
}

#[test]
fn a_daemon_that_dies_at_start_is_reported_with_its_last_words() {
    let root = private_tempdir().unwrap();
    let spec = spec("broken", root.path(), false);
    fs::create_dir_all(spec.log.parent().unwrap()).unwrap();
    fs::write(&spec.log, "words of an earlier run\n").unwrap();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let early = connect(root.path()).unwrap();
    let mut child = spawn_detached(&spec, listener).unwrap();
    let died = child.exited_within(PATIENCE).unwrap().unwrap().clone();
    assert_eq!(died.status.code(), Some(3));
    assert!(died.log_tail.contains("no license for this moon phase"));
    assert!(!died.log_tail.contains("earlier"), "{}", died.log_tail);
    let text = died.to_string();
    assert!(text.contains("ended with exit status: 3, log: `"), "{text}");
    // Nobody is left who could answer, and the client learns it at once.
    let mut nothing = Vec::new();
    let read = { early }.read_to_end(&mut nothing);
    assert!(read.is_err() || nothing.is_empty());
    assert_refused(root.path());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let root = private_tempdir().unwrap();
    let mut spec = spec("server", root.path(), false);
    spec.program = root.path().join("absent");
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let error = spawn_detached(&spec, listener).unwrap_err();
    assert!(error.to_string().ends_with("/absent`"), "{error}");
}

#[test]
fn a_process_is_stopped_by_its_identity() {
    let root = private_tempdir().unwrap();
    let listener = Listener::bind(&socket(root.path())).unwrap();
    let mut child = spawn_detached(&spec("server", root.path(), false), listener).unwrap();
    let identity = IdentifiedProcess::identity_of(child.pid()).unwrap();
    let process = IdentifiedProcess::find(&identity).unwrap().unwrap();
    process.stop(PATIENCE).unwrap();
    // A zombie still has the number and the start time, and is nobody.
    assert!(IdentifiedProcess::find(&identity).unwrap().is_none());
    let died = child.exited().unwrap().unwrap();
    assert_eq!(died.status.signal(), Some(15));
}
