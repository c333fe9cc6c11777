//! Replays the corpus of the fuzzers, each file as it is and cut at every byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use daemon_rpc::fuzzing;

/// All files of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 10, "the corpus of {target} is not there");
    files
}

fn replay(target: &str, run: fn(&[u8]) -> bool) {
    let mut got_through = 0;
    for (_name, bytes) in corpus(target) {
        got_through += usize::from(run(&bytes));
        // Long ones are data; what is interesting stands at their ends.
        for cut in 0..bytes.len().min(256) {
            run(&bytes[..cut]);
        }
    }
    // Otherwise nothing behind the first check was tried at all.
    assert!(got_through >= 3, "{got_through} of {target} got through");
}

#[test]
fn frames() {
    replay("frames", fuzzing::frames);
}

#[test]
fn server() {
    replay("server", fuzzing::server);
}

#[test]
fn client() {
    replay("client", fuzzing::client);
}

/// Random changes of the corpus, the same in every run: what a fuzzer does first.
#[test]
fn changed_bytes() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % below
    };
    // As many as take a moment: a server is started for each of its own.
    for (target, rounds, run) in [
        ("frames", 20_000, fuzzing::frames as fn(&[u8]) -> bool),
        ("client", 4_000, fuzzing::client),
        ("server", 600, fuzzing::server),
    ] {
        let files = corpus(target);
        for _ in 0..rounds {
            let mut bytes = files[random(files.len())].1.clone();
            if bytes.is_empty() {
                continue;
            }
            for _ in 0..1 + random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            run(&bytes);
        }
    }
}
