//! Releases are installed whole or not at all, once for everybody, and move only when they are told to.

mod server;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use server::{Evil, Scene, component, programs, wanted, whole};
use vx_download::{Options, Progress};
use vx_testkit::HttpFault;
use vx_toolchain::dist::{Dist, Event, Mode, UNUSED};

const DATE: &str = "2020-01-02";

fn nothing() -> Vec<PathBuf> {
    Vec::new()
}

#[tokio::test]
async fn a_release_is_fetched_once_and_known_without_asking_from_then_on() {
    let scene = Scene::new();
    let installed = scene.obtain(&[], Mode::Known).await.unwrap();
    assert!(installed.is_new);
    assert_eq!(installed.record.release, "1.99.0 (abc 2020-01-01)");
    assert_eq!(installed.record.date, DATE);
    assert!(installed.toolchain.rustc.is_file());
    // The hash of the manifest, the manifest, its signature, three archives.
    assert_eq!(scene.requests(), 6);
    for mode in [Mode::Known, Mode::Offline] {
        let again = scene.obtain(&[], mode).await.unwrap();
        assert!(!again.is_new);
        assert_eq!(again.toolchain, installed.toolchain);
    }
    assert_eq!(scene.requests(), 6);
    let receipt = scene.store().receipt(&installed.record.id).unwrap();
    let trees = installed.toolchain.trees(&scene.store().trees()).unwrap();
    assert!(receipt.has_trees(&trees));
    let events = scene.events.lock().unwrap();
    let stored = |event: &&Event| {
        let Event::Download { progress, .. } = event else {
            return false;
        };
        matches!(progress, Progress::Stored { .. })
    };
    assert_eq!(events.iter().filter(stored).count(), 3);
    assert!(matches!(events[0], Event::Resolved { .. }));
    assert!(matches!(events.last(), Some(Event::Installed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_cause_one_download_of_each_file() {
    let scene = Scene::new();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (dist, tell) = (scene.dist(), scene.tell());
            tokio::spawn(async move { dist.obtain(&wanted(&[]), Mode::Known, &tell).await })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += u32::from(task.await.unwrap().unwrap().is_new);
    }
    assert_eq!((new, scene.requests()), (1, 6));
}

#[tokio::test]
async fn whatever_the_server_does_wrong_leaves_nothing_and_names_the_file() {
    let sum = "/dist/channel-rust-stable.toml.sha256";
    let manifest = "/dist/channel-rust-stable.toml";
    let rustc = Scene::archive("rustc", DATE);
    for (path, times, fault, says) in [
        (sum, 1, HttpFault::Status(404), "has no toolchain `stable`"),
        (sum, 2, HttpFault::Status(500), "answered 500"),
        (
            sum,
            1,
            HttpFault::WrongBytes,
            "does not begin with a SHA-256",
        ),
        (manifest, 2, HttpFault::WrongBytes, "has the digest sha256:"),
        (&rustc, 1, HttpFault::Status(404), "answered 404"),
        (&rustc, 2, HttpFault::Status(503), "answered 503"),
        (&rustc, 1, HttpFault::WrongBytes, "has the digest sha256:"),
        (&rustc, 2, HttpFault::Truncated { after: 20 }, "ended after"),
        (&rustc, 2, HttpFault::Stall { after: 10 }, "was silent for"),
        (&rustc, 11, HttpFault::RedirectLoop, "redirects more than"),
        (
            &rustc,
            1,
            HttpFault::Garbage,
            "failed to understand the server",
        ),
    ] {
        let mut scene = Scene::new();
        scene.options.retries.attempts = 2;
        if matches!(fault, HttpFault::Stall { .. }) {
            scene.options.stall_timeout = Duration::from_millis(200);
        }
        scene.server.fault_times(path, times, fault.clone());
        let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
        assert!(error.contains(says), "{fault:?}: {error}");
        let name = path.rsplit('/').next().unwrap();
        assert!(error.contains(name), "{fault:?}: {error}");
        assert_eq!(scene.left(), nothing(), "{fault:?}");
        scene.server.release();
        scene.options = Options::default();
        scene.obtain(&[], Mode::Known).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_busy_for_a_moment_is_asked_again() {
    let scene = Scene::new();
    let rustc = Scene::archive("rustc", DATE);
    for path in ["/dist/channel-rust-stable.toml.sha256", &rustc] {
        scene.server.fault_times(path, 2, HttpFault::Status(503));
    }
    scene.obtain(&[], Mode::Known).await.unwrap();
    scene.server.assert_requests(&rustc, 3);
}

#[tokio::test]
async fn archives_that_break_a_rule_are_refused_whatever_their_hash_is() {
    let host = vx_toolchain::host_triple();
    let evil = |evil| component("rustc", &[("bin/rustc", 0o755, "#!/bin/sh\n")], Some(evil));
    let other = |version| programs(version)[0].1.clone();
    let mut cut = other("1.99.0");
    cut.truncate(cut.len() - 30);
    for (rustc, says) in [
        (
            evil(Evil::Path("a/../../x")),
            "`a/../../x` has `..` in its path",
        ),
        (evil(Evil::Path("/tmp/x")), "`/tmp/x` has an absolute path"),
        (
            evil(Evil::Link("../../../x")),
            "is a link that leaves the toolchain",
        ),
        (cut, "the archive is damaged"),
        (b"nothing".to_vec(), "the archive is damaged"),
        (other("1.98.0"), "says `rustc 1.98.0 (abc 2020-01-01)`"),
        (
            component(
                "rustc",
                &[("bin/rustc", 0o755, "#!/bin/sh\nexit 7\n")],
                None,
            ),
            "-vV` failed",
        ),
        (component("rustc", &[], None), "has no `rustc`"),
    ] {
        let scene = Scene::new();
        let mut packages = programs("1.99.0").to_vec();
        packages[0].1 = rustc;
        scene.release("1.99.0", DATE, packages);
        let result = scene.obtain(&[], Mode::Known).await;
        // The version is the same, the commit too: only the number in the output differs.
        if says.contains("1.98.0") {
            let installed = result.unwrap();
            assert!(installed.toolchain.version.contains("1.98.0"));
            continue;
        }
        let error = whole(&result.unwrap_err());
        assert!(error.contains(says), "{error}");
        assert_eq!(scene.left(), nothing(), "{says}");
        scene.release("1.99.1", "2020-01-03", programs("1.99.1").to_vec());
        scene.obtain(&[], Mode::Known).await.unwrap();
    }
    let scene = Scene::new();
    scene.release("1.99.0", DATE, programs("1.99.0")[..1].to_vec());
    let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
    let says = format!("`rust-std` of Rust 1.99.0 (abc 2020-01-01) is not available for `{host}`");
    assert_eq!(error, says);
    scene.release("1.79.0", DATE, programs("1.79.0").to_vec());
    let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
    let says = "Rust 1.79.0 (abc 2020-01-01) is too old: at least 1.80 is needed";
    assert_eq!(error, says);
    scene.publish(DATE, "manifest-version = \"2\"\n");
    let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
    assert!(
        error.contains("cannot understand the channel manifest"),
        "{error}"
    );
    assert_eq!(scene.left(), nothing());
}

#[tokio::test]
async fn a_channel_moves_when_it_is_told_to_and_the_old_release_goes() {
    let scene = Scene::new();
    let old = scene.obtain(&[], Mode::Known).await.unwrap();
    scene.release("1.99.1", "2020-02-13", programs("1.99.1").to_vec());
    let same = scene.obtain(&[], Mode::Known).await.unwrap();
    assert_eq!(same.record, old.record);
    drop(same);
    // A build is using it.
    let new = scene.obtain(&[], Mode::Newest).await.unwrap();
    assert_eq!(new.record.release, "1.99.1 (abc 2020-01-01)");
    assert!(old.toolchain.rustc.is_file());
    let sysroot = old.toolchain.sysroot.clone();
    drop(old);
    let again = scene.obtain(&[], Mode::Newest).await.unwrap();
    assert!(!again.is_new && !sysroot.exists());
    assert!(new.toolchain.rustc.is_file());
    // It was written down again meanwhile, a second later.
    let mut stale = new.record.clone();
    stale.resolved -= 1;
    let error = Dist::remove(&scene.store(), stale).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("is used by a build")
    );
    drop((again, new.lease));
    assert_eq!(Dist::remove(&scene.store(), new.record).await.unwrap(), 1);
    assert_eq!(scene.left(), nothing());
    let hashes = fs::read_dir(scene.store().hashes()).unwrap();
    assert_eq!(hashes.count(), 0);
}

#[tokio::test]
async fn targets_are_added_and_offline_says_what_is_missing() {
    let scene = Scene::new();
    let offline = whole(&scene.obtain(&[], Mode::Offline).await.unwrap_err());
    assert!(
        offline.ends_with("missing: channel-rust-stable.toml"),
        "{offline}"
    );
    let std = component(
        "rust-std",
        &[("lib/rustlib/t/lib/libstd.rlib", 0o644, "t")],
        None,
    );
    let mut packages = programs("1.99.0").to_vec();
    packages.push(("rust-std@t".to_owned(), std));
    scene.release("1.99.0", DATE, packages);
    let plain = scene.obtain(&[], Mode::Known).await.unwrap();
    let offline = whole(&scene.obtain(&["t"], Mode::Offline).await.unwrap_err());
    assert!(offline.ends_with("missing: rust-std-t.tar.gz"), "{offline}");
    let before = scene.requests();
    let both = scene.obtain(&["t"], Mode::Known).await.unwrap();
    assert_eq!(scene.requests(), before + 1);
    assert_ne!(both.record.id, plain.record.id);
    assert!(both.toolchain.sysroot.join("lib/rustlib/t/lib").is_dir());
    // What was asked for once stays.
    let again = scene.obtain(&[], Mode::Offline).await.unwrap();
    assert_eq!(again.record, both.record);
}

#[tokio::test]
async fn what_a_killed_process_left_is_done_again() {
    let scene = Scene::new();
    let installed = scene.obtain(&[], Mode::Known).await.unwrap();
    let (store, id) = (scene.store(), installed.record.id.clone());
    let sysroot = installed.toolchain.sysroot.clone();
    drop(installed);
    // Killed between the last two steps, and in the middle of unpacking.
    store.condemn(&id).unwrap();
    fs::write(sysroot.join("bin/rustc"), "half").unwrap();
    let tmp = scene.dir.path().join("toolchains/v1/tmp").join(&id);
    fs::create_dir_all(tmp.join("bin")).unwrap();
    fs::write(tmp.join("bin/rustc"), "half").unwrap();
    let requests = scene.requests();
    let again = scene.obtain(&[], Mode::Known).await.unwrap();
    assert!(again.is_new);
    assert_eq!(scene.requests(), requests);
    assert!(
        fs::read(sysroot.join("bin/rustc"))
            .unwrap()
            .starts_with(b"#!")
    );
    assert!(!tmp.exists());
}

#[tokio::test]
async fn what_nobody_has_used_for_long_is_collected_with_its_channel() {
    let scene = Scene::new();
    let store = scene.store();
    assert_eq!(store.collect().unwrap(), 0);
    let installed = scene.obtain(&[], Mode::Known).await.unwrap();
    let lease = scene.dir.path().join("toolchains/v1/lease");
    let lease = lease.join(&installed.record.id);
    let channel = fs::read_dir(store.channels()).unwrap().next().unwrap();
    let channel = channel.unwrap().path();
    // As if it had been asked for, and used, so long ago.
    let age = |age: Duration| {
        let then = SystemTime::now() - age;
        let mut record = installed.record.clone();
        let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        record.resolved = since.as_secs();
        fs::write(&channel, serde_json::to_vec(&record).unwrap()).unwrap();
        let file = fs::File::options().write(true).open(&lease).unwrap();
        file.set_modified(then).unwrap();
    };
    let day = Duration::from_secs(24 * 3600);
    age(UNUSED - day);
    assert_eq!(store.collect().unwrap(), 0);
    age(UNUSED + day);
    // Somebody has it, for however long.
    assert_eq!(store.collect().unwrap(), 0);
    assert!(installed.toolchain.rustc.is_file() && channel.exists());
    let (record, lease_of) = (installed.record.clone(), installed.lease);
    drop(lease_of);
    // Whoever uses it now has used it.
    drop(store.lease(&record.id).unwrap());
    assert_eq!(store.collect().unwrap(), 0);
    let file = fs::File::options().write(true).open(&lease).unwrap();
    file.set_modified(SystemTime::now() - UNUSED - day).unwrap();
    assert_eq!(store.collect().unwrap(), 1);
    assert_eq!(scene.left(), nothing());
    // The next one fetches it again, out of the download cache as far as that has it.
    let again = scene.obtain(&[], Mode::Known).await.unwrap();
    assert!(again.is_new);
}

#[tokio::test]
async fn an_archive_that_a_server_has_with_the_other_packing_only_is_fetched_so() {
    let mut scene = Scene::new();
    let gz = Scene::archive("rustc", DATE);
    let xz = scene.repack(DATE);
    // One that is there is preferred, and one that cannot be had now is there.
    scene.options.retries.attempts = 2;
    scene.server.fault_times(&gz, 2, HttpFault::Status(503));
    let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
    assert!(error.contains("answered 503"), "{error}");
    scene.server.assert_requests(&xz, 0);
    scene.server.fault_times(&gz, 2, HttpFault::Status(404));
    scene.server.fault_times(&xz, 1, HttpFault::Status(404));
    let error = whole(&scene.obtain(&[], Mode::Known).await.unwrap_err());
    assert!(error.contains(&gz), "{error}");
    assert_eq!(scene.left(), nothing());
    let installed = scene.obtain(&[], Mode::Known).await.unwrap();
    let id = installed.record.id.clone();
    drop(installed);
    // It is known here with that packing, without any network.
    let requests = scene.requests();
    scene.store().condemn(&id).unwrap();
    let again = scene.obtain(&[], Mode::Offline).await.unwrap();
    assert!(again.is_new);
    assert_eq!(scene.requests(), requests);
    // Whoever gets the other one has the same toolchain.
    let same = scene.obtain(&[], Mode::Newest).await.unwrap();
    assert_eq!((same.record.id, same.is_new), (id, false));
}
