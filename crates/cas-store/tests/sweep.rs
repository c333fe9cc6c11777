//! Verification and garbage collection of a whole store.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs::{self, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cas_store::{GcOptions, GcReport, Options, Store, SweepOptions, VerifyReport};
use tempfile::TempDir;
use vx_digest::{Digest, DigestFunction};

fn open(path: &Path, lease: Duration) -> Store {
    Store::open(
        path,
        Options {
            lease,
            ..Options::default()
        },
    )
    .unwrap()
}

fn store(lease: Duration) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), lease);
    (dir, store)
}

fn path(store: &Store, digest: &Digest) -> PathBuf {
    store.path(digest, false).unwrap().unwrap()
}

/// Makes a file look as if it had been used last so many hours ago.
fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    fs::File::open(path)
        .unwrap()
        .set_times(FileTimes::new().set_accessed(then))
        .unwrap();
}

/// Ten blobs of one block each, the first one used longest ago.
fn ten(store: &Store) -> Vec<Digest> {
    (0..10u8)
        .map(|n| {
            let digest = Digest::of(&[n; 100]);
            store.put_bytes(&digest, &[n; 100]).unwrap();
            age(&path(store, &digest), 100 - u64::from(n));
            digest
        })
        .collect()
}

fn present(store: &Store, digests: &[Digest]) -> Vec<bool> {
    // Without asking the store, which would be a use.
    let name = |digest: &Digest| {
        let hex = digest.hex();
        format!("blobs/blake3/{}/{hex}_{}.bin", &hex[..2], digest.size)
    };
    digests
        .iter()
        .map(|digest| store.root().join(name(digest)).exists())
        .collect()
}

#[test]
fn verify_finds_what_no_reader_has_met() {
    let (_dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    store.path(&digests[9], true).unwrap();
    store.actions().put_first(&digests[0], b"result").unwrap();
    store
        .put_bytes_sha256(&DigestFunction::Sha256.digest(b"abc"), b"abc")
        .unwrap();
    let clean = store.verify().unwrap();
    let expected = VerifyReport {
        blobs: 12,
        bytes: 1103,
        actions: 1,
        index_entries: 1,
        ..Default::default()
    };
    assert_eq!(clean, expected);

    let damage = |path: &Path, bytes: &[u8]| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, bytes).unwrap();
    };
    damage(&path(&store, &digests[0]), &[77; 100]);
    damage(&path(&store, &digests[1]), b"");
    let shard = path(&store, &digests[2]).parent().unwrap().to_owned();
    fs::write(shard.join("README"), "nobody reads this").unwrap();
    let misplaced = path(&store, &digests[3]);
    fs::rename(&misplaced, shard.join(misplaced.file_name().unwrap())).unwrap();
    let hex = digests[0].hex();
    damage(
        &store
            .root()
            .join(format!("actions/{}/{hex}_100", &hex[..2])),
        b"casrec1\n",
    );

    let report = store.verify().unwrap();
    assert_eq!(
        (report.blobs, report.actions, report.quarantined),
        (9, 0, 5),
        "{report:?}"
    );
    assert!(
        report.names.iter().any(|name| name.ends_with("/README")),
        "{report:?}"
    );
    assert_eq!(present(&store, &digests[..4]), [false, false, true, false]);
    let again = store.verify().unwrap();
    assert_eq!((again.blobs, again.quarantined), (9, 0));
    assert_eq!(store.stats().unwrap().quarantine, 5);
}

#[test]
fn verify_finds_what_lies_between_the_shards() {
    for levels in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        let options = Options {
            levels,
            ..Options::default()
        };
        let store = Store::open(&root, options).unwrap();
        ten(&store);
        let area = root.join(if levels == 1 {
            "blobs/blake3"
        } else {
            "blake3"
        });
        let mut strays = vec![area.join("notes.txt"), area.join("00")];
        if levels == 2 {
            fs::create_dir(area.join("zz")).unwrap();
            strays.push(area.join("zz/ab"));
        }
        strays.push(root.join("index/sha256/file"));
        strays.push(root.join("actions/file"));
        for stray in &strays {
            let made = fs::File::create_new(stray);
            assert!(made.is_ok(), "{} has to be free", stray.display());
        }
        std::os::unix::fs::symlink("/", area.join("link")).unwrap();
        let report = store.verify().unwrap();
        assert_eq!(report.blobs, 10);
        assert_eq!(report.quarantined, strays.len() as u64 + 1, "{report:?}");
        for stray in &strays {
            let name = stray.strip_prefix(&root).unwrap().to_str().unwrap();
            assert!(report.names.iter().any(|n| n == name), "{report:?}");
            assert!(fs::symlink_metadata(stray).is_err(), "{name}");
        }
        assert_eq!(store.verify().unwrap().quarantined, 0);
    }
}

#[test]
fn verify_is_no_use() {
    let (_dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    let oldest = path(&store, &digests[0]);
    age(&oldest, 1000);
    let before = fs::metadata(&oldest).unwrap().accessed().unwrap();
    store.verify().unwrap();
    assert_eq!(fs::metadata(&oldest).unwrap().accessed().unwrap(), before);
}

#[test]
fn the_least_recently_used_goes_first() {
    let (_dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    assert!(store.contains(&digests[0]).unwrap(), "which is a use");
    let report = store
        .gc(&GcOptions {
            max_bytes: 4 * 4096,
            dry_run: false,
        })
        .unwrap();
    assert_eq!(
        (report.blobs, report.bytes_freed, report.bytes_kept),
        (6, 6 * 4096, 4 * 4096)
    );
    let mut expected = [true; 10];
    expected[1..7].fill(false);
    assert_eq!(present(&store, &digests), expected);
    let again = store
        .gc(&GcOptions {
            max_bytes: 4 * 4096,
            dry_run: false,
        })
        .unwrap();
    assert_eq!(
        again,
        GcReport {
            bytes_kept: 4 * 4096,
            ..GcReport::default()
        }
    );
}

#[test]
fn a_dry_run_says_what_the_run_does() {
    let (_dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    store.path(&digests[1], true).unwrap();
    store.actions().put_first(&digests[0], b"result").unwrap();
    store
        .put_bytes_sha256(&DigestFunction::Sha256.digest(b"abc"), b"abc")
        .unwrap();
    fs::write(store.root().join("quarantine/something"), "").unwrap();
    fs::create_dir(store.root().join("quarantine/directory")).unwrap();
    fs::write(store.root().join("tmp/1-dead.0"), "").unwrap();
    let before = store.stats().unwrap();
    let dry = store
        .gc(&GcOptions {
            max_bytes: 0,
            dry_run: true,
        })
        .unwrap();
    assert_eq!(store.stats().unwrap(), before);
    let run = store
        .gc(&GcOptions {
            max_bytes: 0,
            dry_run: false,
        })
        .unwrap();
    assert_eq!(dry, run);
    let expected = GcReport {
        blobs: 11,
        actions: 1,
        index_entries: 1,
        bytes_freed: 13 * 4096,
        bytes_kept: 0,
        temporary: 1,
        quarantined: 2,
    };
    assert_eq!(run, expected);
    let after = store.stats().unwrap();
    assert_eq!(
        (
            after.blobs,
            after.executables,
            after.actions,
            after.index_entries
        ),
        (0, 0, 0, 0)
    );
}

#[test]
fn what_was_reported_as_present_is_leased() {
    let (_dir, store) = store(Duration::from_secs(3600));
    let digests = ten(&store);
    // The traces on disk are old, so that only this process's memory protects.
    let other = open(store.root(), Duration::from_secs(3600));
    assert_eq!(other.missing(&digests[..2]).unwrap(), []);
    for digest in &digests[..2] {
        age(&path(&store, digest), 200);
    }
    let report = other
        .gc(&GcOptions {
            max_bytes: 0,
            dry_run: false,
        })
        .unwrap();
    assert_eq!((report.blobs, report.bytes_kept), (8, 2 * 4096));
    assert_eq!(present(&store, &digests[..3]), [true, true, false]);
}

#[test]
fn what_another_process_uses_is_left_alone() {
    let (_dir, store) = store(Duration::from_secs(3600));
    let digests = ten(&store);
    assert!(store.read(&digests[4]).unwrap().is_some());
    let other = open(store.root(), Duration::from_secs(3600));
    other
        .gc(&GcOptions {
            max_bytes: 0,
            dry_run: false,
        })
        .unwrap();
    let mut expected = [false; 10];
    expected[4] = true;
    assert_eq!(present(&store, &digests), expected);
}

#[test]
fn a_use_leaves_a_trace_at_most_once_in_a_while() {
    let (_dir, store) = store(Duration::from_secs(24 * 3600));
    let digest = Digest::of(b"content");
    store.put_bytes(&digest, b"content").unwrap();
    let path = path(&store, &digest);
    let accessed = || fs::metadata(&path).unwrap().accessed().unwrap();
    let minutes = |minutes: u64| SystemTime::now() - Duration::from_secs(minutes * 60);
    let set = |time| {
        fs::File::open(&path)
            .unwrap()
            .set_times(FileTimes::new().set_accessed(time))
            .unwrap();
    };
    set(minutes(30));
    let before = accessed();
    assert!(store.contains(&digest).unwrap());
    assert_eq!(accessed(), before);
    set(minutes(90));
    assert!(store.contains(&digest).unwrap());
    assert!(accessed() > minutes(1));
}

#[test]
fn collecting_while_others_write_loses_nothing_they_were_promised() {
    let (_dir, store) = store(Duration::from_secs(3600));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..300u32 {
                let bytes = (n % 50).to_be_bytes();
                let digest = Digest::of(&bytes);
                if !store.contains(&digest).unwrap() {
                    store.put_bytes(&digest, &bytes).unwrap();
                }
                assert_eq!(store.read(&digest).unwrap().unwrap(), bytes);
            }
        });
        while !writer.is_finished() {
            store
                .gc(&GcOptions {
                    max_bytes: 0,
                    dry_run: false,
                })
                .unwrap();
        }
    });
}

#[test]
fn a_sweep_takes_what_is_dead_and_nothing_else() {
    let (dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    let is_dead = |digest: &Digest| digests.iter().position(|d| d == digest) >= Some(4);
    let options = SweepOptions {
        dry_run: true,
        ..SweepOptions::default()
    };
    let plan = store.sweep(&is_dead, &options).unwrap();
    assert_eq!((plan.blobs, plan.in_use), (6, 0));
    assert_eq!((plan.bytes_freed, plan.bytes_kept), (6 * 4096, 4 * 4096));
    assert_eq!(present(&store, &digests), [true; 10]);
    let run = SweepOptions::default();
    assert_eq!(store.sweep(&is_dead, &run).unwrap(), plan);
    let left: Vec<bool> = (0..10).map(|n| n < 4).collect();
    assert_eq!(present(&store, &digests), left);
    drop(dir);
}

#[test]
fn a_sweep_stops_at_its_budget_and_spares_what_was_used() {
    let (_dir, store) = store(Duration::ZERO);
    let digests = ten(&store);
    let options = SweepOptions {
        max_bytes: Some(7 * 4096),
        ..SweepOptions::default()
    };
    assert_eq!(store.sweep(&|_| true, &options).unwrap().blobs, 3);
    // Those left were used 97 to 91 hours ago.
    let options = SweepOptions {
        unused_for: Duration::from_secs(94 * 3600),
        ..SweepOptions::default()
    };
    let swept = store.sweep(&|_| true, &options).unwrap();
    assert_eq!((swept.blobs, swept.in_use), (4, 3));
    assert_eq!(present(&store, &digests)[7..], [true; 3]);
}

#[test]
fn a_peek_checks_and_is_no_use() {
    let (_dir, store) = store(Duration::from_secs(3600));
    let digest = Digest::of(b"abc");
    store.put_bytes(&digest, b"abc").unwrap();
    let path = path(&store, &digest);
    drop(store.clone());
    age(&path, 100);
    let again = open(store.root(), Duration::from_secs(3600));
    assert!(again.has_file(&digest).unwrap());
    assert_eq!(again.peek(&digest).unwrap().as_deref(), Some(&b"abc"[..]));
    let swept = again.sweep(&|_| true, &SweepOptions::default()).unwrap();
    assert_eq!((swept.blobs, swept.in_use), (1, 0));
    assert!(!again.has_file(&digest).unwrap());
    assert_eq!(again.peek(&digest).unwrap(), None);
}
