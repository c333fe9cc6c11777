//! How often a port that a test picked is somebody else's when it is bound:
//! the usual ways of picking against the kit's, side by side.
//!
//! Each worker process picks three ports, does something else for a while, binds
//! them, holds them and lets go, again and again: what a suite does whose tests
//! each start three services. Run with
//! `cargo bench -p vx-testkit --bench collisions [-- <workers> <rounds>]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and has nobody to return errors to"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vx_testkit::{Flavour, TestEnv};

const ROLE: &str = "COLLISIONS_METHOD";
const PORTS: usize = 3;
/// Between picking and binding.
const DELAY: Duration = Duration::from_millis(20);
/// Between binding and letting go.
const HOLD: Duration = Duration::from_millis(50);

const METHODS: [(&str, &str); 3] = [
    ("bind0", "bind port 0, read it, close it"),
    ("portpicker", "portpicker"),
    ("lease", "vx-testkit, leased block"),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Ok(method) = std::env::var(ROLE) {
        println!("{}", work(&method, args[1].parse().unwrap()));
        return;
    }
    // Not when a test runner only looks whether it starts.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<usize>().ok());
    let workers = numbers.next().unwrap_or(32);
    let rounds = numbers.next().unwrap_or(100);
    println!("{workers} processes, {rounds} tests each, {PORTS} ports per test");
    println!(
        "{:<34}{:>8}{:>12}{:>10}",
        "method", "binds", "collisions", "seconds"
    );
    for (method, name) in METHODS {
        let start = Instant::now();
        let children: Vec<Child> = (0..workers).map(|_| worker(method, rounds)).collect();
        let collisions: usize = children
            .into_iter()
            .map(|child| {
                let output = child.wait_with_output().unwrap();
                String::from_utf8(output.stdout)
                    .unwrap()
                    .trim()
                    .parse::<usize>()
                    .unwrap()
            })
            .sum();
        let (binds, seconds) = (workers * rounds * PORTS, start.elapsed().as_secs_f32());
        println!("{name:<34}{binds:>8}{collisions:>12}{seconds:>10.1}");
    }
}

fn worker(method: &str, rounds: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(rounds.to_string())
        .env(ROLE, method)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns the number of ports that were somebody else's.
fn work(method: &str, rounds: usize) -> usize {
    (0..rounds)
        .map(|_| match method {
            "bind0" => collisions(&[(); PORTS].map(|()| {
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .unwrap()
                    .local_addr()
                    .unwrap()
                    .port()
            })),
            "portpicker" => {
                collisions(&[(); PORTS].map(|()| portpicker::pick_unused_port().unwrap()))
            }
            _ => {
                let env = TestEnv::builder()
                    .endpoint("a", "A", Flavour::Leased)
                    .endpoint("b", "B", Flavour::Leased)
                    .endpoint("c", "C", Flavour::Leased)
                    .build();
                let ports = ["a", "b", "c"].map(|name| env.endpoint(name).port().unwrap());
                let found = collisions(&ports);
                env.finish();
                found
            }
        })
        .sum()
}

fn collisions(ports: &[u16; PORTS]) -> usize {
    std::thread::sleep(DELAY);
    let bound = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    std::thread::sleep(HOLD);
    bound.iter().filter(|bound| bound.is_err()).count()
}
