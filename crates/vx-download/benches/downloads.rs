//! What it costs when many processes want the same file: each with a cache of its own, all with one, and all with one that has it.
//!
//! Run with `cargo bench -p vx-download --bench downloads [-- <processes> <MiB>]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and has nobody to return errors to"
)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use vx_download::{Cache, Digest, Options, Request};
use vx_testkit::HttpFixture;

const ROLE: &str = "DOWNLOADS_CACHE";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Ok(cache) = std::env::var(ROLE) {
        let digest: Digest = args[2].parse().unwrap();
        let request = Request::new(args[1].as_str(), digest);
        let cache = Cache::open(cache, Options::default()).unwrap();
        cache.fetch_blocking(&request).unwrap();
        return;
    }
    // Not when a test runner only looks whether it starts.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse::<usize>().ok());
    let processes = numbers.next().unwrap_or(32);
    let mebibytes = numbers.next().unwrap_or(8);
    let content: Vec<u8> = (0..(mebibytes as u32) << 18)
        .flat_map(u32::to_le_bytes)
        .collect();
    let digest = Digest::blake3(&content);
    let server = HttpFixture::start();
    server.file("/file", &content);
    println!("{processes} processes, {mebibytes} MiB");
    println!("{:<28}{:>10}{:>10}", "", "downloads", "ms");
    let own = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let mut before = 0;
    for name in ["a cache each", "one cache", "one cache that has it"] {
        let start = Instant::now();
        let children: Vec<Child> = (0..processes)
            .map(|number| match name {
                "a cache each" => own.path().join(number.to_string()),
                _ => shared.path().to_owned(),
            })
            .map(|cache| worker(&cache, &server.url("/file"), &digest))
            .collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let time = start.elapsed().as_millis();
        let requests = server.requests().len();
        println!("{name:<28}{:>10}{time:>10}", requests - before);
        before = requests;
    }
}

fn worker(cache: &Path, url: &str, digest: &Digest) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([url, &digest.to_string()])
        .env(ROLE, cache)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}
