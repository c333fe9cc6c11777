//! Many processes on one store, some of which are killed in the middle of a write.
//!
//! Each test starts itself again as its children: a variable in the environment says so.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cas_store::{Options, Store};
use vx_digest::Digest;

/// Names the store that a child is to write into.
const CHILD_STORE: &str = "CAS_STORE_TEST_CHILD";
/// Lets children differ.
const CHILD_SEED: &str = "CAS_STORE_TEST_SEED";

fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).unwrap()
}

/// The store and the seed, if this process is a child.
fn as_child() -> Option<(Store, u64)> {
    let path = PathBuf::from(std::env::var_os(CHILD_STORE)?);
    let seed = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    Some((open(&path), seed))
}

fn start_child(test: &str, store: &Path, seed: u64, stdin: impl Into<Stdio>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_STORE, store)
        .env(CHILD_SEED, seed.to_string())
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Tells the parent, on a line of its own whatever the test runner has printed before.
fn tell(message: &str) {
    let mut out = std::io::stdout().lock();
    write!(out, "\n@{message}\n").unwrap();
    out.flush().unwrap();
}

/// What a child told.
fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix('@').map(str::to_owned))
}

/// Content that is the same in every process; up to 400 KB.
fn content(n: u64) -> Vec<u8> {
    let size = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 45) % 400_000 + 1;
    let mut state = n;
    (0..size)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn after_sigkill_at_any_point_every_visible_blob_is_whole() {
    if let Some((store, seed)) = as_child() {
        // Endless: it ends by being killed. Neighbours write half of the same blobs.
        for n in seed.. {
            let bytes = content(n * 50);
            let mut writer = store.writer(None).unwrap();
            for piece in bytes.chunks(10_000) {
                writer.append(piece).unwrap();
            }
            let digest = writer.commit().unwrap().digest;
            store.path(&digest, true).unwrap().unwrap();
            store
                .actions()
                .put_first(&digest, &n.to_be_bytes())
                .unwrap();
            tell(&digest.to_string());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "after_sigkill_at_any_point_every_visible_blob_is_whole";
    let mut promised = Vec::new();
    for round in 0..5 {
        let mut children: Vec<Child> = (0..2)
            .map(|n| start_child(test, dir.path(), round * 4 + n * 3, Stdio::null()))
            .collect();
        // Killed after a different number of blobs each, at whatever they are doing then.
        let mut tellers: Vec<_> = children.iter_mut().map(told).collect();
        for (n, teller) in tellers.iter_mut().enumerate() {
            let blobs = 2 + (round as usize * 3 + n) % 5;
            let before = promised.len();
            promised.extend(teller.by_ref().take(blobs));
            assert_eq!(
                promised.len() - before,
                blobs,
                "a child ended before it was killed"
            );
        }
        for child in &mut children {
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
    }
    let left = open(dir.path()).stats().unwrap();
    assert_eq!(left.temporary, 0, "what the dead left behind is gone");
    let store = open(dir.path());
    let report = store.verify().unwrap();
    assert_eq!(report.quarantined, 0, "{report:?}");
    for digest in promised {
        let digest: Digest = digest.parse().unwrap();
        assert!(
            store.read(&digest).unwrap().is_some(),
            "`{digest}` was answered"
        );
        assert!(store.actions().get(&digest).unwrap().is_some());
    }
}

#[test]
fn of_many_processes_storing_the_same_blobs_all_succeed_and_one_is_first() {
    const BLOBS: u64 = 40;
    if let Some((store, seed)) = as_child() {
        // Nobody begins before all are there.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        for n in 0..BLOBS {
            let bytes = content(n);
            let digest = Digest::of(&bytes);
            let stored = if seed % 2 == 0 {
                store.put_bytes(&digest, &bytes).unwrap()
            } else {
                let mut writer = store.writer(Some(digest)).unwrap();
                writer.append(&bytes).unwrap();
                writer.commit().unwrap()
            };
            if stored.new {
                tell(&digest.to_string());
            }
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "of_many_processes_storing_the_same_blobs_all_succeed_and_one_is_first";
    let (reader, gate) = std::io::pipe().unwrap();
    let mut children: Vec<Child> = (0..4)
        .map(|seed| start_child(test, dir.path(), seed, reader.try_clone().unwrap()))
        .collect();
    drop(gate);
    let mut new: Vec<String> = children.iter_mut().flat_map(told).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    new.sort();
    let mut expected: Vec<String> = (0..BLOBS)
        .map(|n| Digest::of(&content(n)).to_string())
        .collect();
    expected.sort();
    assert_eq!(new, expected, "each blob was new to exactly one");
    let report = open(dir.path()).verify().unwrap();
    assert_eq!((report.blobs, report.quarantined), (BLOBS, 0));
}
