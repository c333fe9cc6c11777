//! Ports leased by many processes at once are all different.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use vx_testkit::{Flavour, TestEnv};

const ROLE: &str = "LEASES_PORTS";
const PROCESSES: usize = 24;

/// Leases three ports, tells them, and keeps them until its input ends; an empty
/// test when run as one.
#[test]
fn tenant() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut builder = TestEnv::builder();
    for name in ["a", "b", "c"] {
        builder = builder.endpoint(name, name.to_uppercase(), Flavour::Leased);
    }
    let env = builder.build();
    for name in ["a", "b", "c"] {
        println!("port:{}", env.endpoint(name).port().unwrap());
    }
    println!("port:end");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    env.finish();
}

fn start() -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tenant", "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        // All claim to be the same slot, as two test runs at once do.
        .env("NEXTEST_TEST_GLOBAL_SLOT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn processes_at_once_share_no_port() {
    let mut tenants: Vec<Child> = (0..PROCESSES).map(|_| start()).collect();
    let mut ports = Vec::new();
    for tenant in &mut tenants {
        ports.extend(
            BufReader::new(tenant.stdout.as_mut().unwrap())
                .lines()
                .map(Result::unwrap)
                .filter_map(|line| Some(line.split_once("port:")?.1.to_owned()))
                .take_while(|port| port != "end"),
        );
    }
    // All of them hold their ports now.
    for mut tenant in tenants {
        drop(tenant.stdin.take());
        assert!(tenant.wait_with_output().unwrap().status.success());
    }
    assert_eq!(ports.len(), 3 * PROCESSES);
    assert_eq!(
        ports.iter().collect::<HashSet<_>>().len(),
        ports.len(),
        "{ports:?}"
    );
}
