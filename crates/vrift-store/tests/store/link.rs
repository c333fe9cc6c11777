//! Trees are made from the store, and nothing else is touched.

use std::fs;
use std::os::unix::fs::symlink;

use vrift_store::{
    Blobs, Error, How, IngestOptions, LinkOptions, Project, Projection, link, phantom, restore,
};

use crate::site::{Ordinary, Site, state, tree, write};

#[test]
fn links_into_the_store_are_refused_to_root() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    if !rustix::process::geteuid().is_root() {
        assert_eq!(site.home.projection(), Projection::Allowed);
        return;
    }
    let before = state(&site.path("p"));
    let project = Project::open(&site.path("p")).unwrap();
    let refused = phantom(&project, &site.home, &IngestOptions::default(), &());
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let options = LinkOptions {
        how: Some(How::Symlink),
    };
    let dest = site.path("out");
    let refused = link(&site.manifest("p"), &site.home, &dest, &options, &());
    assert!(matches!(refused, Err(Error::Refused(_))));
    assert!(!dest.exists());
    assert_eq!(state(&site.path("p")), before);
}

#[test]
fn symbolic_links_are_made_on_demand_and_can_be_restored() {
    let site = Site::new();
    let blobs = Ordinary(&site.home);
    tree(&site.path("p"));
    let before = state(&site.path("p"));
    site.ingest("p");
    let options = LinkOptions {
        how: Some(How::Symlink),
    };
    let dest = site.path("out");
    link(&site.manifest("p"), &blobs, &dest, &options, &()).unwrap();
    assert!(
        fs::symlink_metadata(dest.join("large"))
            .unwrap()
            .is_symlink()
    );
    let ran = std::process::Command::new(dest.join("bin/tool")).output();
    assert_eq!(ran.unwrap().stdout, b"ran\n");
    // The links are roots of their own.
    fs::remove_dir_all(site.path("p")).unwrap();
    let report = site.collect(false);
    assert_eq!((report.blobs, report.stale.len()), (0, 1));
    restore(&Project::open(&dest).unwrap(), &blobs, &()).unwrap();
    assert_eq!(state(&dest), before);
}

#[test]
fn link_touches_nothing_outside_and_nothing_that_is_there() {
    let site = Site::new();
    tree(&site.path("p"));
    site.ingest("p");
    let manifest = site.manifest("p");
    let options = LinkOptions::default();
    write(&site.path("full/mine"), b"mine", 0o600);
    let full = state(&site.path("full"));
    for dest in ["full", "full/mine", "p"] {
        let refused = link(&manifest, &site.home, &site.path(dest), &options, &());
        assert!(matches!(refused, Err(Error::Refused(_))), "{dest}");
    }
    fs::create_dir(site.path("elsewhere")).unwrap();
    symlink(site.path("elsewhere"), site.path("way out")).unwrap();
    assert!(link(&manifest, &site.home, &site.path("way out"), &options, &()).is_err());
    assert_eq!(state(&site.path("full")), full);
    assert_eq!(fs::read_dir(site.path("elsewhere")).unwrap().count(), 0);
    // A blob that is not there: the destination is gone again.
    let blob = site.blob(b"secret");
    fs::remove_file(blob).unwrap();
    let error = link(&manifest, &site.home, &site.path("out"), &options, &()).unwrap_err();
    assert!(error.to_string().contains("deep/er/private"), "{error}");
    assert!(!site.path("out").exists());
}
