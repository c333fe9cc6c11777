//! Dependencies of every kind that cargo knows, fetched by cargo and built through the services.
//!
//! Registries are on loopback, repositories on disk; each user of a test has an own `VX_HOME` and an own CARGO_HOME, and all share a download cache.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::processes::{Process, descendants, service, wait_for_end_of};
use harness::registry::{self, CRATES_IO, Registry};
use harness::{Project, registry::hex};
use tempfile::TempDir;
use vx_testkit::{Command, Run, TestEnv};

/// How long something may take to come on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SEVEN: &str = "pub fn seven() -> u32 { 7 }\n";

/// A user who has nothing yet, and the cache that is shared.
struct User<'a> {
    env: TestEnv,
    cache: &'a Path,
}

impl User<'_> {
    fn new(cache: &TempDir) -> User<'_> {
        User {
            env: TestEnv::vx(),
            cache: cache.path(),
        }
    }

    /// Writes a file of the user's CARGO_HOME.
    fn write(&self, path: &str, content: &str) {
        let path = self.cargo_home().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn cargo_home(&self) -> PathBuf {
        self.env.home().join("cargo")
    }

    fn command(&self, project: &Project<'_>, arguments: &[&str]) -> Command {
        self.env
            .command("vx")
            .args(arguments.iter().copied())
            .env("CARGO_HOME", self.cargo_home())
            .env("VX_DOWNLOAD_CACHE_DIR", self.cache)
            .current_dir(project.dir())
    }

    fn vx(&self, project: &Project<'_>, arguments: &[&str]) -> Run {
        self.command(project, arguments).run()
    }

    fn build(&self, project: &Project<'_>) -> Run {
        self.vx(project, &["build"])
    }
}

/// What the program of a project prints.
fn output(project: &Project<'_>) -> String {
    let program = project.output("debug/app");
    let run = project
        .env()
        .command(program.to_str().unwrap())
        .run()
        .expect_success();
    run.stdout().into_owned()
}

/// A program that prints what `seven` returns, with these lines in its manifest.
fn app<'a>(env: &'a TestEnv, manifest: &str) -> Project<'a> {
    let project = Project::hello(env, "app", "");
    project.write(
        "Cargo.toml",
        &format!("[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{manifest}"),
    );
    project.write(
        "src/main.rs",
        "fn main() { println!(\"{}\", seven::seven()); }\n",
    );
    project
}

/// A program that depends on `seven` of crates.io, with a lock file.
fn locked<'a>(env: &'a TestEnv, registry: &Registry) -> Project<'a> {
    let project = app(env, "[dependencies]\nseven = \"1\"\n");
    project.write("Cargo.lock", &registry.lock_of("app", CRATES_IO));
    project
}

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
    registry.publish("one", "1.0.0", "pub const ONE: u32 = 1;\n", &[]);
    let seven = "pub fn seven() -> u32 { 6 + one::ONE }\n";
    registry.publish("seven", "1.0.0", seven, &["one"]);
    let cache = tempfile::tempdir().unwrap();
    let users: Vec<User<'_>> = (0..2).map(|_| User::new(&cache)).collect();
    for user in &users {
        let project = app(&user.env, "[dependencies]\nseven = \"1\"\none = \"1\"\n");
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
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
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
    let (first, second) = (User::new(&cache), User::new(&cache));
    first.write("config.toml", &registry.in_place_of_crates_io());
    let build = |user: &User<'_>, project: &Project<'_>| {
        user.command(project, &["build"])
            .env_remove("VX_DOWNLOAD_CACHE_DIR")
            .env("CARGO_HOME", first.cargo_home())
            .run()
    };
    let project = locked(&first.env, &registry);
    build(&first, &project).expect_success();
    assert_eq!(output(&project), "7\n");
    let archive = find(&first.cargo_home(), "seven-1.0.0.crate");
    fs::write(&archive, "no archive").unwrap();
    let project = locked(&second.env, &registry);
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
    let first = User::new(&cache);
    let project = locked(&first.env, &registry);
    first.write("config.toml", &registry.in_place_of_crates_io());
    first.build(&project).expect_success();
    // Another user has never seen the sources.
    let eight = registry::archive("seven", "1.0.0", "pub fn seven() -> u32 { 8 }\n", &[]);
    let shared = cache.path().join("cargo/v1/registry");
    fs::write(find(&shared.join("cache"), "seven-1.0.0.crate"), &eight).unwrap();
    fs::remove_dir_all(find(&shared.join("src"), "seven-1.0.0")).unwrap();
    let second = User::new(&cache);
    let project = locked(&second.env, &registry);
    second.write("config.toml", &registry.in_place_of_crates_io());
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
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
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
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
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
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
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
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
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
fn an_alternative_registry_gets_the_users_token() {
    let registry = Registry::for_members();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    // Who comes without a token is not let in.
    let settings = "/index/config.json";
    let unknown = vx_testkit::HttpFault::Status(401);
    registry.server().fault_times(settings, 1, unknown);
    let cache = tempfile::tempdir().unwrap();
    let user = User::new(&cache);
    let manifest = "[dependencies]\nseven = { version = \"1\", registry = \"members\" }\n";
    let project = app(&user.env, manifest);
    // cargo wants to be told where tokens for reading come from.
    let config = format!(
        "[registry]\nglobal-credential-providers = [\"cargo:token\"]\n[registries.members]\nindex = \"{}\"\n",
        registry.index()
    );
    user.write("config.toml", &config);
    let credentials = "[registries.members]\ntoken = \"let me in\"\n";
    user.write("credentials.toml", credentials);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    let requests = registry.server().requests();
    for request in requests.iter().filter(|request| request.status == 200) {
        assert_eq!(
            request.header("authorization"),
            Some("let me in"),
            "{request:?}"
        );
    }
    assert!(requests.len() >= 4, "{requests:#?}");
    // Nothing that is shared, and nothing of vx, has the secret.
    for directory in [user.cache, &user.env.dir("vx-home")] {
        assert_eq!(files_with("let me in", directory), Vec::<PathBuf>::new());
    }
    user.env.finish();
}

/// Files below `directory`, not those that links lead to, that contain `text`.
fn files_with(text: &str, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(text, &path));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            let mut windows = content.windows(text.len());
            if windows.any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// Runs git in a repository of a test; `None` where there is no git.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(["-c", "init.defaultBranch=main"])
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(directory)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        other => other.unwrap(),
    };
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A repository with the packages `seven` and `one`, the first of which needs the second and a file beside both.
fn repository(directory: &Path) -> Option<String> {
    git(directory, &["init", "--quiet"])?;
    let write = |path: &str, content: &str| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"seven\", \"one\"]\nresolver = \"2\"\n",
    );
    write("words.txt", "from a repository");
    let manifest = |name: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n")
    };
    write(
        "seven/Cargo.toml",
        &(manifest("seven") + "[dependencies]\none = { path = \"../one\" }\n"),
    );
    write(
        "seven/src/lib.rs",
        "pub fn seven() -> String { format!(\"{} {}\", 6 + one::ONE, include_str!(\"../../words.txt\")) }\n",
    );
    write("one/Cargo.toml", &manifest("one"));
    write("one/src/lib.rs", "pub const ONE: u32 = 1;\n");
    git(directory, &["add", "--all"])?;
    git(directory, &["commit", "--quiet", "--message", "seven"])?;
    let revision = git(directory, &["rev-parse", "HEAD"])?;
    Some(revision.trim().to_owned())
}

#[test]
fn a_git_dependency_is_built_and_needs_its_repository_once() {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let Some(revision) = repository(source.path()) else {
        eprintln!(
            "SKIPPED: there is no git on this machine, so nothing was shown about git dependencies"
        );
        return;
    };
    let url = format!("file://{}", source.path().display());
    let manifest = format!("[dependencies]\nseven = {{ git = \"{url}\", rev = \"{revision}\" }}\n");
    let users: Vec<User<'_>> = (0..2).map(|_| User::new(&cache)).collect();
    let projects: Vec<Project<'_>> = users.iter().map(|user| app(&user.env, &manifest)).collect();
    users[0].build(&projects[0]).expect_success();
    assert_eq!(output(&projects[0]), "7 from a repository\n");
    // The repository is gone, and the second user has never seen it.
    drop(source);
    let lock = fs::read_to_string(projects[0].dir().join("Cargo.lock")).unwrap();
    assert!(
        lock.contains(&format!("git+{url}?rev={revision}#{revision}")),
        "{lock}"
    );
    projects[1].write("Cargo.lock", &lock);
    let run = users[1].vx(&projects[1], &["build", "--frozen", "--release"]);
    run.expect_success();
    users.into_iter().for_each(|user| user.env.finish());
}

#[test]
fn a_patched_dependency_is_the_one_of_the_patch() {
    let registry = Registry::start();
    registry.publish("one", "1.0.0", "pub const ONE: u32 = 1;\n", &[]);
    let seven = "pub fn seven() -> u32 { 6 + one::ONE }\n";
    registry.publish("seven", "1.0.0", seven, &["one"]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::new(&cache);
    user.write("config.toml", &registry.in_place_of_crates_io());
    let manifest =
        "[dependencies]\nseven = \"1\"\n[patch.crates-io]\none = { path = \"../patched\" }\n";
    let project = app(&user.env, manifest);
    let patched = Project::new(&user.env, "patched");
    patched.write(
        "Cargo.toml",
        "[package]\nname = \"one\"\nversion = \"1.0.1\"\nedition = \"2021\"\n",
    );
    patched.write("src/lib.rs", "pub const ONE: u32 = 11;\n");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "17\n");
    registry
        .server()
        .assert_requests(&registry.archive("one", "1.0.0"), 0);
    // It is the user's, and may be edited.
    patched.edit("src/lib.rs", "11", "21");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "27\n");
    user.env.finish();
}

#[test]
fn a_source_replaced_by_a_directory_beside_the_users_home_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let user = User::new(&cache);
    let project = app(&user.env, "[dependencies]\nseven = \"1\"\n");
    // Relative to the directory above CARGO_HOME, as for cargo.
    user.write(
        "config.toml",
        "[source.crates-io]\nreplace-with = \"mine\"\n[source.mine]\ndirectory = \"sources\"\n",
    );
    let manifest = "[package]\nname = \"seven\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    user.write("../sources/seven/Cargo.toml", manifest);
    user.write("../sources/seven/src/lib.rs", SEVEN);
    let list = format!(
        "{{\"files\":{{\"src/lib.rs\":\"{}\"}}}}",
        hex(SEVEN.as_bytes())
    );
    user.write("../sources/seven/.cargo-checksum.json", &list);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    user.env.finish();
}

#[test]
fn what_cargo_vendored_is_built_without_its_registry() {
    let registry = Registry::start();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::new(&cache);
    let project = locked(&user.env, &registry);
    user.write("config.toml", &registry.in_place_of_crates_io());
    let vendored = user
        .env
        .command("cargo")
        .args(["vendor", "--locked", "--quiet", "--respect-source-config"])
        .env("CARGO_HOME", user.cargo_home())
        .current_dir(project.dir());
    vendored.run().expect_success();
    drop(registry);
    project.write(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n",
    );
    user.write("config.toml", "");
    user.vx(&project, &["build", "--frozen"]).expect_success();
    assert_eq!(output(&project), "7\n");
    user.env.finish();
}

#[test]
fn a_path_dependency_outside_of_the_workspace_is_built_and_may_be_edited() {
    let cache = tempfile::tempdir().unwrap();
    let user = User::new(&cache);
    let project = app(
        &user.env,
        "[dependencies]\nseven = { path = \"../seven\" }\n",
    );
    let seven = Project::new(&user.env, "seven");
    seven.write(
        "Cargo.toml",
        "[package]\nname = \"seven\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    );
    seven.write("src/lib.rs", SEVEN);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    seven.edit("src/lib.rs", "7", "77");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "77\n");
    user.env.finish();
}
