//! Applications that others wrote: vx builds them, they run, and another checkout of the same sources has nothing left to run.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::{Project, application, build};
use vx_testkit::{Flavour, TestEnv};

/// An environment in which a build may take as long as an application takes on a busy machine.
fn environment() -> TestEnv {
    TestEnv::vx_builder(Flavour::Unix)
        .command_timeout(Duration::from_secs(600))
        .build()
}

/// What `program` prints with these arguments, run in `directory`; it must succeed.
fn output(program: &Path, directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}\n{stderr}",
        program.display(),
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Builds the sources and a copy of them elsewhere: the copy is built from the store alone, and its program is the same to the byte.
fn assert_shared(project: &Project<'_>, arguments: &[&str], program: &str) {
    let first = build(project, arguments);
    assert!(!first.ran.is_empty(), "{}", first.run.stderr());
    let copy = project.copy(&format!("elsewhere{}", arguments.concat()));
    let second = build(&copy, arguments);
    assert_eq!(second.ran, Vec::<String>::new(), "{}", second.run.stderr());
    assert!(
        std::fs::read(project.output(program)).unwrap()
            == std::fs::read(copy.output(program)).unwrap(),
        "`{program}` of two checkouts differs"
    );
    let again = build(project, arguments);
    assert!(again.is_up_to_date(), "{}", again.run.stderr());
}

#[test]
fn application_ripgrep_in_dev_and_release() {
    let env = environment();
    let project = application(&env, "ripgrep");
    for (arguments, program) in [(&[][..], "debug/rg"), (&["--release"][..], "release/rg")] {
        assert_shared(&project, arguments, program);
        let rg = project.output(program);
        let version = output(&rg, &project.dir(), &["--version"]);
        assert!(version.starts_with("ripgrep 15.2.0"), "{version}");
        let found = output(
            &rg,
            &project.dir(),
            &["-n", "^name = \"ripgrep\"", "Cargo.toml"],
        );
        assert!(found.ends_with(":name = \"ripgrep\"\n"), "{found}");
    }
    env.finish();
}

#[test]
fn application_fd_find_with_an_allocator_in_c() {
    let env = environment();
    let project = application(&env, "fd-find");
    assert_shared(&project, &[], "debug/fd");
    let fd = project.output("debug/fd");
    assert_eq!(output(&fd, &project.dir(), &["--version"]), "fd 10.3.0\n");
    assert_eq!(
        output(&fd, &project.dir(), &["--no-ignore", "^main.rs$", "src"]),
        "src/main.rs\n"
    );
    env.finish();
}

#[test]
fn application_hyperfine() {
    let env = environment();
    let project = application(&env, "hyperfine");
    assert_shared(&project, &[], "debug/hyperfine");
    let hyperfine = project.output("debug/hyperfine");
    let version = output(&hyperfine, &project.dir(), &["--version"]);
    assert_eq!(version, "hyperfine 1.20.0\n");
    let measured = output(
        &hyperfine,
        &project.dir(),
        &["--runs", "2", "--shell=none", "--style=basic", "true"],
    );
    assert!(measured.contains("2 runs"), "{measured}");
    env.finish();
}

#[test]
fn application_bat_with_libraries_in_c() {
    let env = environment();
    let project = application(&env, "bat");
    assert_shared(&project, &[], "debug/bat");
    let bat = project.output("debug/bat");
    let version = output(&bat, &project.dir(), &["--version"]);
    assert!(version.starts_with("bat 0.26.1"), "{version}");
    project.write("hello.rs", "fn main() {}\n");
    let coloured = output(&bat, &project.dir(), &["-p", "--color=always", "hello.rs"]);
    assert!(
        coloured.contains("\u{1b}[") && coloured.contains("main"),
        "{coloured:?}"
    );
    env.finish();
}
