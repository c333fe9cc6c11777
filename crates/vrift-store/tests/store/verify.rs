//! Damage is found, wherever it is, and repaired from what is whole.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use vrift_store::CheckOptions;

use crate::site::{Site, settle, tree};

#[test]
fn verify_finds_every_damage_and_repairs_it_from_the_files() {
    let site = Site::new();
    tree(&site.path("p"));
    tree(&site.path("q"));
    site.ingest("p");
    let flip = site.blob(b"read me\n");
    let cut = site.blob(b"secret");
    let gone = site.blob(b"#!/bin/sh\necho ran\n");
    fs::set_permissions(&flip, fs::Permissions::from_mode(0o644)).unwrap();
    let times = fs::metadata(&flip).unwrap().modified().unwrap();
    fs::write(&flip, b"read mE\n").unwrap();
    File::open(&flip).unwrap().set_modified(times).unwrap();
    fs::set_permissions(&cut, fs::Permissions::from_mode(0o644)).unwrap();
    File::options()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(2)
        .unwrap();
    fs::remove_file(&gone).unwrap();
    fs::write(flip.with_file_name("foreign"), "x").unwrap();
    let found = site.home.check(&CheckOptions::default()).unwrap();
    assert_eq!((found.quarantined, found.missing_count), (3, 3));
    // One source is edited, so its content comes from elsewhere.
    fs::write(site.path("p/readme"), "edited").unwrap();
    let repaired = site
        .home
        .check(&CheckOptions {
            repair_from: Some(rustix::process::geteuid().as_raw()),
            sources: vec![site.path("q")],
        })
        .unwrap();
    assert_eq!((repaired.repaired, repaired.missing_count), (3, 0));
    assert_eq!(fs::read(&flip).unwrap(), b"read me\n");
}

#[test]
fn damage_that_was_found_is_healed_by_the_next_ingest() {
    let site = Site::new();
    tree(&site.path("p"));
    settle(&site);
    site.ingest("p");
    let blob = site.blob(b"secret");
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "SECRET").unwrap();
    settle(&site);
    assert_eq!(
        site.home
            .check(&CheckOptions::default())
            .unwrap()
            .missing_count,
        1
    );
    assert_eq!(site.ingest("p").new, 1);
    assert_eq!(
        site.home
            .check(&CheckOptions::default())
            .unwrap()
            .missing_count,
        0
    );
}
