//! The negative control: what is usually written instead, which must fail the same
//! checks. Remove the socket, spawn, poll until it is there; kill the pid in the file.

use std::env;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon_lifecycle::{Stopped, stop};
use rustix::process::{Signal, kill_process};

use crate::kit::{
    CLIENT_FAULT, FOLDER, Fault, PATIENCE, ROLE, Site, await_stop, go_on, instance, pid_of,
    role_args,
};
use crate::roles::{ask, fault, say_error, served};

pub(crate) fn client(folder: &Path) {
    let fault = fault(CLIENT_FAULT);
    let socket = folder.join("run/sock");
    if UnixStream::connect(&socket).is_err() {
        fault("LockingStart");
        drop(fs::remove_file(&socket));
        let child = Command::new(env::current_exe().unwrap())
            .args(role_args())
            .env(ROLE, "naive_daemon")
            .env(FOLDER, folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It outlives us, and is not waited for.
        drop(child);
    }
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Ok(stream) = UnixStream::connect(&socket) {
            ask(stream, "who", until).unwrap();
            return;
        }
        std::thread::yield_now();
    }
    say_error(folder, "no daemon came");
}

pub(crate) fn daemon(folder: &Path) {
    let listener = UnixListener::bind(folder.join("run/sock")).unwrap();
    served(folder);
    for stream in listener.incoming() {
        use std::io::{BufRead, Write};
        let mut stream = stream.unwrap();
        let mut line = String::new();
        let _read = std::io::BufReader::new(&stream).read_line(&mut line);
        let _sent = write!(stream, "{}\nend\n", std::process::id());
    }
}

/// A client finds nobody, and is stopped for a while right then; meanwhile another
/// one starts the daemon.
fn two_clients(role: &str) -> Result<(), String> {
    let mut site = Site::stale();
    let mut slow = site
        .run(role)
        .env(CLIENT_FAULT, format!("LockingStart:{:?}", Fault::Stop))
        .spawn()
        .unwrap();
    await_stop(&slow);
    assert!(site.run(role).status().unwrap().success());
    assert!(go_on(&mut slow).unwrap().success());
    site.check()
}

#[test]
fn a_client_that_decided_before_another_started_makes_no_second_daemon() {
    assert_eq!(two_clients("client"), Ok(()));
}

#[test]
fn the_naive_algorithm_makes_a_second_daemon_then() {
    let failure = two_clients("naive_client").unwrap_err();
    assert_eq!(failure, "2 daemons serve");
}

#[test]
fn a_number_in_a_file_ends_nobody() {
    let mut site = Site::stale();
    let stopped = stop(&site.instance(), Duration::ZERO, "it is stale").unwrap();
    assert_eq!(stopped, Stopped::NotRunning);
    site.check_bystander().unwrap();
}

#[test]
fn the_naive_algorithm_ends_a_bystander_then() {
    let mut site = Site::stale();
    let file = instance(site.path()).folder().join("pid");
    let pid = fs::read_to_string(file).unwrap().parse().unwrap();
    kill_process(pid_of(pid), Signal::KILL).unwrap();
    let started = Instant::now();
    let failure = loop {
        if let Err(failure) = site.check_bystander() {
            break failure;
        }
        assert!(started.elapsed() < PATIENCE);
    };
    assert!(failure.starts_with("the bystander was hit"), "{failure}");
}
