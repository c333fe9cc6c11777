//! How fast the installed toolchain becomes an input, beside a copy of the same files.
//!
//! Prints sizes, times and the ratio; run it twice to have the files in the page cache.

#![expect(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use vx_toolchain::{Found, Request, find, select};
use vx_tree::Records;

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

fn main() {
    let environment: Vec<_> = std::env::vars().collect();
    let request = Request {
        directory: Path::new("/"),
        environment: &environment,
        channel: None,
    };
    let rustup = request.rustup().unwrap();
    let selection = select(&request, &rustup).unwrap();
    let Found::Here(toolchain, source) = find(&request, &rustup, &selection).unwrap() else {
        println!("the chosen toolchain is not on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Both read the files once; the first of them would pay for the disk.
    let warm = Records::new(dir.path().join("warm"));
    toolchain.trees(&warm).unwrap();
    let records = Records::new(dir.path().join("records"));
    let (trees, first) = timed(|| toolchain.trees(&records).unwrap());
    let (_, again) = timed(|| toolchain.trees(&records).unwrap());
    let bytes: u64 = trees
        .iter()
        .flat_map(|tree| &tree.tree.files)
        .map(|file| file.digest.size)
        .sum();
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let (copied, copying) = timed(|| {
        let mut command = Command::new("cp");
        command.arg("-r").args(toolchain.directories()).arg(&copy);
        command.status().unwrap()
    });
    assert!(copied.success());
    let megabytes = bytes as f64 / 1e6;
    let speed = |time: Duration| megabytes / time.as_secs_f64();
    println!("{} ({source}), {megabytes:.0} MB", toolchain.release());
    println!("read once     {first:>8.2?}  {:>6.0} MB/s", speed(first));
    println!("recognised    {again:>8.2?}");
    println!(
        "cp -r         {copying:>8.2?}  {:>6.0} MB/s",
        speed(copying)
    );
    println!(
        "ratio         {:.2} of the time of cp -r",
        first.as_secs_f64() / copying.as_secs_f64()
    );
}
