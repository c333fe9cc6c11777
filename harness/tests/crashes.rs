//! Processes that are killed in the middle of a build: nothing of it stays, and the next build finishes.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::processes::{
    Process, descendants, names, service, services, wait_for_action, wait_for_end_of,
};
use harness::{Project, build};
use rustix::process::Signal;
use vx_testkit::{Run, Running, TestEnv, wait_until};

/// How long Ctrl+C may take until nothing of the build runs.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long something may take to appear on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the compiler counts; it takes it some seconds.
const STEPS: &str = "2_000_000";

/// A program of a library that is compiled quickly and one that the compiler is busy with for seconds.
fn application(env: &TestEnv) -> Project<'_> {
    let project = Project::new(env, "app");
    project.write(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\nquick = { path = \"quick\" }\nslow = { path = \"slow\" }\n",
    );
    project.write(
        "src/main.rs",
        "fn main() {\n    println!(\"{} {}\", quick::quick(), slow::SLOW);\n}\n",
    );
    for name in ["quick", "slow"] {
        project.write(
            &format!("{name}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        );
    }
    project.write(
        "quick/src/lib.rs",
        "pub fn quick() -> &'static str {\n    \"quick\"\n}\n",
    );
    project.edit(
        "slow/Cargo.toml",
        "edition = \"2021\"\n",
        "edition = \"2021\"\n[dependencies]\nquick = { path = \"../quick\" }\n",
    );
    project.write(
        "slow/src/lib.rs",
        &format!(
            "#![allow(long_running_const_eval)]\npub static SLOW: u64 = {{\n    let mut i = 0;\n    while i < {STEPS} {{\n        i += 1;\n    }}\n    i\n}};\n"
        ),
    );
    project
}

/// A build in the middle of compiling `slow`, and the compiler; `quick` is done.
fn half_way(project: &Project<'_>) -> (Running, Process) {
    build(project, &["-p", "quick"]);
    let mut vx = project
        .env()
        .command("vx")
        .arg("build")
        .current_dir(project.dir())
        .spawn();
    assert!(vx.wait_for_output("Compiling slow").unwrap());
    let rustc = wait_for_action(project.env(), "--crate-name slow");
    (vx, rustc)
}

/// The next build does what is left, the program runs, and the store has nothing wrong in it.
fn goes_on(project: &Project<'_>) {
    let next = build(project, &[]);
    assert_eq!(
        next.ran,
        ["app build bin", "slow build lib"],
        "{}",
        next.run
    );
    let program = std::process::Command::new(project.output("debug/app"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&program.stdout), "quick 2000000\n");
    assert!(build(project, &[]).is_up_to_date());
    assert_eq!(
        names(&services(project.env())),
        ["vx-casd", "vx-daemon", "vx-execd"]
    );
    assert!(check_blobs(&project.env().dir("vx-home").join("cas/blobs/blake3")) > 3);
    let target = project.output("debug");
    for entry in fs::read_dir(&target).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.contains("tmp"),
            "{name} was left in {}",
            target.display()
        );
    }
}

/// Compares every blob with its name, and returns how many there are.
fn check_blobs(dir: &Path) -> usize {
    let mut checked = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            checked += check_blobs(&entry.path());
        } else {
            let content = fs::read(entry.path()).unwrap();
            let name = format!("{}_{}.", blake3::hash(&content).to_hex(), content.len());
            let file_name = entry.file_name().into_string().unwrap();
            assert!(
                file_name.starts_with(&name),
                "{file_name} has the content of {name}"
            );
            checked += 1;
        }
    }
    checked
}

#[test]
fn vx_is_killed() {
    let env = TestEnv::vx();
    let project = application(&env);
    let (vx, rustc) = half_way(&project);
    vx.signal(Signal::KILL.as_raw()).unwrap();
    assert_eq!(vx.wait().signal(), Some(9));
    // Nobody wants its result any more.
    wait_for_end_of(&[rustc]);
    goes_on(&project);
    env.finish();
}

#[test]
fn the_daemon_is_killed() {
    let env = TestEnv::vx();
    let project = application(&env);
    let (vx, _) = half_way(&project);
    let daemon = service(&env, "vx-daemon");
    let below = descendants(&daemon);
    daemon.kill();
    let run = vx.wait();
    assert_eq!(run.code(), Some(4), "{run}");
    assert!(run.stderr().contains("run the command again"), "{run}");
    wait_for_end_of(&below);
    goes_on(&project);
    env.finish();
}

/// Kills one of the services that the daemon uses; the daemon goes on.
fn backend_is_killed(name: &str) -> Run {
    let env = TestEnv::vx();
    let project = application(&env);
    let (vx, _) = half_way(&project);
    let daemon = service(&env, "vx-daemon");
    let victim = service(&env, name);
    let below = descendants(&victim);
    victim.kill();
    let run = vx.wait();
    wait_for_end_of(&below);
    assert!(daemon.is_alive());
    goes_on(&project);
    assert_eq!(service(&env, "vx-daemon"), daemon);
    assert_ne!(service(&env, name), victim);
    env.finish();
    run
}

#[test]
fn the_executor_is_killed() {
    let run = backend_is_killed("vx-execd");
    assert_eq!(run.code(), Some(4), "{run}");
    assert!(run.stderr().contains("vx-execd"), "{run}");
}

#[test]
fn the_store_is_killed() {
    let run = backend_is_killed("vx-casd");
    assert_eq!(run.code(), Some(4), "{run}");
    assert!(run.stderr().contains("vx-casd"), "{run}");
}

#[test]
fn the_store_is_killed_in_the_middle_of_an_upload() {
    const BIG: usize = 256 << 20;
    let env = TestEnv::vx();
    let project = Project::hello(&env, "app", "small");
    build(&project, &[]);
    // Sources are uploaded with what lies beside them.
    fs::write(project.dir().join("src/big.bin"), vec![7; BIG]).unwrap();
    project.edit("src/main.rs", "small", "large");
    let vx = env.command("vx").arg("build").current_dir(project.dir());
    let vx = vx.spawn();
    let store = env.dir("vx-home").join("cas");
    wait_until("a large file that is being stored", PATIENCE, || {
        let sizes = fs::read_dir(store.join("tmp")).unwrap().flatten();
        let sizes: Vec<u64> = sizes
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .collect();
        match sizes.iter().any(|size| *size > 0 && *size < BIG as u64) {
            true => Ok(()),
            false => Err(format!("{sizes:?}")),
        }
    });
    service(&env, "vx-casd").kill();
    let run = vx.wait();
    assert_eq!(run.code(), Some(4), "{run}");
    check_blobs(&store.join("blobs/blake3"));
    let next = build(&project, &[]);
    assert_eq!(next.ran, ["app build bin"], "{}", next.run);
    let said = env.command(project.output("debug/app").to_str().unwrap());
    assert_eq!(said.run().expect_success().stdout(), "large\n");
    check_blobs(&store.join("blobs/blake3"));
    let left = fs::read_dir(store.join("tmp")).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|e| e != "owner"))
        .collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    env.finish();
}

#[test]
fn ctrl_c_ends_everything_at_once() {
    let env = TestEnv::vx();
    let project = application(&env);
    let (vx, rustc) = half_way(&project);
    let execd = service(&env, "vx-execd");
    let below = descendants(&execd);
    assert!(below.contains(&rustc), "{below:?}");
    let asked = Instant::now();
    vx.signal(Signal::INT.as_raw()).unwrap();
    let run = vx.wait();
    assert_eq!(run.code(), Some(130), "{run}");
    wait_for_end_of(&below);
    assert!(asked.elapsed() < AT_ONCE, "it took {:?}", asked.elapsed());
    assert_eq!(descendants(&execd), []);
    goes_on(&project);
    assert_eq!(service(&env, "vx-execd"), execd);
    env.finish();
}
