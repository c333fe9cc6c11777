//! The client that starts a daemon is killed or stopped at each of its steps.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use daemon_lifecycle::{StopError, stop};

use crate::kit::{CLIENT_FAULT, Fault, Site, await_stop, go_on};

/// What others see while the client is stopped.
#[derive(Clone, Copy)]
enum Meanwhile {
    /// They are served.
    Served,
    /// They do not wait for its lock, and say who has it.
    Locked,
    /// They are connected, and wait for an answer.
    Queued,
}

fn killed(step: &str) {
    let site = Site::stale();
    let status = site
        .client()
        .env(CLIENT_FAULT, format!("{step}:{:?}", Fault::Kill))
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9), "the step was not reached");
    site.command_succeeds();
    site.close();
}

fn stopped(step: &str, meanwhile: Meanwhile) {
    let mut site = Site::stale();
    let mut victim = site
        .client()
        .env(CLIENT_FAULT, format!("{step}:{:?}", Fault::Stop))
        .spawn()
        .unwrap();
    await_stop(&victim);
    match meanwhile {
        Meanwhile::Served => site.command_succeeds(),
        Meanwhile::Locked => {
            // Nobody would see the end of this deadline.
            let error = site.command_fails_within(Duration::from_secs(24 * 3600));
            let pid = victim.id();
            let reason = format!("by the process {pid}, which is stopped: `kill -CONT {pid}`");
            assert!(error.contains(&reason), "{error}");
            assert!(error.contains("start.lock"), "{error}");
        }
        Meanwhile::Queued => {
            let error = site.command_fails();
            assert!(error.starts_with("no answer"), "{error}");
        }
    }
    if !matches!(meanwhile, Meanwhile::Served) {
        // It holds locks, and is nevertheless no daemon.
        let result = stop(&site.instance(), Duration::ZERO, "nothing answers");
        assert!(
            !matches!(result, Ok(daemon_lifecycle::Stopped::Ended { .. })),
            "{result:?}"
        );
        if step == "LifeLocked" {
            assert!(
                matches!(result, Err(StopError::Starting { .. })),
                "{result:?}"
            );
        }
        site.check_bystander().unwrap();
    }
    assert!(go_on(&mut victim).unwrap().success());
    site.command_succeeds();
    site.close();
}

macro_rules! steps {
    ($($name:ident $step:literal $meanwhile:ident,)*) => {
        mod killed_at {
            $(#[test] fn $name() { super::killed($step); })*
        }
        mod stopped_at {
            $(#[test] fn $name() { super::stopped($step, super::Meanwhile::$meanwhile); })*
        }
    };
}

steps! {
    connecting "Connecting" Served,
    locking_start "LockingStart" Served,
    start_locked "StartLocked" Locked,
    locking_life "LockingLife" Locked,
    life_locked "LifeLocked" Locked,
    stale_socket_removed "StaleSocketRemoved" Locked,
    bound "Bound" Queued,
    spawned "Spawned" Served,
    ready "Ready" Served,
    start_unlocked "StartUnlocked" Served,
}
