//! Real processes: starts, hand-overs and ends.
//!
//! The test program plays the daemons itself: it runs again with one of the
//! `role_…` tests selected and a variable that says which part it has. Without
//! the variable these tests do nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_lifecycle::{
    IdentifiedProcess, Listener, ServiceSpec, SpawnTracker, StartLock, Started, lifeline,
    spawn_detached, start_once,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const ROLE: &str = "LIFECYCLE_TEST_ROLE";
const FOLDER: &str = "LIFECYCLE_TEST_FOLDER";
/// Far more than anything here takes; only a failure gets there.
const PATIENCE: Duration = Duration::from_secs(30);

fn spec(role: &str, folder: &Path, lifeline: bool) -> ServiceSpec {
    ServiceSpec {
        program: env::current_exe().unwrap(),
        args: role_args(role).map(OsString::from).to_vec(),
        env: vec![
            (ROLE.into(), role.into()),
            (FOLDER.into(), folder.into()),
            ("LISTEN_PID".into(), "1".into()),
        ],
        log: folder.join("log/service.log"),
        lifeline,
    }
}

fn role_args(role: &str) -> [String; 3] {
    [
        format!("role_{role}"),
        "--exact".to_owned(),
        "--nocapture".to_owned(),
    ]
}

fn run_role(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(role_args(role))
        .env(ROLE, role)
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn plays(role: &str) -> Option<PathBuf> {
    (env::var(ROLE).as_deref() == Ok(role)).then(|| PathBuf::from(env::var_os(FOLDER).unwrap()))
}

fn handle(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

fn ends(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

/// A folder that sockets may stand in.
fn private_tempdir() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()
}

fn socket(folder: &Path) -> Endpoint {
    Endpoint::Unix(folder.join("run/sock"))
}

fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(folder.join("run/sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Nobody listens any more. A program that another test starts at this moment may
/// hold a copy of the listener until it is executed.
fn assert_refused(folder: &Path) {
    let started = Instant::now();
    while connect(folder).is_ok() {
        assert!(started.elapsed() < PATIENCE, "somebody still listens");
        std::thread::yield_now();
    }
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Answers each connection with its own pid, until it is killed or its lifeline
/// ends.
#[test]
fn role_server() {
    let Some(folder) = plays("server") else {
        return;
    };
    // The test harness has threads, so the variables are still there.
    let Some(Listener::Unix(listener)) = Listener::inherited().unwrap() else {
        panic!("no listener");
    };
    assert!(Listener::inherited().unwrap().is_none(), "handed out once");
    assert_eq!(env::current_dir().unwrap(), Path::new("/"));
    let pid = std::process::id();
    assert_eq!(
        rustix::process::getsid(None).unwrap(),
        rustix::process::getpid()
    );
    let names = env::vars_os().map(|(name, _)| name);
    for name in names {
        let name = name.into_string().unwrap();
        assert!(
            [ROLE, FOLDER, "LISTEN_FDS", "DAEMON_LIFELINE_FD"].contains(&name.as_str()),
            "inherited {name}"
        );
    }
    fs::create_dir_all(folder.join("served")).unwrap();
    fs::write(folder.join(format!("served/{pid}")), "").unwrap();
    if let Some(lifeline) = lifeline() {
        std::thread::spawn(move || {
            ends(&lifeline, Duration::from_secs(3600));
            std::process::exit(0);
        });
    }
    for stream in listener.incoming() {
        // Clients may leave without reading.
        let _sent = write!(stream.unwrap(), "{pid}");
    }
}

/// Finds no daemon, starts one, and fails if nobody answers.
#[test]
fn role_client() {
    let Some(folder) = plays("client") else {
        return;
    };
    // All begin when the test lets go of this lock.
    drop(StartLock::acquire(folder.join("gate"), Instant::now() + PATIENCE).unwrap());
    if connect(&folder).is_err() {
        let deadline = Instant::now() + PATIENCE;
        let lock = folder.join("run/start.lock");
        match start_once(
            &socket(&folder),
            lock,
            deadline,
            &spec("server", &folder, false),
        ) {
            Ok(Started::Here(child)) => {
                fs::write(folder.join(format!("started/{}", child.pid())), "").unwrap();
            }
            Ok(Started::Running) => {}
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }
    let pid = answer(connect(&folder).unwrap());
    fs::write(folder.join(format!("answers/{}", std::process::id())), pid).unwrap();
}

/// Starts two servers with lifelines, says so, and waits to be killed.
#[test]
fn role_owner() {
    let Some(folder) = plays("owner") else {
        return;
    };
    let tracker = SpawnTracker::new();
    for name in ["one", "two"] {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let listener = Listener::bind(&socket(&folder)).unwrap();
        tracker
            .spawn(&spec("server", &folder, true), listener)
            .unwrap();
    }
    // Ends with the signal of the test, or when its standard input does.
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing).unwrap();
}

/// Says something and fails.
#[test]
fn role_broken() {
    if plays("broken").is_some() {
        eprintln!("no license for this moon phase");
        std::process::exit(3);
    }
}

/// Ignores every polite request.
#[test]
fn role_stubborn() {
    if plays("stubborn").is_none() {
        return;
    }
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let Some(Listener::Unix(listener)) = Listener::inherited().unwrap() else {
        panic!("no listener");
    };
    for stream in listener.incoming() {
        let _sent = write!(stream.unwrap(), "no");
    }
}

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
