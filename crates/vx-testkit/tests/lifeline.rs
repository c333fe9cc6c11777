//! Whatever a test started ends when the test is gone, however it went.
//!
//! Each case runs this binary again as a victim, which starts services of every
//! kind and dies in one way. The helper keeps the victim's standard error open
//! until it is done, so when that has ended, nothing may be left.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{pid_in, runs};
use vx_testkit::{Ready, TestEnv, wait_until};

const HOW: &str = "VICTIM_DIES_BY";
const OUT: &str = "VICTIM_WRITES_TO";

/// Shell scripts that write the id of what remains of them to `$OUT/<name>`.
/// The last two leave their parent, and the last one has no environment, either.
const KINDS: [(&str, &str); 5] = [
    ("plain", "echo $$ > $OUT/plain; echo up; exec sleep 1000"),
    (
        "stubborn",
        "trap '' TERM INT HUP; echo $$ > $OUT/stubborn; echo up; exec sleep 1000",
    ),
    (
        "session",
        "setsid sh -c 'trap \"\" TERM; echo $$ > $OUT/session; echo up; exec sleep 1000' & wait",
    ),
    (
        "forked",
        "(setsid sh -c 'sleep 1000 & echo $! > $OUT/forked'); echo up; exec sleep 1000",
    ),
    (
        "stranger",
        "trap '' TERM HUP; \
         (setsid sh -c 'env -i sleep 1000 & echo $! > $OUT/stranger'); echo up; exec sleep 1000",
    ),
];

/// Runs as a test of its own only in the role of the victim.
#[test]
fn victim() {
    let (Ok(how), Ok(out)) = (std::env::var(HOW), std::env::var(OUT)) else {
        return;
    };
    if how == "unprotected" {
        let mut children: Vec<Child> = Vec::new();
        for (_, script) in KINDS {
            let mut command = Command::new("sh");
            command.args(["-c", script]).env("OUT", &out);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            children.push(child);
        }
        let ids: Vec<String> = children
            .iter()
            .map(|child| child.id().to_string())
            .collect();
        std::fs::write(Path::new(&out).join("children"), ids.join("\n")).unwrap();
        std::process::abort();
    }
    let env = TestEnv::builder()
        .env("OUT", &out)
        .grace(Duration::from_millis(100))
        .settle(Duration::from_millis(100))
        .build();
    std::fs::write(
        Path::new(&out).join("root"),
        env.home().parent().unwrap().to_str().unwrap(),
    )
    .unwrap();
    for (name, script) in KINDS {
        env.service(name, "sh")
            .args(["-c", script])
            .ready(Ready::log_line("up"))
            .start();
    }
    let running = env.command("sleep").arg("1000").spawn();
    std::fs::write(Path::new(&out).join("command"), running.pid().to_string()).unwrap();
    println!("armed");
    match how.as_str() {
        "panic" => panic!("as it happens"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "forget" => std::mem::forget((env, running)),
        "exec" => {
            use std::os::unix::process::CommandExt;
            let error = Command::new("true").exec();
            panic!("{error}");
        }
        "wait" => loop {
            std::thread::park();
        },
        signal => {
            // SAFETY: raising a signal touches no memory.
            unsafe { libc::raise(signal.parse().unwrap()) };
            unreachable!("the signal ends this process");
        }
    }
}

fn victim_that(how: &str, out: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
        .env(HOW, how)
        .env(OUT, out)
        .env("VX_TESTKIT_BUNDLE_DIR", out.join("bundles"))
        .stdin(Stdio::null());
    // The victim is a test of its own, run by nobody.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEXTEST") {
            command.env_remove(name);
        }
    }
    command
}

/// Names of what still runs.
fn survivors(out: &Path) -> Vec<&'static str> {
    KINDS
        .iter()
        .map(|(name, _)| *name)
        .chain(["command"])
        .filter(|name| runs(pid_in(&out.join(name))))
        .collect()
}

fn leaves_nothing(how: &str) {
    let out = tempfile::tempdir().unwrap();
    let output = victim_that(how, out.path()).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("armed"), "{said}");
    assert_eq!(survivors(out.path()), [""; 0], "{how}: {said}");
    let root = std::fs::read_to_string(out.path().join("root")).unwrap();
    assert!(!Path::new(&root).exists(), "{how}: `{root}` is left");
    // What is needed to understand the failure is kept, and said where.
    assert!(said.contains("[[ATTACHMENT|"), "{how}: {said}");
    let bundle = std::fs::read_dir(out.path().join("bundles")).unwrap();
    let bundle = bundle.map(|entry| entry.unwrap().path()).next().unwrap();
    let read = |name: &str| std::fs::read_to_string(bundle.join(name)).unwrap();
    assert!(read("processes.txt").contains("sleep 1000"), "{how}");
    assert!(read("reproduce.sh").contains("cargo test"), "{how}");
    assert!(read("env/logs/plain.log").contains("up"), "{how}");
    assert!(read("environment.txt").contains(HOW), "{how}");
    let killed = read("exits.txt").matches("sleep 1000").count();
    assert!(killed > 0, "{how}: {}", read("exits.txt"));
}

#[test]
fn nothing_is_left_after_a_panic() {
    leaves_nothing("panic");
}

#[test]
fn nothing_is_left_after_an_abort() {
    leaves_nothing("abort");
}

#[test]
fn nothing_is_left_after_an_exit() {
    leaves_nothing("exit");
}

#[test]
fn nothing_is_left_after_sigkill() {
    leaves_nothing(&libc::SIGKILL.to_string());
}

#[test]
fn nothing_is_left_after_sigterm_as_at_a_timeout() {
    leaves_nothing(&libc::SIGTERM.to_string());
}

#[test]
fn nothing_is_left_after_sigint() {
    leaves_nothing(&libc::SIGINT.to_string());
}

#[test]
fn nothing_is_left_when_the_environment_is_never_dropped() {
    leaves_nothing("forget");
}

#[test]
fn nothing_is_left_when_the_test_becomes_another_program() {
    leaves_nothing("exec");
}

#[test]
fn the_test_ends_when_its_runner_is_killed() {
    let out = tempfile::tempdir().unwrap();
    let mut victim = victim_that("wait", out.path())
        .env("NEXTEST", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("armed")));
    // A killed runner's ends of the pipes are closed by the system.
    drop(victim.stderr.take());
    assert_eq!(victim.wait().unwrap().signal(), Some(libc::SIGKILL));
    let root = std::fs::read_to_string(out.path().join("root")).unwrap();
    wait_until("everything is gone", Duration::from_secs(20), || {
        let left = survivors(out.path());
        if left.is_empty() && !Path::new(&root).exists() {
            Ok(())
        } else {
            Err(format!("left: {left:?}"))
        }
    });
}

/// Without the kit these services survive: the cases above can fail.
#[test]
fn unprotected_services_survive() {
    let out = tempfile::tempdir().unwrap();
    std::fs::write(out.path().join("command"), "0").unwrap();
    let status = victim_that("unprotected", out.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    let left = survivors(out.path());
    let children = std::fs::read_to_string(out.path().join("children")).unwrap();
    let named = left.iter().map(|name| pid_in(&out.path().join(name)));
    let started = children.lines().map(|line| line.parse().unwrap());
    for pid in named.chain(started) {
        // SAFETY: each is a process that the victim started and that sleeps.
        unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGKILL) };
    }
    assert_eq!(left, ["plain", "stubborn", "session", "forked", "stranger"]);
}
