//! Blobs that come one by one and become durable in groups.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use vrift_store::{Batch, Source};
use vx_digest::Digest;

use crate::site::Site;

/// More than two groups.
const MANY: u32 = 5000;

/// In memory where that is possible: some disks take milliseconds for each file.
fn file(content: &[u8]) -> File {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let mut file = tempfile::tempfile_in(dir).unwrap();
    file.write_all(content).unwrap();
    file
}

fn add(batch: &Batch, number: u32) -> Digest {
    let content = number.to_le_bytes();
    let source = Source {
        file: file(&content),
        size: content.len() as u64,
        name: Path::new("a file"),
    };
    batch.add(source).unwrap().unwrap()
}

#[test]
fn everything_of_many_groups_is_there_after_the_commit() {
    let site = Site::new();
    let batch = site.home.batch_of_blobs();
    std::thread::scope(|scope| {
        for first in 0..3 {
            let batch = &batch;
            scope.spawn(move || {
                // Each content twice, from different threads.
                for number in (first..2 * MANY).step_by(3) {
                    let number = number % MANY;
                    assert_eq!(add(batch, number), Digest::of(&number.to_le_bytes()));
                }
            });
        }
    });
    batch.commit().unwrap();
    let all: Vec<Digest> = (0..MANY).map(|n| Digest::of(&n.to_le_bytes())).collect();
    assert_eq!(site.home.store().missing(&all).unwrap(), []);
    let report = site.home.store().verify().unwrap();
    assert_eq!(report.quarantined, 0, "{report:?}");
}

#[test]
fn what_is_given_up_never_becomes_visible() {
    let site = Site::new();
    let batch = site.home.batch_of_blobs();
    let digest = add(&batch, 1);
    batch.give_up();
    batch.commit().unwrap();
    assert_eq!(site.home.store().missing(&[digest]).unwrap(), [digest]);
}
