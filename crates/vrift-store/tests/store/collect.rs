//! Collections remove what nobody keeps, and nothing else.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use vrift_store::{Blobs, CheckOptions};
use vx_digest::Digest;

use crate::site::{Site, settle, tree, write};

#[test]
fn collection_removes_all_that_is_dead_and_nothing_that_is_kept() {
    let site = Site::new();
    tree(&site.path("p"));
    write(&site.path("q/readme"), b"read me\n", 0o644);
    write(&site.path("q/only here"), b"only here", 0o644);
    site.ingest("p");
    site.ingest("q");
    assert_eq!(site.collect(false).blobs, 0);
    fs::remove_dir_all(site.path("q")).unwrap();
    let plan = site.collect(true);
    assert!(site.blob(b"only here").exists());
    let run = site.collect(false);
    assert_eq!(plan, run);
    // The content and the manifest.
    assert_eq!(
        (run.blobs, run.stale.as_slice()),
        (2, &[site.path("q")][..])
    );
    assert_eq!(
        site.home
            .blob_path(&Digest::of(b"only here"), false)
            .unwrap(),
        None
    );
    assert!(site.blob(b"read me\n").exists());
    assert_eq!(site.collect(false).blobs, 0);
    // An earlier version of a directory that is still there.
    fs::write(site.path("p/readme"), "another").unwrap();
    site.ingest("p");
    let run = site.collect(false);
    assert_eq!((run.blobs, run.stale.len()), (2, 0));
}

#[test]
fn what_is_collected_during_an_ingest_is_stored_again() {
    let site = Site::new();
    tree(&site.path("p"));
    settle(&site);
    site.ingest("p");
    // The stat cache says that all is known, but nobody keeps it any more.
    site.home
        .forget(rustix::process::geteuid().as_raw(), &site.path("p"))
        .unwrap();
    // The empty blob is always there.
    assert_eq!(site.collect(false).blobs, 5);
    let report = site.ingest("p");
    assert_eq!((report.new, report.files), (4, 6));
    let check = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((check.blobs, check.missing_count), (6, 0));
}

#[test]
fn a_disk_that_is_not_mounted_is_no_reason_to_forget() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    let uid = rustix::process::geteuid().as_raw();
    let mut root = site.home.root_of(uid, &site.path("p")).unwrap().unwrap();
    fs::remove_dir_all(site.path("p")).unwrap();
    assert!(root.is_stale());
    root.request.device += 1;
    assert!(!root.is_stale(), "another device is there now");
    root.request.device -= 1;
    root.request.phantom = true;
    assert!(!root.is_stale(), "the blobs are the only copy");
}

#[test]
fn collections_and_ingests_at_once_lose_nothing() {
    let site = Site::new();
    for n in 0..4 {
        tree(&site.path(&format!("p{n}")));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                site.collect(false);
            }
        });
        let workers: Vec<_> = (0..4)
            .map(|n| {
                let site = &site;
                scope.spawn(move || {
                    for round in 0..10 {
                        let name = format!("p{n}");
                        write(
                            &site.path(&name).join("mine"),
                            format!("{n} {round}").as_bytes(),
                            0o644,
                        );
                        site.ingest(&name);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    let check = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((check.missing_count, check.quarantined), (0, 0));
}
