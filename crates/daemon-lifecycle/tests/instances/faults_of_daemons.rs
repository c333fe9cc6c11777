//! The daemon is killed or stopped at each of its steps, at its start and at its end.

use std::time::{Duration, Instant};

use daemon_contract::{HealthStatus, StatusRequest};
use daemon_lifecycle::{Connection, Ended, Ensure, Stopped, status, stop};

use crate::kit::{DAEMON_FAULT, Fault, IN_VAIN, PATIENCE, Site, await_stopped, eventually, spec};
use crate::roles::ask;

fn killed_at_start(step: &str) {
    let site = Site::stale();
    // The fault is in the environment of each daemon that this client starts, so it
    // may fail only by telling of the daemon's end.
    let output = site
        .client()
        .env(DAEMON_FAULT, format!("{step}:{:?}", Fault::Kill))
        .env(crate::kit::DEADLINE, "3000")
        .status()
        .unwrap();
    assert!(!output.success());
    eventually("all daemons are dead", || site.processes().is_empty());
    site.command_succeeds();
    site.close();
}

fn stopped_at_start(step: &str) {
    let mut site = Site::stale();
    let client = site
        .client()
        .env(DAEMON_FAULT, format!("{step}:{:?}", Fault::Stop))
        .env(crate::kit::DEADLINE, IN_VAIN.as_millis().to_string())
        .status()
        .unwrap();
    assert!(!client.success());
    let [pid] = site.processes()[..] else {
        panic!("{:?}", site.processes());
    };
    await_stopped(pid);
    let error = site.command_fails();
    assert!(error.starts_with("no answer"), "{error}");
    end_the_stopped(&mut site, pid);
    site.command_succeeds();
    site.close();
}

/// The one that is stopped is seen and ended, and nobody else.
fn end_the_stopped(site: &mut Site, pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let request = StatusRequest::new("echo");
    let seen = status(&site.instance(), &request, deadline).unwrap();
    assert!(seen.is_running);
    assert_eq!(seen.health_status, Some(HealthStatus::Unresponsive));
    assert_eq!(seen.metadata.unwrap()["pid"], pid);
    let stopped = stop(&site.instance(), Duration::from_millis(50), "it hangs").unwrap();
    let Stopped::Ended { process, how } = stopped else {
        panic!("{stopped:?}");
    };
    assert_eq!((process.pid, how), (pid, Ended::Killed));
    assert_eq!(site.instance().last_stop().unwrap().reason, "it hangs");
    site.check_bystander().unwrap();
    assert_eq!(site.daemons(), []);
}

/// Starts a daemon with a fault, and asks it to leave.
fn leave(site: &Site, fault: &str) {
    assert!(
        site.client()
            .env(DAEMON_FAULT, fault)
            .status()
            .unwrap()
            .success()
    );
    let spec = spec(site.path());
    let ensured = Ensure::new(&site.instance(), &spec).run().unwrap();
    let Connection::Unix(stream) = ensured.connection else {
        panic!("not a Unix socket");
    };
    ask(stream, "leave", Instant::now() + PATIENCE).unwrap();
}

fn killed_at_end(step: &str) {
    let site = Site::stale();
    leave(&site, &format!("{step}:{:?}", Fault::Kill));
    site.command_succeeds();
    site.close();
}

fn stopped_at_end(step: &str, error_begins: &str) {
    let mut site = Site::stale();
    leave(&site, &format!("{step}:{:?}", Fault::Stop));
    let [pid] = site.processes()[..] else {
        panic!("{:?}", site.processes());
    };
    await_stopped(pid);
    let error = site.command_fails();
    assert!(error.starts_with(error_begins), "{error}");
    if error_begins != "no answer" {
        let reason = format!("by the process {pid}, which is stopped");
        assert!(error.contains(&reason), "{error}");
    }
    end_the_stopped(&mut site, pid);
    site.command_succeeds();
    site.close();
}

/// Without a fault: clients that come while it leaves find the next one.
#[test]
fn a_daemon_that_leaves_loses_no_client() {
    let site = Site::stale();
    for _ in 0..5 {
        leave(&site, "");
        site.command_succeeds();
    }
    site.close();
}

macro_rules! starts {
    ($($name:ident $step:literal,)*) => {
        mod killed_at_start_after {
            $(#[test] fn $name() { super::killed_at_start($step); })*
        }
        mod stopped_at_start_after {
            $(#[test] fn $name() { super::stopped_at_start($step); })*
        }
    };
}

starts! {
    begun "Begun",
    listener_taken "ListenerTaken",
    life_taken "LifeTaken",
    identity_written "IdentityWritten",
    ready_told "ReadyTold",
}

macro_rules! ends {
    ($($name:ident $step:literal $error:literal,)*) => {
        mod killed_at_end_after {
            $(#[test] fn $name() { super::killed_at_end($step); })*
        }
        mod stopped_at_end_after {
            $(#[test] fn $name() { super::stopped_at_end($step, $error); })*
        }
    };
}

ends! {
    leaving "Leaving" "no answer",
    socket_removed "SocketRemoved" "`echo` runs but does not listen",
    life_releasing "LifeReleasing" "`echo` runs but does not listen",
}
