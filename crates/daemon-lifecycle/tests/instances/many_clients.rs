//! Many first clients at once: exactly one daemon, and all are served.
//!
//! `LIFECYCLE_RACE_ROUNDS` is the number of rounds of each kind, 1 without it.

use std::env;
use std::fs;
use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use daemon_lifecycle::{Connection, Ensure, Instance, Origin, ServiceSpec, StartLock, stop};

use crate::kit::{PATIENCE, Site, eventually, files, spec};
use crate::roles::ask;

const CLIENTS: usize = 200;

fn rounds() -> usize {
    env::var("LIFECYCLE_RACE_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

fn race(mut site: Site) {
    let gate = StartLock::acquire(site.path().join("gate"), Instant::now()).unwrap();
    let mut clients: Vec<Child> = (0..CLIENTS)
        .map(|_| site.run("gated_client").spawn().unwrap())
        .collect();
    drop(gate);
    // Every client is waited for, also after one failed.
    let failed = clients
        .iter_mut()
        .filter_map(|client| (!client.wait().unwrap().success()).then_some(()))
        .count();
    assert_eq!(failed, 0, "clients failed");
    // All that ever served, alive or not.
    let served = files(&site.path().join("served"));
    assert_eq!(served.len(), 1, "{served:?}");
    let answers = site.path().join("answers");
    let answered = files(&answers);
    assert_eq!(answered.len(), CLIENTS);
    for name in answered {
        let pid = fs::read_to_string(answers.join(name)).unwrap();
        assert_eq!(pid, served[0]);
    }
    site.check().unwrap();
    site.close();
}

#[test]
fn many_first_clients_start_one_daemon() {
    for _ in 0..rounds() {
        race(Site::fresh());
    }
}

#[test]
fn many_first_clients_at_a_stale_socket_start_one_daemon() {
    for _ in 0..rounds() {
        race(Site::stale());
    }
}

/// Every fourth command has the daemon leave; no other one notices more than a reset
/// before anything was read.
#[test]
fn many_clients_of_a_daemon_that_leaves_all_the_time_are_all_served() {
    let mut site = Site::stale();
    let (instance, spec) = (site.instance(), spec(site.path()));
    let starts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..12 {
                    let what = if number % 4 == 0 { "leave" } else { "who" };
                    command(&instance, &spec, what, &starts);
                }
            });
        }
    });
    // Each daemon was asked to leave, but for the last, perhaps.
    assert!(starts.load(Ordering::Relaxed) > 3);
    site.check_bystander().unwrap();
    drop(stop(&site.instance(), PATIENCE, "the test is over").unwrap());
    eventually("no process is left", || site.processes().is_empty());
}

fn command(instance: &Instance, spec: &ServiceSpec, what: &str, starts: &AtomicUsize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let ensured = Ensure::new(instance, spec).deadline(until).run().unwrap();
        if let Origin::Started(_) = ensured.origin {
            starts.fetch_add(1, Ordering::Relaxed);
        }
        let Connection::Unix(stream) = ensured.connection else {
            panic!("not a Unix socket");
        };
        match ask(stream, what, until) {
            Ok(_) => return,
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ),
                "{error}"
            ),
        }
    }
}
