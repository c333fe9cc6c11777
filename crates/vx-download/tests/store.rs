//! What is in the cache is right when it is handed out, read-only, within its
//! size, and never taken away from those who use it.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use support::{Scene, files_in};
use vx_download::{Cache, Digest, Entry, Error, Options, Request};

#[test]
fn entries_are_read_only() {
    let scene = Scene::new();
    let entry = scene.fetch().unwrap();
    let mode = fs::metadata(entry.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
}

#[test]
fn a_tampered_entry_is_put_aside_and_fetched_again() {
    let scene = Scene::new();
    drop(scene.fetch().unwrap());
    let tamper = [
        // Same size, cut off, and not even a file.
        |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
            let mut bytes = fs::read(path).unwrap();
            bytes[1000] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "").unwrap();
        },
        |path: &Path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        },
    ];
    for (round, tamper) in tamper.into_iter().enumerate() {
        tamper(&scene.entry_path());
        assert!(scene.cache().lookup(&scene.digest()).unwrap().is_none());
        assert!(scene.assert_fetched().was_downloaded());
        scene.server.assert_requests("/file", round + 2);
        assert_eq!(files_in(&scene.dir.path().join("v1/quarantine")), round + 1);
    }
}

#[test]
fn a_wrong_size_is_the_callers_fault_and_costs_the_cache_nothing() {
    let scene = Scene::new();
    drop(scene.fetch().unwrap());
    let error = scene
        .cache()
        .fetch_blocking(&scene.request().size(1))
        .unwrap_err();
    assert!(
        matches!(error, Error::WrongSize { expected: 1, .. }),
        "{error}"
    );
    assert!(!scene.assert_fetched().was_downloaded());
}

/// A cache with room for three and a half files, and the way to put one in.
struct Small {
    dir: tempfile::TempDir,
    options: Options,
}

impl Small {
    fn new() -> Small {
        let mut options = Options::default();
        options.size_limit = 3500;
        let dir = tempfile::tempdir().unwrap();
        Small { dir, options }
    }

    fn cache(&self) -> Cache {
        Cache::open(self.dir.path().join("cache"), self.options.clone()).unwrap()
    }

    fn put(&self, byte: u8) -> Entry {
        let source = self.dir.path().join("source");
        fs::write(&source, vec![byte; 1000]).unwrap();
        let url = format!("file://{}", source.display());
        let digest = Digest::blake3(&[byte; 1000]);
        self.cache()
            .fetch_blocking(&Request::new(url, digest))
            .unwrap()
    }

    fn has(&self, byte: u8) -> bool {
        // Not by `lookup`, which is a use.
        let name = Digest::blake3(&[byte; 1000]).hex();
        self.dir.path().join("cache/v1/blake3").join(name).exists()
    }

    /// As if it had been used last so many seconds ago.
    fn age(&self, path: &Path, seconds: u64) {
        let file = fs::File::open(path).unwrap();
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let small = Small::new();
    for byte in 1..=3 {
        let entry = small.put(byte);
        small.age(entry.path(), 100 - u64::from(byte));
    }
    // A use makes it young again.
    let used = Digest::blake3(&[1; 1000]);
    drop(small.cache().lookup(&used).unwrap().unwrap());
    drop(small.put(4));
    let there: Vec<bool> = (1..=4).map(|byte| small.has(byte)).collect();
    assert_eq!(there, [true, false, true, true]);
    // The lock of what has gone has gone as well.
    let lock = format!("blake3-{}", Digest::blake3(&[2; 1000]).hex());
    assert!(!small.dir.path().join("cache/v1/lock").join(lock).exists());
}

#[test]
fn what_is_in_use_is_never_evicted() {
    let small = Small::new();
    let first = small.put(1);
    small.age(first.path(), 1000);
    for byte in 2..=5 {
        drop(small.put(byte));
    }
    assert!(small.has(1));
    assert_eq!(fs::read(first.path()).unwrap(), [1; 1000]);
    small.age(first.path(), 1000);
    drop(first);
    drop(small.put(6));
    assert!(!small.has(1));
}

#[test]
fn evidence_goes_first_and_leftovers_count() {
    let small = Small::new();
    drop(small.put(1));
    let root = small.dir.path().join("cache/v1");
    fs::write(root.join("quarantine/blake3-x-1"), [0; 2000]).unwrap();
    let partial = root.join("partial/blake3-y");
    fs::write(&partial, [0; 1000]).unwrap();
    small.age(&partial, 1000);
    drop(small.put(2));
    assert_eq!(files_in(&root.join("quarantine")), 0);
    assert!(partial.exists() && small.has(1));
    drop(small.put(3));
    assert!(!partial.exists() && small.has(1));
}

#[test]
fn a_leftover_that_is_no_file_is_removed() {
    let scene = Scene::new();
    scene.cache();
    std::os::unix::fs::symlink("/dev/zero", scene.partial_path()).unwrap();
    scene.assert_fetched();
}

#[test]
fn a_cache_that_cannot_be_made_is_told() {
    let error = Cache::open("/dev/null/cache", Options::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to create `/dev/null/cache/"),
        "{error}"
    );
}
