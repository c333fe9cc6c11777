//! Measures daemon-rpc, tonic and tarpc side by side and prints ratios: figures of a
//! machine that others use as well mean nothing by themselves.
//!
//! Each server is a program of its own with one thread for its connections. The
//! clients of tonic and tarpc run on a runtime with one thread, that of daemon-rpc
//! is blocking, as each is meant to be used.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use daemon_rpc_peers::{Samples, block_on, calls, grpc, ours};

const KINDS: [&str; 3] = ["daemon-rpc", "tonic", "tarpc"];

/// A server in a process of its own.
struct Server {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(kind: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let program = std::env::current_exe().unwrap();
        let program = program.with_file_name(format!("serve-{kind}"));
        let child = Command::new(program)
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            thread::yield_now();
        }
        Server {
            child,
            socket,
            _folder: folder,
        }
    }

    /// Resident memory, in MiB.
    fn resident(&self) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = BufReader::new(std::fs::File::open(path).unwrap());
        let line = status
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn this_program(arguments: &[&str], socket: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).arg(socket).stdin(Stdio::null());
    command
}

fn round_trips(kind: &str, socket: &Path, rounds: usize) -> Samples {
    match kind {
        "tonic" => block_on(grpc::round_trips(socket, rounds)),
        "tarpc" => block_on(calls::round_trips(socket, rounds)),
        _ => ours::round_trips(socket, rounds),
    }
}

fn connect_and_reply(kind: &str, socket: &Path, rounds: usize) -> Samples {
    match kind {
        "tonic" => block_on(grpc::connect_and_reply(socket, rounds)),
        "tarpc" => block_on(calls::connect_and_reply(socket, rounds)),
        _ => ours::connect_and_reply(socket, rounds),
    }
}

fn stream(kind: &str, socket: &Path, bytes: u64, size: u32) -> f64 {
    match kind {
        "tonic" => block_on(grpc::stream(socket, bytes, size)),
        // Slow enough to be measured with less.
        "tarpc" => block_on(calls::stream(socket, bytes / 8, size)),
        _ => ours::stream(socket, bytes, size),
    }
}

/// Resident memory of a server: idle, and with a thousand connections.
fn memory(kind: &str) -> (f64, f64) {
    let server = Server::start(kind);
    let idle = server.resident();
    let crowded = match kind {
        "tonic" => block_on(async {
            let _crowd = grpc::crowd(&server.socket, 1000).await;
            server.resident()
        }),
        "tarpc" => block_on(async {
            let _crowd = calls::crowd(&server.socket, 1000).await;
            server.resident()
        }),
        _ => {
            let _crowd = ours::crowd(&server.socket, 1000);
            server.resident()
        }
    };
    (idle, crowded)
}

/// Prints a row: the figure of each, and the others as multiples of the first.
fn row(name: &str, unit: &str, figures: &[f64]) {
    print!("{name:<34}");
    for figure in figures {
        let ratio = figure / figures[0];
        print!(" {figure:>9.1} {unit:<4} ({ratio:>5.2})");
    }
    println!();
}

/// Whole processes that run one command, against one that does nothing.
fn processes(server: &Server) {
    let run = |mut command: Command| {
        move || assert!(command.stdout(Stdio::null()).status().unwrap().success())
    };
    let mut nothing = Samples::take(100, run(Command::new("/bin/true")));
    let mut warm = Samples::take(
        100,
        run(this_program(&["call", "daemon-rpc"], &server.socket)),
    );
    for (name, percent) in [("median", 50), ("p95", 95)] {
        let (nothing, warm) = (nothing.percentile(percent), warm.percentile(percent));
        println!(
            "warm command as a process, {name:<6} {warm:>9.1} us   ({:.2} times /bin/true, {:.1} us more)",
            warm / nothing,
            warm - nothing,
        );
    }
}

/// Whole processes that start the daemon first: the example of this crate.
fn cold_starts(example: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let status = Command::new(example)
            .args(arguments)
            .env_clear()
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    };
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let began = Instant::now();
        run(&[]);
        cold.push(began.elapsed());
        let began = Instant::now();
        run(&[]);
        warm.push(began.elapsed());
        run(&["--stop"]);
    }
    let (mut cold, mut warm) = (Samples(cold), Samples(warm));
    let mut nothing = Samples::take(100, || {
        assert!(Command::new("/bin/true").status().unwrap().success());
    });
    for (name, percent) in [("median", 50), ("p95", 95)] {
        let nothing = nothing.percentile(percent);
        let (cold, warm) = (cold.percentile(percent), warm.percentile(percent));
        println!(
            "wordcount, {name:<6} cold {cold:.0} us ({:.1} times /bin/true), warm {warm:.0} us ({:.1} times)",
            cold / nothing,
            warm / nothing,
        );
    }
}

fn compare() {
    let servers = KINDS.map(Server::start);
    let each = |measure: &mut dyn FnMut(&str, &Path) -> f64| -> Vec<f64> {
        let measured = KINDS.iter().zip(&servers);
        measured
            .map(|(kind, server)| measure(kind, &server.socket))
            .collect()
    };
    print!("{:<34}", "");
    KINDS.iter().for_each(|kind| print!(" {kind:^23}"));
    println!();
    row(
        "round trip, open connection",
        "us",
        &each(&mut |kind, socket| round_trips(kind, socket, 10_000).percentile(50)),
    );
    row(
        "connect and first reply",
        "us",
        &each(&mut |kind, socket| connect_and_reply(kind, socket, 2_000).percentile(50)),
    );
    for size in [4, 16, 64, 256] {
        row(
            &format!("stream 1 GiB in {size} KiB"),
            "MiB/s",
            &each(&mut |kind, socket| {
                // The median of three: one pause of the machine is longer than one run.
                let mut rates = [0.0; 3];
                rates.fill_with(|| stream(kind, socket, 1 << 30, size << 10));
                rates.sort_by(f64::total_cmp);
                rates[1] / f64::from(1 << 20)
            }),
        );
    }
    processes(&servers[0]);
    drop(servers);
    let memory = KINDS.map(memory);
    row("resident, idle", "MiB", &memory.map(|(idle, _)| idle));
    row(
        "resident, 1000 connections",
        "MiB",
        &memory.map(|(_, crowded)| crowded),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // One row by itself, for `strace -fc` and `perf stat`.
        ["round-trips", kind, socket] => {
            let median = round_trips(kind, Path::new(socket), 10_000).percentile(50);
            println!("{median:.1} us");
        }
        ["connects", kind, socket] => {
            let median = connect_and_reply(kind, Path::new(socket), 10_000).percentile(50);
            println!("{median:.1} us");
        }
        ["call", kind, socket] => drop(connect_and_reply(kind, Path::new(socket), 1)),
        // The example `wordcount`, built with `--release`.
        ["cold", example] => cold_starts(Path::new(example)),
        [] => compare(),
        _ => panic!("usage: daemon-rpc-peers [cold <path of the example wordcount>]"),
    }
}
