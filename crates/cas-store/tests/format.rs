//! The bytes and names of `STORE.md`, one test per section.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cas_store::{OpenError, Options, Store};
use vx_digest::{Digest, DigestFunction};

const ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
const ABC_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn open(path: &Path, levels: u8) -> Store {
    Store::open(
        path,
        Options {
            levels,
            ..Options::default()
        },
    )
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn section_format() {
    for levels in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), levels);
        let path = dir.path().join("format");
        let text = format!("cas-store 1\nhash blake3\nlevels {levels}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(mode(&path), 0o444);
        // The store keeps its levels, whatever is asked for later.
        let store = open(dir.path(), 3 - levels);
        store.put_bytes(&Digest::of(b"abc"), b"abc").unwrap();
        let shard = if levels == 1 { "64" } else { "64/37" };
        let blob = dir
            .path()
            .join(if levels == 1 {
                "blobs/blake3"
            } else {
                "blake3"
            })
            .join(shard)
            .join(format!("{ABC}_3.bin"));
        assert_eq!(fs::read(blob).unwrap(), b"abc");
    }
}

#[test]
fn section_format_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("format"),
        "cas-store 2\nhash blake3\nlevels 1\n",
    )
    .unwrap();
    let error = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Format { .. }));
    assert!(
        error
            .to_string()
            .ends_with("is not understood: line `cas-store 2`"),
        "{error}"
    );
}

#[test]
fn section_root_with_foreign_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = Store::open(
        dir.path(),
        Options {
            levels: 3,
            ..Options::default()
        },
    )
    .unwrap_err();
    assert!(matches!(error, OpenError::Levels(3)), "{error}");
}

#[test]
fn section_root() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("deep/store"), 1);
    let mut names: Vec<_> = fs::read_dir(store.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["actions", "blobs", "format", "index", "quarantine", "tmp"]
    );
    assert_eq!(mode(store.root()), 0o700);
    assert_eq!(mode(&store.root().join("blobs/blake3")), 0o700);
}

#[test]
fn section_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1);
    store.put_bytes(&Digest::of(b"abc"), b"abc").unwrap();
    let plain = dir.path().join(format!("blobs/blake3/64/{ABC}_3.bin"));
    let twin = dir.path().join(format!("blobs/blake3/64/{ABC}_3.x.bin"));
    assert_eq!(
        store.path(&Digest::of(b"abc"), false).unwrap().unwrap(),
        plain
    );
    assert!(!twin.exists());
    assert_eq!(
        store.path(&Digest::of(b"abc"), true).unwrap().unwrap(),
        twin
    );
    assert_eq!((mode(&plain), mode(&twin)), (0o444, 0o555));
    for path in [plain, twin] {
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_153_704_088);
    }
}

#[test]
fn section_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1);
    store
        .actions()
        .put_first(&Digest::of(b"abc"), b"result")
        .unwrap();
    let path = dir.path().join(format!("actions/64/{ABC}_3"));
    let sum = Digest::of(format!("{ABC}_3\nresult").as_bytes()).hash;
    assert_eq!(
        fs::read(&path).unwrap(),
        [b"casrec1\n", &sum[..], b"result"].concat()
    );
    assert_eq!(mode(&path), 0o444);
}

#[test]
fn section_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 2);
    store
        .put_bytes_sha256(&DigestFunction::Sha256.digest(b"abc"), b"abc")
        .unwrap();
    let bytes = fs::read(dir.path().join(format!("index/sha256/ba/{ABC_SHA256}_3"))).unwrap();
    let sum = Digest::of(format!("{ABC_SHA256}_3\n{ABC}_3").as_bytes()).hash;
    assert_eq!(
        bytes,
        [b"casrec1\n", &sum[..], format!("{ABC}_3").as_bytes()].concat()
    );
}

#[test]
fn section_temporary_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), 1);
    let writer = store.writer(None).unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path().join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let owner = names[1].strip_suffix(".owner").unwrap();
    assert!(
        owner.starts_with(&format!("{}-", std::process::id())),
        "{owner}"
    );
    assert!(names[0].starts_with(&format!("{owner}.")), "{names:?}");
    assert_eq!(mode(&dir.path().join("tmp").join(&names[0])), 0o444);
    drop((writer, store));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}
