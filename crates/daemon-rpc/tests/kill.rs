//! A server that is killed in the middle of a stream is never a success.
//!
//! The test program plays the server itself: it runs again with `role_server`
//! selected and a variable that names the socket. Without it that test does
//! nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::env;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{
    Client, Command, ConnectError, EndStatus, Interruption, Outcome, OutputChunk, Refused,
};
use kit::{Commands, PATIENCE, client_config, config};
use rustix::process::{Resource, Rlimit, setrlimit};

const SOCKET: &str = "RPC_TEST_SOCKET";
/// How many descriptors the server may have, if that is limited.
const FILES: &str = "RPC_TEST_FILES";
/// Whether it may run more commands than usual at a time.
const MANY: &str = "RPC_TEST_MANY";
const TOTAL: usize = 8 << 20;

#[test]
fn role_server() {
    let Some(path) = env::var_os(SOCKET) else {
        return;
    };
    if let Ok(files) = env::var(FILES) {
        let files = files.parse().ok();
        let limit = Rlimit {
            current: files,
            maximum: files,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    let listener = UnixListener::bind(path).unwrap();
    let mut config = config();
    if env::var_os(MANY).is_some() {
        config.max_concurrent = 64;
    }
    kit::run_server(
        listener.into(),
        config,
        Commands(Default::default()),
        Default::default(),
    );
}

fn server(path: &Path) -> process::Command {
    let mut command = process::Command::new(env::current_exe().unwrap());
    command
        .args(["role_server", "--exact"])
        .env(SOCKET, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn start_server(path: &Path) -> Child {
    server(path).spawn().unwrap()
}

fn connect(endpoint: &Endpoint) -> Client {
    let started = Instant::now();
    loop {
        match Client::connect(endpoint, client_config()) {
            Ok(client) => return client,
            Err(ConnectError::NotRunning { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(started.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// Kills the server when `after` bytes have arrived; what the client made of it,
/// and how much it got.
fn killed_after(round: usize, after: usize) -> (Outcome, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{round}"));
    let mut server = start_server(&path);
    let client = connect(&Endpoint::Unix(path));
    let mut received = 0;
    let mut alive = true;
    let outcome = client.run(&Command::new(format!("flood {TOTAL}")), |frame| {
        if let OutputChunk::Stdout(bytes) = frame {
            received += bytes.len();
        }
        if alive && received >= after {
            alive = false;
            // What is read from here on was in the kernel when it died.
            server.kill().unwrap();
            server.wait().unwrap();
        }
    });
    server.kill().unwrap();
    server.wait().unwrap();
    (outcome, received)
}

#[test]
fn a_killed_server_is_never_a_success() {
    for round in 0..100 {
        // From the first chunk to the last but a few.
        let after = 1 + round * (TOTAL - (1 << 20)) / 100;
        let (outcome, received) = killed_after(round, after);
        let reason = Interruption::Closed;
        assert_eq!(outcome, Outcome::Interrupted { reason }, "round {round}");
        assert!((after..TOTAL).contains(&received), "round {round}");
    }
}

#[test]
fn nobody_is_killed_and_it_is_a_success() {
    let (outcome, received) = killed_after(0, usize::MAX);
    assert_eq!(outcome, Outcome::Finished(EndStatus::Exit(0)));
    assert_eq!(received, TOTAL);
}

#[test]
fn a_server_killed_before_it_accepted_has_done_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let mut server = start_server(&path);
    let client = connect(&Endpoint::Unix(path));
    server.kill().unwrap();
    server.wait().unwrap();
    let reason = Refused::Closed;
    assert_eq!(
        client.run(&Command::new("exit 0"), |_| {}),
        Outcome::NotAdmitted { reason }
    );
}

#[test]
fn a_server_without_descriptors_serves_again_when_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let mut server = server(&path).env(FILES, "24").spawn().unwrap();
    let endpoint = Endpoint::Unix(path.clone());
    // Who was let in already is served all the time.
    let early = connect(&endpoint);
    let crowd: Vec<UnixStream> = (0..64)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    let success = Outcome::Finished(EndStatus::Exit(0));
    assert_eq!(early.run(&Command::new("exit 0"), |_| {}), success);
    // Nor does it try again and again: that would take all the time there is.
    let (began, before) = (Instant::now(), processor_ticks(&server));
    while began.elapsed() < Duration::from_secs(1) {
        let ticks = processor_ticks(&server) - before;
        assert!(ticks < 50, "{ticks} ticks of work while there is none");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    drop(crowd);
    assert_eq!(
        connect(&endpoint).run(&Command::new("exit 0"), |_| {}),
        success
    );
    server.kill().unwrap();
    server.wait().unwrap();
}

/// The time of the processor that it has had, in hundredths of a second (fields 14 and
/// 15 of proc(5)).
fn processor_ticks(process: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    ticks(14) + ticks(15)
}

/// Resident memory of a process, in bytes.
fn resident(process: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[test]
fn fifty_clients_that_do_not_read_cost_a_bounded_amount_and_delay_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sock");
    let mut server = server(&path).env(MANY, "1").spawn().unwrap();
    let endpoint = Endpoint::Unix(path);
    let success = Outcome::Finished(EndStatus::Exit(0));
    assert_eq!(
        connect(&endpoint).run(&Command::new("exit 0"), |_| {}),
        success
    );
    let before = resident(&server);
    // Each wants a gigabyte, and reads none of it.
    let flood = Command::new(format!("flood {}", 1 << 30));
    let stalled: Vec<_> = (0..50)
        .map(|_| Client::start(&endpoint, client_config(), &flood).unwrap())
        .collect();
    let mut received = 0;
    for _ in 0..20 {
        let outcome = connect(&endpoint).run(&Command::new("flood 1000000"), |chunk| {
            if let OutputChunk::Stdout(bytes) = chunk {
                received += bytes.len();
            }
        });
        assert_eq!(outcome, success);
    }
    assert_eq!(received, 20_000_000);
    // A queue, what was taken from it to be written, and a thread for each.
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 50 << 20, "{grown} bytes more");
    drop(stalled);
    server.kill().unwrap();
    server.wait().unwrap();
}
