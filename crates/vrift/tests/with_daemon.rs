//! The command line with a daemon: what the daemon cannot do for a user, the program does or says plainly.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use site::{DEADLINE, Site, USER, state};
use vrift_daemon::Config;
use vx_digest::Digest;

/// Starts a daemon in this process, which ends with it; the user may administer its store.
fn start_daemon(site: &Site) {
    start_daemon_with(site, &[]);
}

fn start_daemon_with(site: &Site, options: &[&str]) {
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = site.path("daemon.sock");
    let config = Config::parse_from(
        [
            "vrift-daemon",
            "--home",
            site.path("state").to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
            "--admin",
            &USER.to_string(),
        ]
        .iter()
        .chain(options),
    );
    std::thread::spawn(|| vrift_daemon::serve(config));
    let start = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(start.elapsed() < DEADLINE, "nobody listens");
        std::thread::yield_now();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn blob(site: &Site, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    site.path("state/the_source/blake3")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(format!("{hex}_{}.bin", digest.size))
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_the_daemon_lost_comes_back_from_the_directories_it_keeps() {
    let site = Site::new();
    start_daemon(&site);
    let tree = site.tree("p", 40);
    let before = state(&tree, false);
    let report = site.json(&["ingest", "p"]);
    let manifest: Digest = report["manifest"].as_str().unwrap().parse().unwrap();
    let content = |path: &str| Digest::of(&fs::read(tree.join(path)).unwrap());
    flip(&blob(&site, &content("dir 1/1")));
    fs::remove_file(blob(&site, &content("dir 2/2"))).unwrap();
    flip(&blob(&site, &content("dir 3/3")));
    flip(&blob(&site, &manifest));
    // One that is lost for good: the file is another one now.
    fs::write(tree.join("dir 3/3"), "changed since").unwrap();

    let found = site.run(&["verify"]);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    let repaired = site.run(&["verify", "--repair"]);
    let told = said(&repaired);
    assert!(told.contains("Repaired 3 blobs"), "{told}");
    assert!(told.contains("dir 3/3"), "{told}");
    assert_eq!(repaired.status.code(), Some(1), "{told}");

    // A new ingest needs nothing that is lost.
    site.json(&["ingest", "p"]);
    assert!(site.run(&["verify"]).status.success());
    site.json(&["link", "p", "again"]);
    let mut after = state(&site.path("again"), false);
    let changed = Path::new("dir 3/3");
    assert_ne!(after.remove(changed), before.get(changed).cloned());
    for path in after.keys() {
        if path != Path::new("") && path != Path::new("dir 3") {
            assert_eq!(after.get(path), before.get(path), "{path:?}");
        }
    }
}

#[test]
fn repairs_from_a_directory_that_is_not_kept_are_refused() {
    let site = Site::new();
    start_daemon(&site);
    site.tree("p", 3);
    let output = site.run(&["verify", "--repair", "--from", "p"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("hint: `vrift ingest`"));
}

#[test]
fn links_into_the_daemons_store_are_refused_and_nothing_is_touched() {
    let site = Site::new();
    start_daemon(&site);
    let tree = site.tree("p", 10);
    let before = state(&tree, false);
    site.json(&["ingest", "p"]);
    for args in [
        &["ingest", "p", "--mode", "phantom"][..],
        &["link", "p", "links", "--how", "symlink"],
    ] {
        let output = site.run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(
            said(&output).contains("the daemon's store is closed to everybody"),
            "{}",
            said(&output)
        );
    }
    assert_eq!(state(&tree, false), before);
    assert!(!site.path("links").exists());
    let report = site.json(&["link", "p", "copies"]);
    assert_ne!(report["how"], json!("symlink"));
    assert_eq!(state(&site.path("copies"), false), before);
}

#[test]
fn links_into_ones_own_store_are_left_to_that_store() {
    let site = Site::new();
    let tree = site.tree("p", 10);
    let before = state(&tree, false);
    // There is no daemon yet.
    let own = site.json(&["ingest", "p", "--mode", "phantom"]);
    assert!(own["replaced"].as_u64().unwrap() > 0);
    let links = state(&tree, false);
    start_daemon(&site);
    for args in [&["restore", "p"][..], &["ingest", "p"]] {
        let output = site.run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(
            said(&output).contains("another store than this one"),
            "{}",
            said(&output)
        );
        assert_eq!(state(&tree, false), links);
    }
    site.json(&["--direct", "restore", "p"]);
    assert_eq!(state(&tree, false), before);
}

#[test]
fn a_daemon_that_refuses_is_quoted() {
    let site = Site::new();
    start_daemon_with(&site, &["--max-connections", "0"]);
    // The daemon closes the connection at once, whatever was written into it by then.
    for _ in 0..20 {
        let output = site.run(&["status"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(
            said(&output).contains("too many connections at once"),
            "{}",
            said(&output)
        );
        assert!(
            !said(&output).contains("start it with"),
            "{}",
            said(&output)
        );
    }
    let output = site.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = String::from_utf8_lossy(&output.stdout);
    assert!(
        findings.contains("too many connections at once"),
        "{findings}"
    );
}

#[test]
fn a_daemon_that_does_not_answer_is_no_reason_to_use_another_store() {
    let site = Site::new();
    site.tree("p", 3);
    // Nobody will ever accept here.
    drop(UnixListener::bind(site.path("daemon.sock")).unwrap());
    let output = site.run(&["ingest", "p"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("cannot be used"),
        "{}",
        said(&output)
    );
    assert!(!site.path("home/.vrift").exists());
    assert!(!site.path("p/.vrift").exists());
}
