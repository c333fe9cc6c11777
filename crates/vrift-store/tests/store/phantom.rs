//! Files are replaced by links into the store and come back exactly.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vrift_store::{Error, IngestOptions, Project, ingest, phantom, restore};

use crate::site::{Ordinary, Site, settle, state, tree};

#[test]
fn phantom_and_restore_give_the_tree_back_exactly() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    fs::hard_link(site.path("p/readme"), site.path("p/second name")).unwrap();
    settle(&site);
    let before = state(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    let report = phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    assert_eq!(report.replaced, 4, "{report:?}");
    let kept: Vec<_> = report.kept.iter().map(|kept| kept.why.as_str()).collect();
    assert_eq!(kept, ["it has several hard links"; 2]);
    let tool = site.path("p/bin/tool");
    assert!(fs::symlink_metadata(&tool).unwrap().is_symlink());
    assert_eq!(fs::read(&tool).unwrap(), b"#!/bin/sh\necho ran\n");
    let ran = std::process::Command::new(&tool).output().unwrap();
    assert_eq!(ran.stdout, b"ran\n");
    // What is listed again is the same tree, and nothing is lost by it.
    let manifest = site.manifest("p");
    let again = ingest(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    assert_eq!(again.files, 7);
    assert_eq!(site.manifest("p"), manifest);
    assert_eq!(site.collect(false).blobs, 0);
    let restored = restore(&project, &blobs, &()).unwrap();
    assert_eq!((restored.files, restored.missing.len()), (4, 0));
    assert_eq!(state(&site.path("p")), before);
    assert!(!project.is_phantom());
    let leftovers = fs::read_dir(site.path("p/.vrift/tmp")).unwrap().count();
    assert_eq!(leftovers, 0);
    assert!(matches!(
        restore(&project, &blobs, &()),
        Err(Error::Refused(_))
    ));
}

#[test]
fn what_the_user_does_to_projections_is_respected() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    fs::rename(site.path("p/bin/tool"), site.path("p/moved")).unwrap();
    fs::remove_file(site.path("p/deep/er/private")).unwrap();
    fs::remove_file(site.path("p/readme")).unwrap();
    fs::write(site.path("p/readme"), "mine").unwrap();
    restore(&project, &blobs, &()).unwrap();
    assert_eq!(
        fs::read(site.path("p/moved")).unwrap(),
        b"#!/bin/sh\necho ran\n"
    );
    let moved = fs::symlink_metadata(site.path("p/moved")).unwrap();
    assert_eq!((moved.is_file(), moved.mode() & 0o777), (true, 0o755));
    assert!(!site.path("p/deep/er/private").exists());
    assert_eq!(fs::read(site.path("p/readme")).unwrap(), b"mine");
}

#[test]
fn a_file_that_somebody_writes_to_is_not_replaced() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(site.path("p/readme"))
        .unwrap();
    let project = Project::open(&site.path("p")).unwrap();
    let report = phantom(&project, &blobs, &IngestOptions::default(), &()).unwrap();
    let kept: Vec<_> = report.kept.iter().map(|kept| kept.path.as_path()).collect();
    assert_eq!(kept, [Path::new("readme")]);
    io::Write::write_all(&mut log, b"more\n").unwrap();
    assert_eq!(fs::read(site.path("p/readme")).unwrap(), b"read me\nmore\n");
}
