//! A full disk: a clear answer, nothing half-written, and garbage collection still works.
//!
//! The test starts itself again in a user and mount namespace of its own, where it may mount a file system of one megabyte without being root.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cas_store::{GcOptions, Options, PutError, Store};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use vx_digest::Digest;

/// Names the directory that holds the small file system, in the child.
const SMALL_DISK: &str = "CAS_STORE_TEST_SMALL_DISK";

/// Runs a test of this file again, with a file system mounted with `options` at [`SMALL_DISK`].
///
/// `None` in the parent, when the child has succeeded.
fn on_small_disk(test: &str, options: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(SMALL_DISK) {
        return Some(path.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SMALL_DISK, dir.path());
    let uid = format!("0 {} 1", rustix::process::getuid().as_raw());
    let gid = format!("0 {} 1", rustix::process::getgid().as_raw());
    let path = dir.path().to_owned();
    let options = std::ffi::CString::new(options).unwrap();
    let enter = move || {
        // After `unshare` we are nobody until the maps are written.
        let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        // SAFETY: the process has one thread and shares no descriptors or memory by this.
        step("unshare a user and a mount namespace", unsafe {
            rustix::thread::unshare_unsafe(flags)
        })?;
        step(
            "write setgroups",
            std::fs::write("/proc/self/setgroups", "deny"),
        )?;
        step("write uid_map", std::fs::write("/proc/self/uid_map", &uid))?;
        step("write gid_map", std::fs::write("/proc/self/gid_map", &gid))?;
        let mount = rustix::mount::mount(
            c"tmpfs",
            &path,
            c"tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        );
        step("mount a tmpfs", mount)
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { child.pre_exec(enter) };
    // A failed step is told on the standard error output, before there is a program to speak.
    let output = child.stderr(Stdio::inherit()).output().unwrap_or_else(|error| {
        panic!(
            "this test needs a user and a mount namespace, and the step named above failed: {error}"
        )
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "the test failed in its namespace:\n{said}"
    );
    assert!(
        said.contains("1 passed"),
        "the test did not run in its namespace:\n{said}"
    );
    None
}

/// Says which step failed, since only an error number reaches the parent.
fn step<E: Into<std::io::Error>>(what: &str, result: Result<(), E>) -> std::io::Result<()> {
    result.map_err(|error| {
        for part in ["cannot ", what, "\n"] {
            let _ignored = rustix::io::write(rustix::stdio::stderr(), part.as_bytes());
        }
        error.into()
    })
}

fn open(path: &Path) -> Store {
    Store::open(
        path,
        Options {
            lease: Duration::ZERO,
            ..Options::default()
        },
    )
    .unwrap()
}

fn content(n: u32) -> Vec<u8> {
    n.to_be_bytes().repeat(16 * 1024)
}

/// Stores blobs of 64 KiB until the disk is full; returns them and the error.
fn fill(store: &Store) -> (Vec<Digest>, PutError) {
    let mut stored = Vec::new();
    for n in 0..100 {
        let digest = Digest::of(&content(n));
        match store.put_bytes(&digest, &content(n)) {
            Ok(_) => stored.push(digest),
            Err(error) => return (stored, error),
        }
    }
    panic!("100 blobs of 64 KiB fit into one megabyte");
}

#[test]
fn a_full_disk_is_an_answer_and_leaves_nothing_behind() {
    let test = "a_full_disk_is_an_answer_and_leaves_nothing_behind";
    let Some(path) = on_small_disk(test, "size=1m,mode=0700") else {
        return;
    };
    let store = open(&path);
    let (stored, error) = fill(&store);
    assert!(stored.len() > 8, "{}", stored.len());
    match &error {
        PutError::NoSpace {
            needed: 65536,
            quota: false,
            ..
        } => {}
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().ends_with("65536 bytes needed"), "{error}");
    assert_eq!(store.stats().unwrap().temporary, 0);

    let large = Digest {
        size: 10 << 20,
        ..Digest::of(b"large")
    };
    let mut writer = store.writer(Some(large)).unwrap();
    let error = (0..160)
        .find_map(|n| writer.append(&content(n)).err())
        .unwrap();
    assert!(
        matches!(
            error,
            PutError::NoSpace {
                needed: 10_485_760,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        store.stats().unwrap().temporary,
        0,
        "removed before the writer is dropped"
    );
    drop(writer);

    let source = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(source.path(), vec![1; 3 << 20]).unwrap();
    let error = store.ingest_file(source.path(), false).unwrap_err();
    assert!(
        matches!(
            error,
            PutError::NoSpace {
                needed: 3_145_728,
                ..
            }
        ),
        "{error:?}"
    );

    let report = open(&path).verify().unwrap();
    assert_eq!((report.blobs, report.quarantined), (stored.len() as u64, 0));
    let gc = store
        .gc(&GcOptions {
            max_bytes: 256 << 10,
            dry_run: false,
        })
        .unwrap();
    assert_eq!(gc.bytes_kept, 256 << 10);
    assert!(
        store
            .put_bytes(&Digest::of(&content(99)), &content(99))
            .unwrap()
            .new
    );
}

#[test]
fn running_out_of_inodes_is_an_answer_too() {
    let test = "running_out_of_inodes_is_an_answer_too";
    let Some(path) = on_small_disk(test, "size=1m,nr_inodes=40,mode=0700") else {
        return;
    };
    let store = open(&path);
    let mut stored = 0;
    let error = (0..100u32)
        .find_map(|n| {
            let bytes = n.to_be_bytes();
            let put = store.put_bytes(&Digest::of(&bytes), &bytes);
            stored += u64::from(put.is_ok());
            put.err()
        })
        .unwrap();
    assert!(
        matches!(error, PutError::NoSpace { needed: 4, .. }),
        "{error:?}"
    );
    assert_eq!(store.stats().unwrap().temporary, 0);
    let report = open_read_only_view(&store);
    assert_eq!(report, (stored, 0));
}

/// Another process could not even register as an owner now, so the same one looks.
fn open_read_only_view(store: &Store) -> (u64, u64) {
    let report = store.verify().unwrap();
    (report.blobs, report.quarantined)
}
