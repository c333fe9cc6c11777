//! Crates come from their registry once, are those of Cargo.lock or are refused, and are there again after whatever went wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::processes::{Process, descendants, service, wait_for_end_of};
use harness::registry::{self, CRATES_IO, hex};
use harness::user::{User, output};
use harness::{Project, Registry};

/// How long something may take to come on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SEVEN: &str = "pub fn seven() -> u32 { 7 }\n";

/// The only file called `name` below `directory`.
fn find(directory: &Path, name: &str) -> PathBuf {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_name() == name {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

#[test]
fn what_one_user_fetched_nobody_fetches_again() {
    let registry = Registry::start();
    registry.publish_seven();
    let cache = tempfile::tempdir().unwrap();
    let users: Vec<User<'_>> = (0..2).map(|_| User::of(cache.path())).collect();
    for user in &users {
        let project = user.app("[dependencies]\nseven = \"1\"\none = \"1\"\n");
        project.write("Cargo.lock", &registry.lock_of("app", CRATES_IO));
        // In the user's own configuration, which is not where cargo fetches to.
        user.write("config.toml", &registry.in_place_of_crates_io());
        user.vx(&project, &["build", "--locked"]).expect_success();
        assert_eq!(output(&project), "7\n");
        assert!(!user.cargo_home().join("registry").exists());
    }
    for name in ["one", "seven"] {
        let archive = registry.archive(name, "1.0.0");
        registry.server().assert_requests(&archive, 1);
    }
    // The index as well: the lock file says all.
    let requests = registry.server().requests().len();
    assert_eq!(requests, 5, "{:#?}", registry.server().requests());
    users.into_iter().for_each(|user| user.env.finish());
}

#[test]
fn what_cargo_fetched_for_a_user_is_not_fetched_again_and_there_offline() {
    let registry = Registry::start();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    let fetched = user
        .env
        .command("cargo")
        .args(["fetch", "--locked"])
        .env("CARGO_HOME", user.cargo_home())
        .current_dir(project.dir());
    fetched.run().expect_success();
    let requests = registry.server().requests().len();
    user.vx(&project, &["build", "--frozen"]).expect_success();
    assert_eq!(output(&project), "7\n");
    assert_eq!(registry.server().requests().len(), requests);
    find(&cache.path().join("cargo/v1"), "seven-1.0.0.crate");
    user.env.finish();
}

#[test]
fn without_a_shared_cache_crates_are_in_the_users_home_and_nothing_there_is_removed() {
    let registry = Registry::start();
    let expected = registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let (first, second) = (User::of(cache.path()), User::of(cache.path()));
    let build = |user: &User<'_>, project: &Project<'_>| {
        user.command(project, &["build"])
            .env_remove("VX_DOWNLOAD_CACHE_DIR")
            .env("CARGO_HOME", first.cargo_home())
            .run()
    };
    let project = first.locked_app(&registry);
    build(&first, &project).expect_success();
    assert_eq!(output(&project), "7\n");
    let archive = find(&first.cargo_home(), "seven-1.0.0.crate");
    fs::write(&archive, "no archive").unwrap();
    let project = second.locked_app(&registry);
    let run = build(&second, &project);
    assert_eq!(run.code(), Some(1), "{run}");
    let says = format!(
        "`seven 1.0.0` has the checksum {}, but Cargo.lock says {expected}",
        hex(b"no archive")
    );
    assert!(run.stderr().contains(&says), "{run}");
    let hint = format!("hint: remove `{}`", archive.display());
    assert!(run.stderr().contains(&hint), "{run}");
    assert!(archive.exists());
    fs::remove_file(archive).unwrap();
    build(&second, &project).expect_success();
    assert_eq!(output(&project), "7\n");
    for user in [&first, &second] {
        assert!(!user.env.dir("vx-home").join("daemon/cargo").exists());
    }
    assert!(!cache.path().join("cargo").exists());
    first.env.finish();
    second.env.finish();
}

#[test]
fn an_archive_that_was_tampered_with_is_refused_and_fetched_anew() {
    let registry = Registry::start();
    let expected = registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let first = User::of(cache.path());
    let project = first.locked_app(&registry);
    first.build(&project).expect_success();
    // Another user has never seen the sources.
    let eight = registry::archive("seven", "1.0.0", "pub fn seven() -> u32 { 8 }\n", &[]);
    let shared = cache.path().join("cargo/v1/registry");
    fs::write(find(&shared.join("cache"), "seven-1.0.0.crate"), &eight).unwrap();
    fs::remove_dir_all(find(&shared.join("src"), "seven-1.0.0")).unwrap();
    let second = User::of(cache.path());
    let project = second.locked_app(&registry);
    let run = second.build(&project);
    assert_eq!(run.code(), Some(1), "{run}");
    let says = format!(
        "`seven 1.0.0` has the checksum {}, but Cargo.lock says {expected}",
        hex(&eight)
    );
    assert!(run.stderr().contains(&says), "{run}");
    assert!(run.stderr().contains("build again"), "{run}");
    second.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    registry
        .server()
        .assert_requests(&registry.archive("seven", "1.0.0"), 2);
    first.env.finish();
    second.env.finish();
}

#[test]
fn an_archive_that_was_cut_is_told_and_fetched_anew() {
    let registry = Registry::start();
    let expected = registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    user.build(&project).expect_success();
    // As one leaves it who was killed while it was written; cargo takes it as it is.
    let shared = cache.path().join("cargo/v1/registry");
    let archive = find(&shared.join("cache"), "seven-1.0.0.crate");
    let half = fs::read(&archive).unwrap()[..100].to_vec();
    fs::write(&archive, &half).unwrap();
    fs::remove_dir_all(find(&shared.join("src"), "seven-1.0.0")).unwrap();
    let run = user.vx(&project, &["build", "--release"]);
    assert_eq!(run.code(), Some(101), "{run}");
    let found = hex(&half);
    let says = format!("`seven 1.0.0` has the checksum {found}, but Cargo.lock says {expected}");
    assert!(run.stderr().contains(&says), "{run}");
    user.vx(&project, &["build", "--release"]).expect_success();
    let path = registry.archive("seven", "1.0.0");
    registry.server().assert_requests(&path, 2);
    user.env.finish();
}

#[test]
fn a_registry_that_gives_another_archive_is_told_with_both_checksums() {
    let registry = Registry::start();
    let expected = registry.publish("seven", "1.0.0", SEVEN, &[]);
    let right = registry::archive("seven", "1.0.0", SEVEN, &[]);
    let wrong = registry::archive("seven", "1.0.0", "compile_error!();\n", &[]);
    let path = registry.archive("seven", "1.0.0");
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    registry.server().file(&path, &wrong);
    let run = user.build(&project);
    assert_eq!(run.code(), Some(101), "{run}");
    let found = hex(&wrong);
    for text in [
        "failed to verify the checksum of `seven v1.0.0",
        &format!("`seven 1.0.0` has the checksum {found} at `"),
        &format!("but Cargo.lock says {expected}"),
    ] {
        assert!(run.stderr().contains(text), "{text}: {run}");
    }
    registry.server().file(&path, &right);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    user.env.finish();
}

#[test]
fn a_version_that_was_published_anew_is_told_with_both_checksums() {
    let registry = Registry::start();
    let expected = registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    let found = registry.publish("seven", "1.0.0", "compile_error!();\n", &[]);
    let run = user.build(&project);
    assert_eq!(run.code(), Some(101), "{run}");
    for text in [
        "checksum for `seven v1.0.0` changed between lock files",
        &format!("`seven 1.0.0` has the checksum {found} at `"),
        &format!("but Cargo.lock says {expected}"),
    ] {
        assert!(run.stderr().contains(text), "{text}: {run}");
    }
    user.env.finish();
}

#[test]
fn a_daemon_that_is_killed_while_cargo_fetches_takes_cargo_along_and_the_next_build_goes_on() {
    let registry = Registry::start();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    let path = registry.archive("seven", "1.0.0");
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    let stall = vx_testkit::HttpFault::Stall { after: 100 };
    registry.server().fault_times(&path, 1, stall);
    let running = user.command(&project, &["build"]).spawn();
    registry.server().wait_until_sent(&path, 100, PATIENCE);
    let daemon = service(&user.env, "vx-daemon");
    let below = descendants(&daemon);
    let is_cargo = |process: &&Process| process.name == "cargo";
    assert_eq!(below.iter().filter(is_cargo).count(), 1, "{below:?}");
    daemon.kill();
    let run = running.wait();
    assert_eq!(run.code(), Some(4), "{run}");
    wait_for_end_of(&below);
    registry.server().release();
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    registry.server().assert_requests(&path, 2);
    user.env.finish();
}

#[test]
fn crates_that_are_downloaded_are_told_with_their_sizes_also_to_programs() {
    let registry = Registry::start();
    registry.publish_seven();
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.app("[dependencies]\nseven = \"1\"\none = \"1\"\n");
    project.write("Cargo.lock", &registry.lock_of("app", CRATES_IO));
    user.write("config.toml", &registry.in_place_of_crates_io());
    let told = |arguments: &[&str]| {
        let command = user.command(&project, arguments);
        // Words with colours are the same words.
        let run = command.env("CARGO_TERM_COLOR", "always").run();
        let run = run.expect_success();
        let messages: Vec<serde_json::Value> = run
            .stdout()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|message: &serde_json::Value| message["reason"] == "download")
            .collect();
        (run, messages)
    };
    let (run, messages) = told(&["build", "--locked", "--message-format", "json"]);
    assert_eq!(messages.len(), 2, "{run}");
    for name in ["one", "seven"] {
        let file = format!("{name}-1.0.0.crate");
        let size = fs::metadata(find(&cache.path().join("cargo/v1/registry/cache"), &file));
        let size = size.unwrap().len();
        assert!(
            run.stderr().contains(&format!("{file} ({size} B)")),
            "{run}"
        );
        let message = messages.iter().find(|message| message["file"] == file);
        let message = message.unwrap();
        assert_eq!(message["state"], "done", "{message}");
        assert_eq!(message["bytes"], size, "{message}");
        assert_eq!(message["url"], CRATES_IO.trim_start_matches("registry+"));
    }
    assert!(run.stderr().contains(" 2 crates ("), "{run}");
    // What cargo says of them is said already, and its bars are for nobody.
    for words in ["v1.0.0 (registry", "Downloading", "\r"] {
        assert!(!run.stderr().contains(words), "{run}");
    }
    let (run, messages) = told(&["build", "--release", "--message-format", "json"]);
    assert_eq!(messages.len(), 0, "{run}");
    assert!(!run.stderr().contains("ownload"), "{run}");
    user.env.finish();
}
