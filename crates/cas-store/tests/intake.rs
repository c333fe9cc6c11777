//! Storing many files at once: what is answered is stored, once, whichever thread met it first.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use cas_store::{Durability, Options, PutError, Source, Sources, Store};
use tempfile::TempDir;
use vx_digest::Digest;

fn open(path: &Path) -> Store {
    let options = Options {
        levels: 2,
        durability: Durability::Grouped,
        ..Options::default()
    };
    Store::open(path, options).unwrap()
}

/// Files by their paths; what is told as their size may be wrong.
struct Files {
    paths: Vec<PathBuf>,
    lie: Option<u64>,
    opened: AtomicUsize,
}

impl Files {
    fn of(paths: Vec<PathBuf>) -> Files {
        Files {
            paths,
            lie: None,
            opened: AtomicUsize::new(0),
        }
    }
}

impl Sources for Files {
    fn count(&self) -> usize {
        self.paths.len()
    }

    fn open(&self, index: usize) -> io::Result<Source<'_>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let name = &self.paths[index];
        let file = File::open(name)?;
        let size = self.lie.unwrap_or(file.metadata()?.len());
        Ok(Source { file, size, name })
    }
}

fn content(n: usize) -> Vec<u8> {
    n.to_string().repeat(1 + n % 50).into_bytes()
}

fn write(dir: &Path, name: impl ToString, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name.to_string());
    std::fs::write(&path, bytes).unwrap();
    path
}

/// In memory where that is possible: some disks take milliseconds for each file that is removed.
fn dir_for_many_files() -> TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(dir) => dir,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

#[test]
fn each_content_is_written_once_and_each_file_answered_in_its_place() {
    let dir = dir_for_many_files();
    let store = open(&dir.path().join("store"));
    // More than one group, and every content several times.
    let paths = (0..6000)
        .map(|n| write(dir.path(), n, &content(n % 2500)))
        .collect();
    let files = Files::of(paths);
    let answers = store.put_files(&files, 4).unwrap();
    assert_eq!(answers.len(), 6000);
    let mut new = 0;
    for (n, answer) in answers.into_iter().enumerate() {
        let stored = answer.unwrap();
        assert_eq!(stored.digest, Digest::of(&content(n % 2500)), "{n}");
        new += usize::from(stored.new);
    }
    assert_eq!((new, store.stats().unwrap().blobs), (2500, 2500));
    assert_eq!(files.opened.load(Ordering::SeqCst), 6000);
    let report = store.verify().unwrap();
    assert_eq!((report.blobs, report.quarantined), (2500, 0));
    let again = open(&dir.path().join("store"))
        .put_files(&files, 4)
        .unwrap();
    assert!(again.into_iter().all(|answer| !answer.unwrap().new));
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let mut paths: Vec<_> = (0..50).map(|n| write(dir.path(), n, &content(n))).collect();
    paths[7] = dir.path().join("is not there");
    let answers = store.put_files(&Files::of(paths), 3).unwrap();
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(stored) => assert!(store.contains(&stored.digest).unwrap()),
            Err(error) => assert_eq!((n, error.kind()), (7, io::ErrorKind::NotFound)),
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
}

#[test]
fn files_of_any_size_are_stored_whatever_size_they_seem_to_have() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Vec<u8>> = [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20]
        .into_iter()
        .map(|size| (0..size).map(|byte: usize| (byte % 251) as u8).collect())
        .collect();
    let paths: Vec<_> = (0..contents.len())
        .map(|n| write(dir.path(), n, &contents[n]))
        .collect();
    for (n, lie) in [None, Some(0), Some(5), Some(1 << 20), Some(u64::MAX)]
        .into_iter()
        .enumerate()
    {
        let store = open(&dir.path().join(format!("store {n}")));
        let mut files = Files::of(paths.clone());
        files.lie = lie;
        let answers = store.put_files(&files, 2).unwrap();
        for (answer, content) in answers.into_iter().zip(&contents) {
            let digest = answer.unwrap().digest;
            assert_eq!(digest, Digest::of(content), "{lie:?}");
            assert_eq!(store.read(&digest).unwrap().as_ref(), Some(content));
        }
    }
}

#[test]
fn a_store_that_takes_nothing_more_ends_it_and_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = open(&root);
    let paths = (0..300)
        .map(|n| write(dir.path(), n, &content(n)))
        .collect();
    // Nothing can be written without the temporary directory.
    std::fs::remove_dir_all(root.join("tmp")).unwrap();
    let error = store.put_files(&Files::of(paths), 3).unwrap_err();
    assert!(matches!(error, PutError::Io { .. }), "{error:?}");
    assert_eq!(store.stats().unwrap().blobs, 0);
}

#[test]
fn nothing_at_all_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    assert!(
        store
            .put_files(&Files::of(Vec::new()), 4)
            .unwrap()
            .is_empty()
    );
}
