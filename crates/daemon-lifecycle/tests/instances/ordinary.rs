//! The ordinary life of an instance, and its ordinary failures.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, HealthStatus, ShutdownConfig, StatusRequest};
use daemon_lifecycle::{
    Connection, Ended, Ensure, EnsureError, Instance, Origin, Probe, SpawnTracker, Stopped, probe,
    status, stop,
};

use crate::kit::{PATIENCE, ROLE, Site, eventually, instance, spec};
use crate::roles::ask;

fn pid_by(connection: Connection) -> u32 {
    let Connection::Unix(stream) = connection else {
        panic!("not a Unix socket");
    };
    ask(stream, "who", Instant::now() + PATIENCE)
        .unwrap()
        .parse()
        .unwrap()
}

fn until() -> Instant {
    Instant::now() + PATIENCE
}

/// What the descriptors of a process lead to.
fn descriptors(pid: u32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn an_instance_is_started_found_looked_at_and_ended() {
    let site = Site::fresh();
    let (instance, spec) = (site.instance(), spec(site.path()));
    let request = StatusRequest::new("echo");
    assert!(matches!(probe(&instance, until()).unwrap(), Probe::Absent));
    assert!(!instance.folder().exists(), "looking makes nothing");
    assert!(!status(&instance, &request, until()).unwrap().is_running);

    let first = Ensure::new(&instance, &spec).run().unwrap();
    let Origin::Started(owned) = first.origin else {
        panic!("{:?}", first.origin);
    };
    assert_eq!(pid_by(first.connection), owned.identity().pid);
    let second = Ensure::new(&instance, &spec).run().unwrap();
    assert!(matches!(second.origin, Origin::Found));
    assert_eq!(pid_by(second.connection), owned.identity().pid);

    let seen = status(&instance, &request, until()).unwrap();
    assert!(seen.is_running);
    assert_eq!(seen.health_status, Some(HealthStatus::Healthy));
    let Probe::Running(running) = probe(&instance, until()).unwrap() else {
        panic!("it runs");
    };
    assert_eq!(running.identity(), owned.identity());
    assert!(running.listens());

    let stopped = stop(&instance, PATIENCE, "enough").unwrap();
    assert_eq!(
        stopped,
        Stopped::Ended {
            process: owned.identity().clone(),
            how: Ended::Asked
        }
    );
    let seen = status(&instance, &request, until()).unwrap();
    assert!(!seen.is_running);
    assert_eq!(seen.metadata.unwrap()["last_stop_reason"], "enough");
    assert_eq!(
        stop(&instance, PATIENCE, "again").unwrap(),
        Stopped::NotRunning
    );
    assert!(instance.life_lock().exists() && instance.start_lock().exists());
}

/// The client is a process of its own, since tests of one process share descriptors.
#[test]
fn nothing_leaks_on_either_side() {
    let site = Site::stale();
    let status = site.run("frugal_client").status().unwrap();
    assert!(status.success(), "{}", site.errors());
    assert!(site.processes().is_empty());
}

/// Starts the daemon, looks at all descriptors of both, ends it, and looks again.
pub(crate) fn frugal_client(folder: &Path) {
    let (instance, spec) = (instance(folder), spec(folder));
    let before = descriptors(std::process::id());
    let ensured = Ensure::new(&instance, &spec).run().unwrap();
    let Origin::Started(owned) = ensured.origin else {
        panic!("{:?}", ensured.origin);
    };
    let pid = pid_by(ensured.connection);
    let mut files = descriptors(pid);
    files.retain(|target| target.starts_with(&*folder.to_string_lossy()));
    files.sort();
    let log = spec.log.to_string_lossy().into_owned();
    let life = instance.life_lock().to_string_lossy().into_owned();
    let mut expected = vec![log.clone(), log, life];
    expected.sort();
    assert_eq!(files, expected);
    // The connection is closed by the thread that answered.
    eventually("only the listener is left", || {
        let sockets = descriptors(pid);
        sockets.iter().filter(|s| s.starts_with("socket:")).count() == 1
    });
    assert!(!descriptors(pid).iter().any(|s| s.starts_with("pipe:")));
    let died = owned.stop(PATIENCE).unwrap().unwrap();
    assert_eq!(died.pid, pid);
    assert_eq!(descriptors(std::process::id()), before);
    // Reaped: it is not even a zombie.
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_daemon_whose_owner_forgets_it_is_reaped_when_it_ends() {
    let site = Site::fresh();
    let ensured = Ensure::new(&site.instance(), &spec(site.path()))
        .run()
        .unwrap();
    let pid = pid_by(ensured.connection);
    drop(ensured.origin);
    assert_eq!(site.daemons().len(), 1, "dropping it ends nothing");
    stop(&site.instance(), PATIENCE, "enough").unwrap();
    eventually("it is reaped", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
}

#[test]
fn a_failing_daemon_tells_why_at_once() {
    let mut site = Site::stale();
    let mut spec = spec(site.path());
    spec.env.retain(|(name, _)| name != ROLE);
    spec.env.push((ROLE.into(), "broken".into()));
    // The second try finds the same, not a lock or a socket of the first.
    for _ in 0..2 {
        let error = Ensure::new(&site.instance(), &spec).run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`echo` failed to start: the index has a hole"
        );
        let EnsureError::Failed { died, .. } = error else {
            panic!("{error}");
        };
        let died = died.unwrap();
        assert_eq!(died.status.code(), Some(7));
        assert!(died.log_tail.contains("read 3 of 4 tables"), "{died}");
    }
    site.check_bystander().unwrap();
    assert!(site.processes().is_empty());
}

#[test]
fn a_shutdown_that_means_another_process_ends_nobody() {
    let site = Site::fresh();
    let start = || {
        let ensured = Ensure::new(&site.instance(), &spec(site.path()))
            .run()
            .unwrap();
        let Origin::Started(owned) = ensured.origin else {
            panic!("{:?}", ensured.origin);
        };
        owned
    };
    let owned = start();
    let (name, pid) = (owned.name().to_owned(), owned.identity().pid);
    let error = owned
        .shutdown(&ShutdownConfig::new(&name, pid + 1))
        .unwrap_err();
    assert!(
        error.to_string().ends_with("nothing was signalled"),
        "{error}"
    );
    assert_eq!(site.daemons().len(), 1);
    stop(&site.instance(), PATIENCE, "once more").unwrap();
    let owned = start();
    let config = ShutdownConfig::new(&name, owned.identity().pid);
    assert!(owned.shutdown(&config).unwrap().is_some());
    assert_eq!(site.daemons(), []);
}

#[test]
fn a_second_daemon_by_hand_is_refused() {
    let site = Site::fresh();
    let mut first = site.run("daemon").spawn().unwrap();
    eventually("it serves", || site.daemons().len() == 1);
    site.command_succeeds();
    let second = site.run("daemon").status().unwrap();
    assert!(!second.success());
    assert_eq!(site.daemons().len(), 1);
    stop(&site.instance(), PATIENCE, "enough").unwrap();
    first.wait().unwrap();
}

#[test]
fn a_tracked_instance_ends_with_its_tracker() {
    let site = Site::fresh();
    let tracker = SpawnTracker::new();
    let ensured = Ensure::new(&site.instance(), &spec(site.path()))
        .owned_by(&tracker)
        .run()
        .unwrap();
    let Origin::Tracked(child) = ensured.origin else {
        panic!("{:?}", ensured.origin);
    };
    assert_eq!(pid_by(ensured.connection), child.pid);
    assert_eq!(tracker.alive(), [child]);
    drop(tracker);
    assert_eq!(site.daemons(), []);
}

#[test]
fn a_daemon_notices_that_its_place_was_taken() {
    let site = Site::fresh();
    let instance = site.instance();
    let (daemon, listener) = daemon_lifecycle::Daemon::begin(&instance, None).unwrap();
    assert!(daemon.is_in_place());
    fs::remove_dir_all(instance.folder()).unwrap();
    assert!(!daemon.is_in_place());
    // Another one may come now; the first leaves without touching its socket.
    let (other, _other_listener) = daemon_lifecycle::Daemon::begin(&instance, None).unwrap();
    let Endpoint::Unix(socket) = instance.endpoint() else {
        panic!("not a Unix socket");
    };
    let inode = fs::metadata(socket).unwrap().ino();
    drop(listener);
    daemon.leave().finish();
    assert_eq!(fs::metadata(socket).unwrap().ino(), inode);
    assert!(other.is_in_place());
}

#[test]
fn a_port_of_somebody_else_is_foreign_and_nobody_is_ended() {
    let site = Site::fresh();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    let instance = Instance::new("echo", endpoint, site.path().join("run")).unwrap();
    let Probe::Foreign(stranger) = probe(&instance, until()).unwrap() else {
        panic!("it is foreign");
    };
    assert_eq!(stranger.pid, Some(std::process::id()));
    let error = stop(&instance, Duration::ZERO, "wrong").unwrap_err();
    assert!(
        error.to_string().starts_with("nothing was ended: `echo`"),
        "{error}"
    );
}

#[test]
fn a_daemon_on_a_loopback_port_is_started_found_and_ended() {
    let site = Site::fresh();
    // Nobody else is given this port soon.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = free.local_addr().unwrap().to_string().parse().unwrap();
    drop(free);
    let instance = Instance::new("echo", endpoint.clone(), site.path().join("run")).unwrap();
    let mut spec = spec(site.path());
    spec.env
        .push((crate::kit::ENDPOINT.into(), endpoint.to_string().into()));
    let ensured = Ensure::new(&instance, &spec).run().unwrap();
    let Origin::Started(owned) = ensured.origin else {
        panic!("{:?}", ensured.origin);
    };
    let Probe::Running(running) = probe(&instance, until()).unwrap() else {
        panic!("it runs");
    };
    assert_eq!(running.identity(), owned.identity());
    assert!(running.listens());
    assert_eq!(running.record().unwrap().endpoint, endpoint);
    let again = Ensure::new(&instance, &spec).run().unwrap();
    assert!(matches!(again.origin, Origin::Found));
    assert!(matches!(
        stop(&instance, PATIENCE, "enough").unwrap(),
        Stopped::Ended { .. }
    ));
    assert!(matches!(probe(&instance, until()).unwrap(), Probe::Absent));
}

/// As systemd does it: a listener, and no lock.
#[test]
fn a_daemon_that_a_service_manager_activates_takes_its_own_lock() {
    let site = Site::fresh();
    let instance = site.instance();
    let listener = daemon_lifecycle::Listener::bind(instance.endpoint()).unwrap();
    let tracker = SpawnTracker::new();
    let child = tracker.spawn(&spec(site.path()), listener).unwrap();
    site.command_succeeds();
    let Probe::Running(running) = probe(&instance, until()).unwrap() else {
        panic!("it runs");
    };
    assert_eq!(running.identity().pid, child.pid);
    tracker.kill_all(PATIENCE);
    assert!(matches!(probe(&instance, until()).unwrap(), Probe::Absent));
}
