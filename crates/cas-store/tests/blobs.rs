//! Blobs: what goes in comes out, and what is damaged is absent and replaceable.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use cas_store::{Durability, Options, PutError, Store};
use tempfile::TempDir;
use vx_digest::{Digest, DigestFunction};

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
    (dir, store)
}

fn reopen(store: &Store) -> Store {
    Store::open(store.root(), Options::default()).unwrap()
}

fn stored(store: &Store, bytes: &[u8]) -> (Digest, PathBuf) {
    let digest = Digest::of(bytes);
    assert!(store.put_bytes(&digest, bytes).unwrap().new);
    (digest, store.path(&digest, false).unwrap().unwrap())
}

/// Changes a file in the way a user with a shell would.
fn overwrite(path: &PathBuf, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let (_dir, store) = store();
    for size in [1, 4096, 300_000] {
        let bytes = vec![7; size];
        let digest = Digest::of(&bytes);
        assert!(!store.contains(&digest).unwrap());
        assert_eq!(store.read(&digest).unwrap(), None);
        assert!(store.open_blob(&digest).unwrap().is_none());
        assert_eq!(store.missing(&[digest, Digest::EMPTY]).unwrap(), [digest]);
        assert!(store.put_bytes(&digest, &bytes).unwrap().new);
        assert!(!store.put_bytes(&digest, &bytes).unwrap().new);
        assert!(store.contains(&digest).unwrap());
        assert_eq!(store.read(&digest).unwrap().unwrap(), bytes);
        assert_eq!(reopen(&store).read(&digest).unwrap().unwrap(), bytes);
        let mut opened = reopen(&store).open_blob(&digest).unwrap().unwrap();
        let mut read = Vec::new();
        std::io::copy(&mut opened, &mut read).unwrap();
        assert_eq!(read, bytes);
    }
    assert_eq!(store.stats().unwrap().temporary, 0);
}

#[test]
fn what_is_missing_is_found_with_and_without_locks() {
    let (_dir, store) = store();
    let contents: Vec<Vec<u8>> = (0..1000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
    let digests: Vec<Digest> = contents.iter().map(|bytes| Digest::of(bytes)).collect();
    let (stored, absent): (Vec<usize>, Vec<usize>) = (0..1000).partition(|n| n % 3 == 0);
    for n in stored {
        store.put_bytes(&digests[n], &contents[n]).unwrap();
    }
    let absent: Vec<Digest> = absent.into_iter().map(|n| digests[n]).collect();
    assert_eq!(store.missing(&digests).unwrap(), absent);
    assert_eq!(store.missing_unlocked(&digests).unwrap(), absent);
    // One whose size is wrong is absent, and one that everybody may write is mended.
    let path = |n: usize| store.path(&digests[n], false).unwrap().unwrap();
    let (cut, open) = (path(0), path(3));
    overwrite(&cut, b"x");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(store.missing_unlocked(&digests[..4]).unwrap(), digests[..3]);
    assert_eq!(fs::metadata(&open).unwrap().mode() & 0o7777, 0o444);
    assert_eq!(store.stats().unwrap().quarantine, 1);
}

#[test]
fn the_empty_blob_is_always_present() {
    let (_dir, store) = store();
    assert!(store.contains(&Digest::EMPTY).unwrap());
    assert_eq!(store.read(&Digest::EMPTY).unwrap(), Some(Vec::new()));
    assert_eq!(store.open_blob(&Digest::EMPTY).unwrap().unwrap().size(), 0);
    assert!(store.path(&Digest::EMPTY, true).unwrap().unwrap().exists());
    let sha256 = DigestFunction::Sha256.digest(b"");
    assert_eq!(
        store.by_sha256(&sha256.hash, 0).unwrap(),
        Some(Digest::EMPTY)
    );
}

#[test]
fn bytes_of_another_digest_are_refused() {
    let (_dir, store) = store();
    let digest = Digest::of(b"right");
    let wrong = store.put_bytes(&digest, b"wrong");
    assert!(
        matches!(wrong, Err(PutError::HashMismatch { .. })),
        "{wrong:?}"
    );
    let short = store.put_bytes(&digest, b"shorter than that");
    assert!(
        matches!(short, Err(PutError::SizeMismatch { actual: 17, .. })),
        "{short:?}"
    );

    let mut writer = store.writer(Some(digest)).unwrap();
    writer.append(b"wro").unwrap();
    writer.append(b"ng").unwrap();
    assert!(matches!(
        writer.commit(),
        Err(PutError::HashMismatch { .. })
    ));
    let mut writer = store.writer(Some(digest)).unwrap();
    assert!(matches!(
        writer.append(b"too long"),
        Err(PutError::SizeMismatch { .. })
    ));
    assert!(writer.append(b"").is_err(), "an error is final");
    assert!(writer.commit().is_err());
    let mut writer = store.writer(Some(digest)).unwrap();
    writer.append(b"rig").unwrap();
    assert!(matches!(
        writer.commit(),
        Err(PutError::SizeMismatch { actual: 3, .. })
    ));

    assert!(!store.contains(&digest).unwrap());
    assert_eq!(store.stats().unwrap().temporary, 0);
}

#[test]
fn a_stream_is_stored_when_it_is_committed() {
    let (_dir, store) = store();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = store.writer(None).unwrap();
    for piece in bytes.chunks(77_777) {
        writer.write_all(piece).unwrap();
    }
    assert_eq!(writer.written(), 1_000_000);
    assert!(!store.contains(&Digest::of(&bytes)).unwrap());
    assert_eq!(writer.commit().unwrap().digest, Digest::of(&bytes));
    assert_eq!(store.read(&Digest::of(&bytes)).unwrap().unwrap(), bytes);
    drop(store.writer(None).unwrap());
    assert_eq!(store.stats().unwrap().temporary, 0);
}

#[test]
fn a_truncated_blob_is_quarantined_and_replaced() {
    let (_dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    overwrite(&path, b"");
    assert!(!store.contains(&digest).unwrap());
    assert!(!path.exists());
    assert_eq!(store.stats().unwrap().quarantine, 1);
    assert!(store.put_bytes(&digest, b"some content").unwrap().new);
    assert_eq!(store.read(&digest).unwrap().unwrap(), b"some content");
}

#[test]
fn a_writer_replaces_what_is_damaged_without_being_told() {
    let (_dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    for damage in [&b"cut"[..], b"SOME content"] {
        overwrite(&path, damage);
        assert!(
            reopen(&store)
                .put_bytes(&digest, b"some content")
                .unwrap()
                .new
        );
        assert_eq!(fs::read(&path).unwrap(), b"some content");
    }
}

#[test]
fn changed_content_of_the_same_size_is_noticed_on_first_use() {
    let (_dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    overwrite(&path, b"SOME content");
    let fresh = reopen(&store);
    assert!(
        fresh.contains(&digest).unwrap(),
        "only the size is checked here"
    );
    assert_eq!(fresh.read(&digest).unwrap(), None);
    assert!(!fresh.contains(&digest).unwrap());
}

#[test]
fn tampering_after_the_first_use_is_noticed() {
    let (_dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    assert!(store.read(&digest).unwrap().is_some());
    overwrite(&path, b"SOME content");
    assert!(store.open_blob(&digest).unwrap().is_none());
    assert_eq!(store.stats().unwrap().quarantine, 1);
}

#[test]
fn what_is_no_file_is_moved_out_of_a_blobs_place() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    fs::write(&outside, "some content").unwrap();
    let (digest, path) = stored(&store, b"some content");
    let put_back = || {
        assert!(!store.contains(&digest).unwrap());
        assert!(store.put_bytes(&digest, b"some content").unwrap().new);
    };
    fs::remove_file(&path).unwrap();
    symlink(&outside, &path).unwrap();
    put_back();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "").unwrap();
    put_back();
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    put_back();
    assert_eq!(fs::read(&outside).unwrap(), b"some content");
}

#[test]
fn a_symbolic_link_in_place_of_a_shard_leads_nowhere() {
    let (dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    let shard = path.parent().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(shard, &elsewhere).unwrap();
    symlink(&elsewhere, shard).unwrap();
    assert!(store.read(&digest).is_err());
    assert!(store.put_bytes(&digest, b"some content").is_err());
}

#[test]
fn a_changed_mode_is_set_right_again() {
    let (_dir, store) = store();
    let (digest, path) = stored(&store, b"some content");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(store.contains(&digest).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn a_sha256_name_finds_the_blob_that_came_with_it() {
    let (_dir, store) = store();
    let sha256 = DigestFunction::Sha256.digest(b"some content");
    let digest = Digest::of(b"some content");
    let find = || store.by_sha256(&sha256.hash, sha256.size).unwrap();

    store.put_bytes(&digest, b"some content").unwrap();
    assert_eq!(find(), None, "nobody brought that name yet");
    let refused = store.put_bytes_sha256(&sha256, b"SOME content");
    assert!(matches!(refused, Err(PutError::HashMismatch { .. })));
    assert_eq!(
        store
            .put_bytes_sha256(&sha256, b"some content")
            .unwrap()
            .digest,
        digest
    );
    assert_eq!(find(), Some(digest));
    assert_eq!(store.by_sha256(&sha256.hash, 5).unwrap(), None);

    fs::remove_file(store.path(&digest, false).unwrap().unwrap()).unwrap();
    assert_eq!(find(), None, "an entry without its blob is no answer");
    let mut writer = store.writer_sha256(sha256).unwrap();
    writer.append(b"some content").unwrap();
    assert!(writer.commit().unwrap().new);
    assert_eq!(find(), Some(digest));
}

#[test]
fn a_group_answers_for_each_blob() {
    for durability in [Durability::Cheap, Durability::Grouped] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            durability,
            ..Options::default()
        };
        let store = Store::open(dir.path(), options).unwrap();
        let blobs: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; usize::from(n) + 1]).collect();
        let mut batch: Vec<(Digest, &[u8])> = blobs
            .iter()
            .map(|bytes| (Digest::of(bytes), &bytes[..]))
            .collect();
        batch[7].1 = b"not its bytes";
        batch.push(batch[0]);
        let answers = store.put_many(&batch);
        assert_eq!(answers.len(), 21);
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(stored) => {
                    assert_eq!(stored.digest, batch[n].0);
                    assert_eq!(stored.new, n != 20);
                    assert_eq!(store.read(&stored.digest).unwrap().unwrap(), batch[n].1);
                }
                Err(error) => {
                    assert_eq!(n, 7);
                    assert!(matches!(error, PutError::SizeMismatch { .. }), "{error}");
                }
            }
        }
        assert_eq!(store.stats().unwrap().blobs, 19);
        // Single writes take the other way to the same promise.
        let digest = Digest::of(b"single");
        assert!(store.put_bytes(&digest, b"single").unwrap().new);
        assert!(!store.put_bytes(&digest, b"single").unwrap().new);
    }
}

#[test]
fn a_group_that_is_dropped_stores_nothing() {
    let (_dir, store) = store();
    let mut group = store.group();
    let mut writer = store.writer(None).unwrap();
    writer.append(b"content").unwrap();
    group.add(writer.finish().unwrap());
    assert_eq!(store.stats().unwrap().temporary, 1);
    drop(group);
    assert_eq!(store.stats().unwrap().temporary, 0);
    assert!(!store.contains(&Digest::of(b"content")).unwrap());
}
