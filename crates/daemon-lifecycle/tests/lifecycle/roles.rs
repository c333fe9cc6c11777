//! The parts that the test program plays: daemons of several kinds, a client that starts
//! one, and an owner of two.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon_lifecycle::{
    Listener, ServiceSpec, SpawnTracker, StartLock, Started, lifeline, start_once,
};

use crate::site::{PATIENCE, answer, connect, ends, socket};

const ROLE: &str = "LIFECYCLE_TEST_ROLE";
const FOLDER: &str = "LIFECYCLE_TEST_FOLDER";

/// A daemon that plays this role in a folder.
pub(crate) fn spec(role: &str, folder: &Path, lifeline: bool) -> ServiceSpec {
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
        format!("roles::role_{role}"),
        "--exact".to_owned(),
        "--nocapture".to_owned(),
    ]
}

/// This program once more, in this role.
pub(crate) fn run_role(role: &str, folder: &Path) -> Command {
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
