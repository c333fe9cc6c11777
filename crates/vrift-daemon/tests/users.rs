//! Two users and the daemon's own: what each may do, and what each tries in vain.
//!
//! Credentials belong to threads, so a thread becomes another user for its part.
//! Only root can do that, so whoever is not root runs each test as root of a user namespace.
//! That takes `newuidmap` and a range in `/etc/subuid`; without them nothing is shown, and the tests say so.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may panic and print like tests"
)]

mod site;

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use site::{ALICE, BOB, Site, VRIFT, is_root};
use vrift_daemon::{CallError, Client};
use vrift_store::manifest::{Entry, Kind, Manifest, Time};
use vx_digest::Digest;

/// Runs something as another user.
fn as_user<T: Send>(uid: u32, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let id = libc::c_long::from(uid);
                // SAFETY: the raw calls change the credentials of this thread only, which ends here.
                unsafe {
                    assert_eq!(libc::syscall(libc::SYS_setgroups, 0, 0), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresgid, id, id, id), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresuid, id, id, id), 0);
                }
                run()
            })
            .join()
            .unwrap()
    })
}

/// Runs the test that calls this again, as root of a user namespace that has more users.
fn run_in_a_namespace() {
    let thread = std::thread::current();
    let test = thread.name().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return eprintln!("not shown: `unshare` cannot be run: {error}"),
    };
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    if !out.contains("running 1 test") {
        return eprintln!("not shown: it takes root or a user namespace with several users: {err}");
    }
    assert!(output.status.success(), "{out}{err}");
}

/// A daemon under its own user, and a private home for each of two others.
fn site() -> Option<Site> {
    if !is_root() {
        run_in_a_namespace();
        return None;
    }
    let site = Site::start_as(Some(VRIFT), &[]);
    for (name, uid) in [("alice", ALICE), ("bob", BOB)] {
        let home = site.path(name);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
        chown(&home, Some(uid), Some(uid)).unwrap();
    }
    Some(site)
}

fn own_file(path: &Path, content: &[u8], uid: u32, mode: u32) -> PathBuf {
    fs::write(path, content).unwrap();
    chown(path, Some(uid), Some(uid)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    path.to_owned()
}

fn memory(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

fn put(client: &mut Client, content: &[u8]) -> Digest {
    let file = memory(content);
    let (result, _) = client.call("put", json!({}), &[file.as_fd()]).unwrap();
    result["blobs"][0]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn manifest_of(digest: &Digest) -> Vec<u8> {
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        mode: 0o755,
        mtime: Time::default(),
        kind,
    };
    let entries = vec![entry("", Kind::Directory), entry("f", Kind::File(*digest))];
    Manifest::new(entries).unwrap().encode()
}

/// Keeps one file under a name; returns the manifest's digest.
fn keep(client: &mut Client, path: &str, content: &[u8]) -> Digest {
    let digest = put(client, content);
    let manifest = put(client, &manifest_of(&digest));
    let params = json!({ "path": path, "manifest": manifest.to_string() });
    client.call("register", params, &[]).unwrap();
    manifest
}

fn fetch(client: &mut Client, digest: &Digest) -> Option<File> {
    let params = json!({ "digests": [digest.to_string()] });
    let (_, fds) = client.call("fetch", params, &[]).unwrap();
    fds.into_iter().next().map(File::from)
}

fn code(result: Result<(Value, Vec<std::os::fd::OwnedFd>), CallError>) -> i64 {
    match result {
        Err(CallError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

const SECRET: &[u8] = b"alice's secret";

#[test]
fn private_files_are_stored_by_descriptor_and_by_nothing_else() {
    let Some(site) = site() else { return };
    let home = site.path("alice");
    let file = own_file(&home.join("secret"), SECRET, ALICE, 0o600);
    as_user(ALICE, || {
        let mut client = site.client();
        let file = File::open(&file).unwrap();
        let (result, _) = client.call("put", json!({}), &[file.as_fd()]).unwrap();
        assert_eq!(
            result["blobs"][0]["digest"],
            json!(Digest::of(SECRET).to_string())
        );
        // The daemon cannot enter this home, whoever asks.
        let refused = client.call("ingest", json!({ "path": home }), &[]);
        assert_eq!(code(refused), -32001);
        keep(&mut client, "/alice", SECRET);
        let mut content = Vec::new();
        let mut blob = fetch(&mut client, &Digest::of(SECRET)).unwrap();
        blob.read_to_end(&mut content).unwrap();
        assert_eq!(content, SECRET);
    });
    as_user(BOB, || {
        let refused = site.client().call("ingest", json!({ "path": home }), &[]);
        assert_eq!(code(refused), -32001);
    });
}

#[test]
fn callers_wait_when_more_descriptors_travel_than_their_user_may_have() {
    let Some(site) = site() else { return };
    as_user(ALICE, || {
        let mut client = site.client();
        let file = memory(b"content");
        let fds = [file.as_fd(); 64];
        // What a user's programs have sent and nobody has received is counted against this.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(64);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        let mut under_way = VecDeque::new();
        for _ in 0..300 {
            under_way.push_back(client.send("put", json!({}), &fds).unwrap());
            if under_way.len() > 4 {
                let (result, _) = client.receive(under_way.pop_front().unwrap()).unwrap();
                assert_eq!(result["blobs"].as_array().unwrap().len(), 64);
            }
        }
    });
}

#[test]
fn a_digest_alone_gives_nothing() {
    let Some(site) = site() else { return };
    let manifest = as_user(ALICE, || keep(&mut site.client(), "/alice", SECRET));
    let secret = Digest::of(SECRET);
    as_user(BOB, || {
        let mut client = site.client();
        assert!(fetch(&mut client, &secret).is_none());
        assert!(fetch(&mut client, &manifest).is_none());
        let link = json!({ "manifest": manifest.to_string() });
        assert_eq!(code(client.call("link", link, &[])), -32002);
        assert_eq!(
            code(client.call("link", json!({ "path": "/alice" }), &[])),
            -32002
        );
        // A manifest of one's own that names it.
        let own = put(&mut client, &manifest_of(&secret));
        let register = json!({ "path": "/bob", "manifest": own.to_string() });
        assert_eq!(code(client.call("register", register, &[])), -32002);
        // A parameter makes nobody another user.
        let lie = json!({ "digests": [secret.to_string()], "uid": ALICE, "user": "alice" });
        let (found, _) = client.call("fetch", lie, &[]).unwrap();
        assert_eq!(found["found"], json!([false]));
        // Who has the content may have it, and does not learn that others do.
        let file = memory(SECRET);
        let (result, _) = client.call("put", json!({}), &[file.as_fd()]).unwrap();
        assert_eq!(result["blobs"][0]["new"], json!(true));
        keep(&mut client, "/bob", SECRET);
        assert!(fetch(&mut client, &secret).is_some());
        // The store has it once.
        let (status, _) = client.call("status", json!({}), &[]).unwrap();
        assert_eq!(status["logical_bytes"], json!(2 * SECRET.len()));
        assert_eq!(status["kept_bytes"], json!(SECRET.len()));
        assert_eq!(status["users"].as_array().unwrap().len(), 1);
        assert_eq!(status["users"][0]["uid"], json!(BOB));
    });
}

#[test]
fn public_digests_are_the_administrators_choice() {
    if !is_root() {
        return run_in_a_namespace();
    }
    let site = Site::start_as(Some(VRIFT), &["--public-digests"]);
    as_user(ALICE, || keep(&mut site.client(), "/alice", SECRET));
    as_user(BOB, || {
        assert!(fetch(&mut site.client(), &Digest::of(SECRET)).is_some());
    });
}

#[test]
fn the_store_is_closed_on_disk() {
    let Some(site) = site() else { return };
    as_user(ALICE, || keep(&mut site.client(), "/alice", SECRET));
    let hex = Digest::of(SECRET).hex();
    let blob = site.home().join(format!(
        "the_source/blake3/{}/{}/{hex}_{}.bin",
        &hex[..2],
        &hex[2..4],
        SECRET.len()
    ));
    assert_eq!(fs::read(&blob).unwrap(), SECRET);
    for uid in [ALICE, BOB] {
        as_user(uid, || {
            for path in [&blob, &site.home(), &site.home().join("roots")] {
                let error = fs::read_dir(path).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            }
            assert!(File::open(&blob).is_err());
            assert!(fs::remove_file(&blob).is_err());
        });
    }
}

#[test]
fn a_descriptor_of_a_blob_does_not_let_anybody_write() {
    let Some(site) = site() else { return };
    as_user(ALICE, || {
        let mut client = site.client();
        keep(&mut client, "/alice", SECRET);
        let blob = fetch(&mut client, &Digest::of(SECRET)).unwrap();
        assert!((&blob).write(b"x").is_err());
        let again = PathBuf::from(format!("/proc/self/fd/{}", blob.as_raw_fd()));
        assert!(File::options().write(true).open(&again).is_err());
        assert!(blob.set_permissions(Permissions::from_mode(0o666)).is_err());
        assert!(blob.set_modified(std::time::SystemTime::now()).is_err());
        assert!(fs::hard_link(&again, site.path("alice/mine")).is_err());
    });
}

#[test]
fn the_daemon_is_no_ones_deputy() {
    let Some(site) = site() else { return };
    // Files that the daemon's user may read and the caller may not.
    let shared = site.path("shared");
    fs::create_dir(&shared).unwrap();
    own_file(&shared.join("key"), b"the daemon's key", VRIFT, 0o600);
    as_user(BOB, || {
        let mut client = site.client();
        let dir = File::open(&shared).unwrap();
        let by_descriptor = client.call("ingest", json!({ "path": shared }), &[dir.as_fd()]);
        assert_eq!(code(by_descriptor), -32001);
        let by_path = client.call("ingest", json!({ "path": shared }), &[]);
        assert_eq!(code(by_path), -32001);
        // The daemon's own store, where names are digests.
        let state = File::open(site.path("state")).unwrap();
        let params = json!({ "path": site.path("state") });
        assert_eq!(
            code(client.call("ingest", params, &[state.as_fd()])),
            -32001
        );
        assert_eq!(
            code(client.call("ingest", json!({ "path": site.home() }), &[])),
            -32001
        );
    });
    // A link out of a directory of one's own leads nowhere.
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    symlink(shared.join("key"), tree.join("key")).unwrap();
    symlink(site.home(), tree.join("store")).unwrap();
    own_file(&tree.join("mine"), b"mine", BOB, 0o644);
    as_user(BOB, || {
        let mut client = site.client();
        let (result, _) = client.call("ingest", json!({ "path": tree }), &[]).unwrap();
        assert_eq!(result["files"], json!(1));
        assert!(fetch(&mut client, &Digest::of(b"the daemon's key")).is_none());
        assert!(fetch(&mut client, &Digest::of(b"mine")).is_some());
    });
}

#[test]
fn nobody_removes_what_is_anothers() {
    let Some(mut site) = site() else { return };
    let kept = b"kept by alice";
    as_user(ALICE, || {
        let mut client = site.client();
        keep(&mut client, "/alice", kept);
        // Given up, and nobody else's to collect.
        keep(&mut client, "/old", b"given up by alice");
        client
            .call("forget", json!({ "path": "/old" }), &[])
            .unwrap();
    });
    // A new process has no memory of what was used.
    site.kill();
    site.restart();
    as_user(BOB, || {
        let mut client = site.client();
        let (forgot, _) = client
            .call("forget", json!({ "path": "/alice" }), &[])
            .unwrap();
        assert_eq!(forgot["kept"], json!(false));
        let (roots, _) = client.call("roots", json!({}), &[]).unwrap();
        assert_eq!(roots["roots"], json!([]));
        for params in [
            json!({ "older_than": 0 }),
            json!({ "older_than": 0, "max_size": 0 }),
            json!({ "older_than": 0, "own": false }),
        ] {
            let (gc, _) = client.call("gc", params, &[]).unwrap();
            assert_eq!(gc["blobs"], json!(0));
        }
        assert_eq!(code(client.call("verify", json!({}), &[])), -32001);
    });
    as_user(ALICE, || {
        let mut client = site.client();
        let (plan, _) = client
            .call("gc", json!({ "older_than": 0, "dry_run": true }), &[])
            .unwrap();
        let (gc, _) = client.call("gc", json!({ "older_than": 0 }), &[]).unwrap();
        // The content and its manifest.
        assert_eq!((&gc["blobs"], &plan["blobs"]), (&json!(2), &json!(2)));
        assert!(fetch(&mut client, &Digest::of(kept)).is_some());
    });
}

#[test]
fn every_write_has_an_audit_line() {
    let Some(site) = site() else { return };
    as_user(ALICE, || {
        let mut client = site.client();
        keep(&mut client, "/alice", SECRET);
        client
            .call("forget", json!({ "path": "/alice" }), &[])
            .unwrap();
        let _refused = client.call("verify", json!({}), &[]);
    });
    let log = site.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line.get("audit").is_some())
        .collect();
    let said: Vec<(&str, bool)> = lines
        .iter()
        .map(|line| (line["audit"].as_str().unwrap(), line["ok"] == json!(true)))
        .collect();
    assert_eq!(
        said,
        [
            ("put", true),
            ("put", true),
            ("register", true),
            ("forget", true),
            ("verify", false)
        ]
    );
    assert!(lines.iter().all(|line| line["uid"] == json!(ALICE)));
    assert!(!log.contains("secret"), "content has no place in a log");
}

#[test]
fn a_private_daemon_serves_its_user_only() {
    if !is_root() {
        return run_in_a_namespace();
    }
    let site = Site::start(&["--private"]);
    as_user(BOB, || {
        assert!(Client::connect(&site.socket()).is_err());
    });
}
