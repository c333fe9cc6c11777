//! Many first clients at once: exactly one daemon, and all are served.
//!
//! `LIFECYCLE_RACE_ROUNDS` is the number of rounds of each kind, 1 without it.

use std::env;
use std::fs;
use std::process::Child;
use std::time::Instant;

use daemon_lifecycle::StartLock;

use crate::kit::{Site, files};

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
