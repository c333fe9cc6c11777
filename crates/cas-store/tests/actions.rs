//! Action results: the first writer wins, and damage is a miss.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Barrier;

use cas_store::{Options, PutError, Store};
use tempfile::TempDir;
use vx_digest::Digest;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    (dir, store)
}

fn file_of(store: &Store, key: &Digest) -> PathBuf {
    let hex = key.hex();
    store
        .root()
        .join("actions")
        .join(&hex[..2])
        .join(format!("{hex}_{}", key.size))
}

#[test]
fn the_first_result_stays() {
    let (_dir, store) = store();
    let key = Digest::of(b"action");
    assert_eq!(store.actions().get(&key).unwrap(), None);
    assert_eq!(store.actions().put_first(&key, b"first").unwrap(), b"first");
    assert_eq!(
        store.actions().put_first(&key, b"second").unwrap(),
        b"first"
    );
    assert_eq!(store.actions().get(&key).unwrap().unwrap(), b"first");
    let other = Digest {
        size: key.size + 1,
        ..key
    };
    assert_eq!(store.actions().get(&other).unwrap(), None);
    assert_eq!(store.stats().unwrap().temporary, 0);
}

#[test]
fn of_many_writers_all_are_told_the_same_winner() {
    let (_dir, store) = store();
    let barrier = Barrier::new(8);
    for round in 0..20u8 {
        let key = Digest::of(&[round]);
        let told: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8u8)
                .map(|writer| {
                    let (store, barrier) = (&store, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        store.actions().put_first(&key, &[writer]).unwrap()
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        });
        let winner = store.actions().get(&key).unwrap().unwrap();
        assert!(told.iter().all(|answer| *answer == winner), "{told:?}");
    }
}

#[test]
fn a_damaged_result_is_a_miss_and_replaceable() {
    let (_dir, store) = store();
    let key = Digest::of(b"action");
    for damage in [
        "",
        "casrec1\n",
        "something else that is long enough to be a record with a sum",
    ] {
        store.actions().put_first(&key, b"result").unwrap();
        let path = file_of(&store, &key);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, damage).unwrap();
        assert_eq!(
            store.actions().put_first(&key, b"better").unwrap(),
            b"better"
        );
        fs::remove_file(&path).unwrap();
    }
    store.actions().put_first(&key, b"result").unwrap();
    let other = Digest::of(b"other action");
    fs::create_dir_all(file_of(&store, &other).parent().unwrap()).unwrap();
    fs::rename(file_of(&store, &key), file_of(&store, &other)).unwrap();
    assert_eq!(
        store.actions().get(&other).unwrap(),
        None,
        "it is another action's result"
    );
}

#[test]
fn a_result_is_forgotten_only_if_it_is_the_one_that_was_meant() {
    let (_dir, store) = store();
    let key = Digest::of(b"action");
    assert!(!store.actions().forget(&key, b"first").unwrap());
    store.actions().put_first(&key, b"first").unwrap();
    assert!(!store.actions().forget(&key, b"firs").unwrap());
    assert!(!store.actions().forget(&key, b"second").unwrap());
    assert!(store.actions().forget(&key, b"first").unwrap());
    assert_eq!(
        store.actions().put_first(&key, b"second").unwrap(),
        b"second"
    );
}

#[test]
fn an_enormous_result_is_refused() {
    let (_dir, store) = store();
    let refused = store
        .actions()
        .put_first(&Digest::of(b""), &vec![0; (64 << 20) + 1]);
    assert!(matches!(refused, Err(PutError::TooLarge { .. })));
}
