//! Files into the store and out of it: ingest, hard links, executables.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;

use cas_store::{Options, PlaceError, Placed, PutError, Store};
use tempfile::TempDir;
use vx_digest::Digest;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
    (dir, store)
}

#[test]
fn an_ingested_file_is_a_copy() {
    let (dir, store) = store();
    for size in [0, 10, 3 << 20] {
        let path = dir.path().join("source");
        fs::write(&path, vec![5; size]).unwrap();
        let before = fs::File::options().write(true).open(&path).unwrap();
        let digest = store.ingest_file(&path, false).unwrap();
        assert_eq!(digest, Digest::of(&vec![5; size]));
        let blob = store.path(&digest, false).unwrap().unwrap();
        assert_ne!(
            fs::metadata(&blob).unwrap().ino(),
            fs::metadata(&path).unwrap().ino()
        );
        // A descriptor opened before reaches the file, and not the blob.
        before.write_all_at(b"changed", 0).unwrap();
        assert_eq!(store.read(&digest).unwrap().unwrap(), vec![5; size]);
        assert_eq!(store.ingest_file(&blob, true).unwrap(), digest);
    }
}

#[test]
fn what_is_no_file_cannot_be_ingested() {
    let (dir, store) = store();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let refused = store.ingest_file(&path, false).unwrap_err();
        assert!(matches!(refused, PutError::Source { .. }), "{refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()));
    }
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RWXU;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
    assert!(
        store.ingest_file(&fifo, false).is_err(),
        "and nobody waits for a writer"
    );
}

#[test]
fn a_blob_is_linked_out_with_mode_and_constant_time() {
    let (dir, store) = store();
    let digest = Digest::of(b"content");
    store.put_bytes(&digest, b"content").unwrap();
    let plain = dir.path().join("plain");
    let executable = dir.path().join("executable");
    for (path, is_executable, mode) in [(&plain, false, 0o444), (&executable, true, 0o555)] {
        let placed = store.link_or_copy_to(&digest, is_executable, path).unwrap();
        assert_eq!(placed, Some(Placed::Linked));
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode);
        assert_eq!(metadata.mtime(), 1_153_704_088);
        assert_eq!(metadata.nlink(), 2);
        assert_eq!(fs::read(path).unwrap(), b"content");
    }
    assert_ne!(
        fs::metadata(&plain).unwrap().ino(),
        fs::metadata(&executable).unwrap().ino()
    );
}

#[test]
fn a_destination_that_exists_is_not_touched() {
    let (dir, store) = store();
    let digest = Digest::of(b"content");
    store.put_bytes(&digest, b"content").unwrap();
    let taken = dir.path().join("taken");
    fs::write(&taken, "mine").unwrap();
    let refused = store.link_or_copy_to(&digest, false, &taken).unwrap_err();
    assert!(
        matches!(refused, PlaceError::Destination { .. }),
        "{refused}"
    );
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
}

#[test]
fn an_absent_blob_is_not_placed() {
    let (dir, store) = store();
    let digest = Digest::of(b"absent");
    for executable in [false, true] {
        let to = dir.path().join("to");
        assert_eq!(
            store.link_or_copy_to(&digest, executable, &to).unwrap(),
            None
        );
        assert!(!to.exists());
        assert_eq!(store.path(&digest, executable).unwrap(), None);
    }
}

#[test]
fn another_file_system_gets_a_copy() {
    let (_dir, store) = store();
    let digest = Digest::of(b"content");
    store.put_bytes(&digest, b"content").unwrap();
    let device = |path: &std::path::Path| fs::metadata(path).unwrap().dev();
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_ne!(
        device(other.path()),
        device(store.root()),
        "this test needs the temporary directory and /dev/shm on two file systems"
    );
    let to = other.path().join("to");
    assert_eq!(
        store.link_or_copy_to(&digest, true, &to).unwrap(),
        Some(Placed::Copied)
    );
    let metadata = fs::metadata(&to).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.mtime()),
        (0o555, 1_153_704_088)
    );
    assert_eq!(fs::read(&to).unwrap(), b"content");
    assert!(store.link_or_copy_to(&digest, true, &to).is_err());
    assert_eq!(
        fs::read(&to).unwrap(),
        b"content",
        "a failed copy removes only its own file"
    );
}

#[test]
fn writing_through_a_link_costs_the_store_the_blob_and_nobody_the_truth() {
    let (dir, store) = store();
    let digest = Digest::of(b"content");
    store.put_bytes(&digest, b"content").unwrap();
    for executable in [false, true] {
        let link = dir.path().join(format!("link-{executable}"));
        store
            .link_or_copy_to(&digest, executable, &link)
            .unwrap()
            .unwrap();
        fs::set_permissions(&link, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&link, "CONTENT").unwrap();
        let again = dir.path().join(format!("again-{executable}"));
        let placed = store.link_or_copy_to(&digest, executable, &again).unwrap();
        // The plain blob is lost; the twin is made again from the plain one.
        assert_eq!(placed.is_some(), executable);
        store.put_bytes(&digest, b"content").unwrap();
        assert_eq!(store.read(&digest).unwrap().unwrap(), b"content");
    }
    assert_eq!(fs::read(dir.path().join("again-true")).unwrap(), b"content");
}

#[test]
fn programs_made_while_others_are_started_can_be_executed() {
    let (dir, store) = store();
    let program = fs::canonicalize("/bin/true").unwrap();
    let bytes = fs::read(program).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (store, dir, bytes) = (&store, dir.path(), &bytes);
            scope.spawn(move || {
                for round in 0..10u8 {
                    // Bytes after the end change the digest and not the program.
                    let bytes = [bytes.as_slice(), &[thread, round]].concat();
                    let digest = Digest::of(&bytes);
                    store.put_bytes(&digest, &bytes).unwrap();
                    let to = dir.join(format!("program-{thread}-{round}"));
                    store.link_or_copy_to(&digest, true, &to).unwrap().unwrap();
                    assert!(Command::new(&to).status().unwrap().success());
                }
            });
        }
    });
}
