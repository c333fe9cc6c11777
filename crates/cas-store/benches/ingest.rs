//! Ingesting a tree against copying it, for both durabilities; criterion prints the throughput.
//!
//! The tree has the shape of a package's sources: many small files, a few larger ones.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use cas_store::{Durability, Options, Store};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const FILES: u64 = 1000;

/// Makes the tree; returns its files and their bytes.
fn tree(root: &Path) -> std::io::Result<(Vec<PathBuf>, u64)> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for n in 0..FILES {
        let size = if n % 100 == 0 {
            1 << 20
        } else {
            500 + n * 37 % 20_000
        };
        let dir = root.join(format!("{:02}", n % 20));
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{n}.rs"));
        let content: Vec<u8> = n
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(size as usize)
            .collect();
        fs::write(&path, content)?;
        files.push(path);
        bytes += size;
    }
    Ok((files, bytes))
}

fn copy(files: &[PathBuf], to: &Path) {
    for (n, file) in files.iter().enumerate() {
        fs::copy(file, to.join(n.to_string())).expect("copy");
    }
}

fn ingest(store: &Store, files: &[PathBuf]) {
    let mut group = store.group();
    for file in files {
        group.add(store.stage_file(file).expect("stage"));
    }
    for answer in group.commit() {
        black_box(answer.expect("commit"));
    }
}

fn open(path: &Path, durability: Durability) -> Store {
    Store::open(
        path,
        Options {
            durability,
            ..Options::default()
        },
    )
    .expect("open")
}

fn benches(criterion: &mut Criterion) {
    let source = tempfile::tempdir().expect("tempdir");
    let (files, bytes) = tree(source.path()).expect("tree");
    let fresh = || tempfile::tempdir().expect("tempdir");
    let mut group = criterion.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("std::fs::copy", |bencher| {
        bencher.iter_batched(
            fresh,
            |dir| {
                copy(&files, dir.path());
                dir
            },
            BatchSize::PerIteration,
        );
    });
    for (name, durability) in [
        ("cheap", Durability::Cheap),
        ("durable", Durability::Grouped),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let dir = fresh();
                    let store = open(dir.path(), durability);
                    (dir, store)
                },
                |(dir, store)| {
                    ingest(&store, &files);
                    (store, dir)
                },
                BatchSize::PerIteration,
            );
        });
    }
    let dir = fresh();
    let store = open(dir.path(), Durability::Cheap);
    ingest(&store, &files);
    group.bench_function("again", |bencher| bencher.iter(|| ingest(&store, &files)));
    group.finish();
}

criterion_group!(ingesting, benches);
criterion_main!(ingesting);
