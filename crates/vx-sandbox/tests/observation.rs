//! What is reported as read is what was read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;

use support::{mount, run, shell};
use vx_sandbox::{MountKind, Observed};

fn observed(script: &str) -> (Observed, String) {
    let source = tempfile::tempdir().unwrap();
    let folder = source.path();
    fs::create_dir_all(folder.join("src/deep")).unwrap();
    for name in ["a", "b", "src/c", "src/deep/d", "src/deep/e"] {
        fs::write(folder.join(name), format!("text of {name}\n")).unwrap();
    }
    std::os::unix::fs::symlink("b", folder.join("link")).unwrap();
    fs::copy("/bin/true", folder.join("program")).unwrap();
    let mut spec = shell(script);
    spec.mounts.push(mount(
        "/w",
        MountKind::ObservedCopy {
            host_dir: folder.into(),
        },
    ));
    let outcome = run(&spec);
    let report = outcome.result.unwrap();
    (
        report.observed.into_iter().next().unwrap(),
        outcome.stdout + &outcome.stderr,
    )
}

#[test]
fn looking_without_reading_leaves_no_trace() {
    let (seen, _) = observed(
        "test -f /w/a && test -d /w/src && stat /w/src/c > /dev/null; test -L /w/link; test -e /w/none; cd /w/src/deep",
    );
    assert_eq!(seen.read_files, [""; 0]);
    assert_eq!(seen.listed_directories, [""; 0]);
}

#[test]
fn reading_is_seen_exactly() {
    let (seen, said) = observed("cat /w/a /w/src/deep/d");
    assert_eq!(said, "text of a\ntext of src/deep/d\n");
    assert_eq!(seen.read_files, ["a", "src/deep/d"]);
    assert_eq!(seen.listed_directories, [""; 0]);
}

#[test]
fn reading_through_a_link_names_link_and_file() {
    assert_eq!(observed("cat /w/link").0.read_files, ["b", "link"]);
}

#[test]
fn executing_maps_and_is_seen() {
    assert_eq!(observed("/w/program").0.read_files, ["program"]);
}

#[test]
fn listing_is_seen_for_each_directory() {
    assert_eq!(observed("ls /w > /dev/null").0.listed_directories, [""]);
    let (seen, _) = observed("find /w/src > /dev/null");
    assert_eq!(seen.listed_directories, ["src", "src/deep"]);
    assert_eq!(seen.read_files, [""; 0]);
}

#[test]
fn reading_by_a_child_left_behind_is_seen() {
    // The child tells through a pipe that it has read before the command ends.
    let script = "mkfifo /tmp/p; (cat /w/b > /dev/null; echo > /tmp/p; exec cat /tmp/p) & cat /tmp/p > /dev/null";
    assert_eq!(observed(script).0.read_files, ["b"]);
}

#[test]
fn the_copy_is_private_and_normal() {
    let (seen, said) =
        observed("stat -c '%a %Y %n' /w /w/a /w/src /w/program; (echo x > /w/a) 2>&1");
    let time = vx_sandbox::NORMAL_MTIME;
    assert!(
        said.starts_with(&format!(
            "555 {time} /w\n444 {time} /w/a\n555 {time} /w/src\n555 {time} /w/program\n"
        )),
        "{said}"
    );
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(seen.read_files, [""; 0]);
}

#[test]
fn a_mount_inside_a_copy_does_not_disturb() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "a").unwrap();
    let inner = tempfile::tempdir().unwrap();
    let mut spec = shell("cat /w/a; echo x > /w/target/out");
    spec.mounts.push(mount(
        "/w/target",
        MountKind::WritableDir {
            host_dir: inner.path().into(),
        },
    ));
    spec.mounts.push(mount(
        "/w",
        MountKind::ObservedCopy {
            host_dir: source.path().into(),
        },
    ));
    let outcome = run(&spec);
    let seen = &outcome.result.unwrap().observed[0];
    assert_eq!(seen.read_files, ["a"]);
    assert_eq!(seen.listed_directories, [""; 0]);
    assert!(inner.path().join("out").exists());
    assert!(!source.path().join("target").exists());
}
