//! Toolchains from a distribution server are never half there, whatever happens while one is installed.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::Ambush;
use harness::dist::{installed, made_up, vx};
use harness::processes::{service, wait_for_end_of};
use vx_testkit::{Command, Flavour, HttpFault, RustDist, TestEnv, wait_until};

/// How long something may take to appear on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_daemon_that_is_killed_leaves_nothing_half_installed() {
    let dist = made_up(256 << 20).start();
    let env = TestEnv::vx();
    let cache = tempfile::tempdir().unwrap();
    let install = || vx(&env, &dist, cache.path()).args(["toolchain", "install", "stable"]);
    let kill = || {
        let daemon = service(&env, "vx-daemon");
        daemon.kill();
        wait_for_end_of(&[daemon]);
        assert_eq!(installed(cache.path()), Vec::<PathBuf>::new());
    };
    // In the middle of a download …
    let rustc = dist.tarball("rustc");
    dist.server()
        .fault_times(rustc, 1, HttpFault::Stall { after: 100 });
    let running = install().spawn();
    wait_until("the transfer", PATIENCE, || {
        let partial = fs::read_dir(cache.path().join("v1/partial"));
        let found = partial.into_iter().flatten().any(|entry| {
            entry
                .unwrap()
                .metadata()
                .is_ok_and(|meta| meta.len() == 100)
        });
        if found {
            Ok(())
        } else {
            Err("no bytes yet".to_owned())
        }
    });
    kill();
    assert_eq!(running.wait().code(), Some(4));
    dist.server().release();
    // … and of unpacking.
    let running = install().spawn();
    wait_until("a large file that is being written", PATIENCE, || {
        let staging = fs::read_dir(cache.path().join("toolchains/v1/tmp"));
        let found = staging.into_iter().flatten().any(|entry| {
            let file = entry.unwrap().path().join("lib/rustlib/big");
            fs::metadata(file).is_ok_and(|meta| meta.len() > 0)
        });
        if found {
            Ok(())
        } else {
            Err("no file yet".to_owned())
        }
    });
    kill();
    assert_eq!(running.wait().code(), Some(4));
    let requests = dist.server().requests_for(dist.tarball("rust-std")).len();
    // … and of making it an input, when all is unpacked and nothing is written down about it.
    kill_while_hashing(&env, &dist, cache.path(), install);
    install().run().expect_success();
    assert_eq!(installed(cache.path()).len(), 3);
    let shown = list(&env, &dist, cache.path()).run().expect_success();
    assert!(shown.stdout().contains("1.99.0"), "{shown}");
    dist.server()
        .assert_requests(dist.tarball("rust-std"), requests);
    let tmp = fs::read_dir(cache.path().join("toolchains/v1/tmp"));
    assert_eq!(tmp.unwrap().count(), 0);
    env.finish();
}

fn list(env: &TestEnv, dist: &RustDist, cache: &Path) -> Command {
    vx(env, dist, cache).args(["toolchain", "list", "--message-format", "json"])
}

/// Kills the daemon between the moment at which a toolchain is in its place and the one at which it counts as installed.
fn kill_while_hashing(env: &TestEnv, dist: &RustDist, cache: &Path, install: impl Fn() -> Command) {
    let directory = cache.join("toolchains/v1/installed");
    for _ in 0..10 {
        list(env, dist, cache).run().expect_success();
        let ambush = Ambush::at(&directory);
        let running = install().spawn();
        ambush.kill(&service(env, "vx-daemon"), |name| !name.contains('.'));
        assert_eq!(running.wait().code(), Some(4));
        let left = installed(cache);
        assert!(!left.is_empty());
        if left.iter().all(|path| path.is_dir()) {
            let shown = list(env, dist, cache).run().expect_success();
            assert!(!shown.stdout().contains("1.99.0"), "{shown}");
            return;
        }
        // It was done before it was killed, as may happen on a loaded machine.
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
    }
    panic!("the toolchain was always hashed before the daemon was killed");
}

#[test]
fn a_full_disk_is_told_by_the_file_and_the_next_try_succeeds() {
    let dist = made_up(64 << 20).start();
    let env = TestEnv::vx_builder(Flavour::Unix)
        .small_disk("downloads", "SMALL", 80 << 20)
        .build();
    let disk = env.disk("downloads");
    let small = PathBuf::from(env.var("SMALL").unwrap());
    let install = || {
        vx(&env, &dist, &small)
            .args(["toolchain", "install", "stable"])
            .run()
    };
    vx(&env, &dist, &small)
        .args(["toolchain", "list"])
        .run()
        .expect_success();
    disk.fill();
    let run = install();
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(run.stderr().contains("no space is left"), "{run}");
    assert!(run.stderr().contains("hint: free some space"), "{run}");
    disk.free().unwrap();
    // Room for the archives, and not for what is in them.
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1_u8; 40 << 20]).unwrap();
    let run = install();
    assert!(
        run.stderr().contains("cannot unpack `") && run.stderr().contains("rustlib/big`"),
        "{run}"
    );
    assert_eq!(installed(&disk.path()), Vec::<PathBuf>::new());
    fs::remove_file(filler).unwrap();
    install().expect_success();
    assert_eq!(installed(&disk.path()).len(), 3);
    env.finish();
}
