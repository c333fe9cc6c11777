//! Toolchains from a distribution server: fetched once, used by builds, signed by those who may, and not fetched for those who forbade it.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

#[path = "../../crates/vx-toolchain/tests/server/signer.rs"]
mod signer;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use harness::Project;
use harness::dist::{host, installed, made_up, vx};
use harness::registry::{CRATES_IO, Registry};
use vx_testkit::{Flavour, HttpFixture, RustDist, TestEnv, wait_until};

/// How long something may take to appear on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Guards against a build that hangs while many others run.
const LIMIT: Duration = Duration::from_secs(250);

/// What `rustc` of the machine's toolchain prints.
fn rustc(arguments: &[&str]) -> String {
    let output = std::process::Command::new("rustc").args(arguments).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// A project whose file asks for `stable`.
fn project<'a>(env: &'a TestEnv) -> Project<'a> {
    let project = Project::hello(env, "hello", "hello from a fetched toolchain");
    project.write("rust-toolchain.toml", "[toolchain]\nchannel = \"stable\"\n");
    project
}

/// As [`project`], with a crate from a registry that stands in for crates.io.
fn greeter<'a>(env: &'a TestEnv, registry: &Registry) -> Project<'a> {
    let project = project(env);
    project.edit(
        "Cargo.toml",
        "edition = \"2021\"\n",
        "edition = \"2021\"\n[dependencies]\ngreeting = \"1\"\n",
    );
    project.write("Cargo.lock", &registry.lock_of("hello", CRATES_IO));
    project.write(".cargo/config.toml", &registry.in_place_of_crates_io());
    project.write(
        "src/main.rs",
        "fn main() { println!(\"{}\", greeting::GREETING); }\n",
    );
    project
}

#[test]
fn many_homes_that_build_at_once_fetch_each_thing_once_with_every_other_toolchain_hidden() {
    let sysroot = rustc(&["--print", "sysroot"]);
    let version = rustc(&["--version"]);
    let dist = ["rustc", "cargo", "rust-std"]
        .into_iter()
        .fold(
            RustDist::builder("stable", version.split(' ').nth(1).unwrap(), host()),
            |dist, component| dist.installed(component, sysroot.trim()),
        )
        .start();
    let registry = Registry::start();
    let greeting = "pub const GREETING: &str = \"hello from a fetched toolchain\";\n";
    registry.publish("greeting", "1.0.0", greeting, &[]);
    let shared = tempfile::tempdir().unwrap();
    // Several users of one cache, who have nothing, all at once.
    let envs: Vec<TestEnv> = (0..16).map(|_| TestEnv::vx()).collect();
    std::thread::scope(|scope| {
        for env in &envs {
            let (dist, registry, cache) = (&dist, &registry, shared.path());
            scope.spawn(move || {
                let project = greeter(env, registry);
                let run = vx(env, dist, cache)
                    .args(["build", "-v", "--locked"])
                    .current_dir(project.dir())
                    .timeout(LIMIT)
                    .run()
                    .expect_success();
                assert!(run.stderr().contains("2 built"), "{run}");
                let program = env.command(project.output("debug/hello").to_str().unwrap());
                let said = program.run().expect_success();
                assert_eq!(said.stdout(), "hello from a fetched toolchain\n");
            });
        }
    });
    for component in ["rustc", "cargo", "rust-std"] {
        dist.server().assert_requests(dist.tarball(component), 1);
    }
    let archive = registry.archive("greeting", "1.0.0");
    registry.server().assert_requests(&archive, 1);
    let asked = || {
        let count = |server: &HttpFixture| server.requests().len();
        (count(dist.server()), count(registry.server()))
    };
    // The hash of the manifest, the manifest, and a signature that is not there; the settings of the registry and its entry.
    let requests = asked();
    assert_eq!(requests, (6, 3), "{:#?}", dist.server().requests());
    // All of them once more, some with everything but the downloads forgotten.
    for env in envs.iter().step_by(4) {
        vx(env, &dist, shared.path())
            .arg("kill")
            .run()
            .expect_success();
        fs::remove_dir_all(env.dir("vx-home")).unwrap();
    }
    std::thread::scope(|scope| {
        for env in &envs {
            let (dist, registry, cache) = (&dist, &registry, shared.path());
            scope.spawn(move || {
                let project = greeter(env, registry);
                let again = vx(env, dist, cache)
                    .args(["build", "-v", "--locked", "--release"])
                    .current_dir(project.dir());
                let run = again.timeout(LIMIT).run().expect_success();
                assert!(run.stderr().contains("2 built"), "{run}");
            });
        }
    });
    assert_eq!(asked(), requests);
    // Another one later, who has no network at all.
    let sealed = TestEnv::vx_builder(Flavour::Unix).require_sealed().build();
    let hello = greeter(&sealed, &registry);
    vx(&sealed, &dist, shared.path())
        .args(["build", "--offline"])
        .current_dir(hello.dir())
        .run()
        .expect_success();
    let shown = vx(&sealed, &dist, shared.path())
        .args(["toolchain", "show"])
        .current_dir(hello.dir())
        .run()
        .expect_success();
    let file = hello.dir().join("rust-toolchain.toml");
    for text in [
        format!("chosen: `{}` says so", file.display()),
        format!(
            "source: dist, the release of 2020-01-02 from {}",
            dist.root()
        ),
        "the manifest is not signed: the server offers no signature".to_owned(),
    ] {
        assert!(shown.stdout().contains(&text), "{shown}");
    }
    assert_eq!(asked(), requests);
    // What was changed by hand is noticed, and is installed anew.
    let rustlib = installed(shared.path())
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap()
        .join("lib/rustlib/components-of-mine");
    fs::write(&rustlib, "extra").unwrap();
    let damaged = vx(&sealed, &dist, shared.path())
        .args(["build", "--offline"])
        .current_dir(hello.dir())
        .run();
    assert!(damaged.stderr().contains("were changed after"), "{damaged}");
    vx(&sealed, &dist, shared.path())
        .args(["build", "--offline"])
        .current_dir(hello.dir())
        .run()
        .expect_success();
    assert!(!rustlib.exists());
    sealed.finish();
    envs.into_iter().for_each(TestEnv::finish);
}

#[test]
fn many_homes_with_one_cache_cause_one_download_of_each_thing() {
    let dist = made_up(1 << 20).start();
    let cache = tempfile::tempdir().unwrap();
    let install = |env: &TestEnv| {
        vx(env, &dist, cache.path())
            .args(["toolchain", "install", "stable", "--message-format", "json"])
            .run()
            .expect_success()
            .stdout()
            .into_owned()
    };
    let envs: Vec<TestEnv> = (0..16).map(|_| TestEnv::vx()).collect();
    let said: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = envs
            .iter()
            .map(|env| scope.spawn(|| install(env)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(dist.server().requests().len(), 6, "{said:#?}");
    // Those who downloaded told about each file; everybody got the toolchain.
    let count = |text: &str| {
        said.iter()
            .map(|said| said.matches(text).count())
            .sum::<usize>()
    };
    assert_eq!(count("\"state\":\"done\""), 3, "{said:#?}");
    assert_eq!(count("\"reason\":\"toolchain\""), 16, "{said:#?}");
    let later = TestEnv::vx();
    install(&later);
    assert_eq!(dist.server().requests().len(), 6);
    later.finish();
    envs.into_iter().for_each(TestEnv::finish);
}

#[test]
fn targets_that_a_project_lists_come_with_its_toolchain() {
    let wasm = "wasm32-unknown-unknown";
    let library = |target: &str| format!("lib/rustlib/{target}/lib/libcore.rlib");
    let dist = made_up(1)
        .library_for(wasm, [(library(wasm), "core")])
        .start();
    let env = TestEnv::vx();
    let cache = tempfile::tempdir().unwrap();
    let project = project(&env);
    let asks_for = |targets: &str| {
        let file = format!("[toolchain]\nchannel = \"stable\"\ntargets = [{targets}]\n");
        project.write("rust-toolchain.toml", &file);
    };
    let vx = |arguments: &[&str]| {
        let command = vx(&env, &dist, cache.path()).args(arguments.iter().copied());
        command.current_dir(project.dir()).run()
    };
    asks_for("");
    vx(&["toolchain", "install"]).expect_success();
    let tarball = format!("rust-std-{wasm}");
    dist.server().assert_requests(dist.tarball(&tarball), 0);
    asks_for(&format!("{wasm:?}"));
    let shown = vx(&["toolchain", "show"]).expect_success();
    let lacks = format!("lacks: target `{wasm}`; the next build fetches it");
    assert!(shown.stdout().contains(&lacks), "{shown}");
    // The programs are made up, so all that they can do is to be there.
    vx(&["build"]);
    dist.server().assert_requests(dist.tarball(&tarball), 1);
    dist.server().assert_requests(dist.tarball("rustc"), 1);
    let shown = vx(&["toolchain", "show"]).expect_success();
    assert!(
        shown.stdout().contains(&format!("targets: {wasm}")),
        "{shown}"
    );
    assert!(!shown.stdout().contains("lacks"), "{shown}");
    let sysroot = installed(cache.path()).into_iter();
    let mut libraries = sysroot.map(|path| path.join(library(wasm)));
    assert!(libraries.any(|path| path.is_file()));
    // One that the release does not have.
    let run = vx(&["build", "--target", "riscv64gc-unknown-none-elf"]);
    let says = "`rust-std` of Rust 1.99.0 is not available for `riscv64gc-unknown-none-elf`";
    assert!(run.stderr().contains(says), "{run}");
    assert_eq!(run.code(), Some(1), "{run}");
    env.finish();
}

#[test]
fn a_server_of_ones_own_is_checked_with_a_key_of_ones_own() {
    let dist = made_up(1).start();
    let env = TestEnv::vx();
    let cache = tempfile::tempdir().unwrap();
    let key = env.home().join("server.asc");
    let install = || {
        vx(&env, &dist, cache.path())
            .env("VX_DIST_KEY", &key)
            .args(["toolchain", "install", "stable"])
            .run()
    };
    let refused = |says: &str| {
        let run = install();
        assert_eq!(run.code(), Some(1), "{run}");
        assert!(run.stderr().contains(says), "{run}");
        assert_eq!(installed(cache.path()), Vec::<PathBuf>::new());
    };
    refused("which VX_DIST_KEY names");
    fs::write(&key, "no key").unwrap();
    refused("is no OpenPGP PUBLIC KEY BLOCK");
    let signer = signer::Signer::new(1);
    fs::write(&key, signer.key()).unwrap();
    refused("the channel manifest is not signed");
    let path = "/dist/channel-rust-stable.toml.asc";
    let content = dist.manifest().as_bytes();
    dist.server()
        .file(path, signer::Signer::new(2).sign(content));
    refused("which is not among those that may sign releases");
    dist.server().file(path, signer.sign(b"other"));
    refused("it is not a signature of this content");
    dist.server().file(path, signer.sign(content));
    let run = install().expect_success();
    assert!(
        run.stderr()
            .contains("the channel manifest, signed by the key"),
        "{run}"
    );
    let shown = vx(&env, &dist, cache.path())
        .args(["+stable", "toolchain", "show"])
        .run()
        .expect_success();
    assert!(
        shown.stdout().contains("the manifest by the key"),
        "{shown}"
    );
    env.finish();
}

#[test]
fn nothing_is_fetched_for_those_who_forbade_it() {
    let dist = made_up(1).start();
    let env = TestEnv::vx();
    let cache = tempfile::tempdir().unwrap();
    let hello = project(&env);
    let build = || {
        vx(&env, &dist, cache.path())
            .arg("build")
            .current_dir(hello.dir())
    };
    let run = build().env("RUSTUP_AUTO_INSTALL", "0").run();
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(
        run.stderr().contains("toolchain `stable` is not installed"),
        "{run}"
    );
    let shown = vx(&env, &dist, cache.path())
        .args(["toolchain", "show"])
        .current_dir(hello.dir())
        .env("RUSTUP_AUTO_INSTALL", "0");
    let shown = shown.run().expect_success();
    let says = "not installed, and rustup's setting forbids a build to fetch it";
    assert!(shown.stdout().contains(says), "{shown}");
    for option in ["--offline", "--frozen"] {
        let run = build().arg(option).run();
        let says = "missing: channel-rust-stable.toml";
        assert!(run.stderr().contains(says), "{run}");
        assert_eq!(run.code(), Some(1), "{run}");
    }
    assert_eq!(dist.server().requests().len(), 0);
    env.finish();
}

#[test]
fn a_toolchain_that_nobody_has_used_for_months_is_removed() {
    let dist = made_up(1).start();
    let env = TestEnv::vx();
    let cache = tempfile::tempdir().unwrap();
    let vx = |arguments: &[&str]| {
        let command = vx(&env, &dist, cache.path()).args(arguments.iter().copied());
        command.run().expect_success()
    };
    vx(&["toolchain", "install", "stable"]);
    vx(&["kill"]);
    let months = Duration::from_secs(100 * 24 * 3600);
    let then = SystemTime::now() - months;
    let of = |name: &str| {
        let entries = fs::read_dir(cache.path().join("toolchains/v1").join(name));
        let mut entries = entries.unwrap().map(|entry| entry.unwrap().path());
        entries.next().unwrap()
    };
    let lease = fs::File::options().write(true).open(of("lease")).unwrap();
    lease.set_modified(then).unwrap();
    let record = of("channels");
    let mut channel: serde_json::Value =
        serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    channel["resolved"] = since.as_secs().into();
    fs::write(&record, channel.to_string()).unwrap();
    // The first command of a daemon is when it looks.
    let shown = vx(&["toolchain", "list"]);
    assert!(shown.stdout().contains("1.99.0"), "{shown}");
    wait_until("nothing of the toolchain", PATIENCE, || {
        match installed(cache.path()).as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    env.finish();
}
