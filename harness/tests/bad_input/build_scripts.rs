//! Build scripts that fail, hang, or want what an action may not have.

use harness::{Project, build};
use vx_testkit::TestEnv;

use crate::{failure, vx_build};

/// A crate whose build script has this body.
fn scripted<'a>(env: &'a TestEnv, body: &str) -> Project<'a> {
    let project = Project::hello(env, "scripted", "fine");
    project.write("build.rs", &format!("fn main() {{\n    {body}\n}}\n"));
    project
}

/// As [`failure`]; a build script that does nothing mends it.
fn failure_of_script(project: &Project<'_>) -> String {
    failure(project, &[], || project.write("build.rs", "fn main() {}\n"))
}

#[test]
fn a_build_script_that_panics() {
    let env = TestEnv::vx();
    let project = scripted(
        &env,
        "println!(\"to stdout\"); eprintln!(\"to stderr\"); panic!(\"no good\");",
    );
    let said = failure(&project, &[], || {
        project.edit("build.rs", "panic!(\"no good\");", "")
    });
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling scripted v0.1.0 ([WORK]/scripted)
    error: failed to run custom build command for `scripted v0.1.0 ([WORK]/scripted)`

    Caused by:
      process didn't exit successfully: `/vx/build/scripted-[HASH]/build-script-build` (exit status: 101)
      --- stdout
      to stdout
      --- stderr
      to stderr

      thread 'main' (2) panicked at build.rs:2:52:
      no good
      note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    hint: the build script ran in a sandbox: see what it printed above
    ");
    env.finish();
}

#[test]
fn what_a_build_script_warned_of_before_it_failed() {
    let env = TestEnv::vx();
    for end in ["panic!()", "println!(\"cargo::error=impossible\")"] {
        let project = scripted(
            &env,
            &format!("println!(\"cargo::warning=careful\");\n    {end};"),
        );
        let run = vx_build(&project, &[]).run();
        assert_eq!(run.code(), Some(101), "{run}");
        let stderr = run.stderr();
        let (warning, error) = ("warning: scripted@0.1.0: careful\n", "error: failed to run");
        assert!(stderr.find(warning) < stderr.find(error), "{run}");
        assert!(stderr.contains(warning), "{run}");
        assert_eq!(
            stderr.contains("impossible"),
            end.contains("impossible"),
            "{run}"
        );
    }
    env.finish();
}

#[test]
fn a_build_script_that_hangs() {
    let env = TestEnv::vx();
    // It leaves a child behind that hangs as well.
    let project = scripted(
        &env,
        "if std::fs::read_to_string(\"mode\").unwrap() != \"hang\" { return; }\n    if std::env::args().count() == 1 { std::process::Command::new(std::env::current_exe().unwrap()).arg(\"child\").spawn().unwrap(); }\n    loop { std::thread::park(); }",
    );
    // It is compiled before there is a limit, which a compiler may well need on a busy machine.
    project.write("mode", "end");
    build(&project, &[]);
    project.write("mode", "hang");
    let said = failure(&project, &["--action-timeout", "1"], || {
        project.write("mode", "end")
    });
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling scripted v0.1.0 ([WORK]/scripted)
    error: failed to run custom build command for `scripted v0.1.0 ([WORK]/scripted)`

    Caused by:
      it did not end within [TIME], the limit for one action
    hint: the action was ended; raise the limit with --action-timeout if it only needs longer
    ");
    env.finish();
}

#[test]
fn a_build_script_that_wants_the_network() {
    let env = TestEnv::vx();
    let project = scripted(
        &env,
        "std::net::TcpStream::connect(\"192.0.2.1:80\").unwrap();",
    );
    let said = failure_of_script(&project);
    insta::assert_snapshot!(said, @r#"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling scripted v0.1.0 ([WORK]/scripted)
    error: failed to run custom build command for `scripted v0.1.0 ([WORK]/scripted)`

    Caused by:
      process didn't exit successfully: `/vx/build/scripted-[HASH]/build-script-build` (exit status: 101)
      --- stderr

      thread 'main' (2) panicked at build.rs:2:50:
      called `Result::unwrap()` on an `Err` value: Os { code: 101, kind: NetworkUnreachable, message: "Network is unreachable" }
      note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    hint: actions have no network: what a build needs must be in its package or be a dependency
    "#);
    env.finish();
}

#[test]
fn a_build_script_that_talks_to_the_services_of_vx() {
    // Not even those of its own machine are there.
    let env = TestEnv::vx_tcp();
    let cas = env.endpoint("cas");
    let project = scripted(
        &env,
        &format!("std::net::TcpStream::connect(\"{cas}\").unwrap();"),
    );
    let said = failure_of_script(&project);
    assert!(said.starts_with("exit code: 101\n"), "{said}");
    assert!(
        said.contains("failed to run custom build command for `scripted v0.1.0"),
        "{said}"
    );
    env.finish();
}

#[test]
fn a_build_script_that_writes_into_its_sources() {
    let env = TestEnv::vx();
    let project = scripted(&env, "std::fs::write(\"src/generated.rs\", \"\").unwrap();");
    let said = failure_of_script(&project);
    assert!(!project.dir().join("src/generated.rs").exists());
    insta::assert_snapshot!(said, @r#"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling scripted v0.1.0 ([WORK]/scripted)
    error: failed to run custom build command for `scripted v0.1.0 ([WORK]/scripted)`

    Caused by:
      process didn't exit successfully: `/vx/build/scripted-[HASH]/build-script-build` (exit status: 101)
      --- stderr

      thread 'main' (2) panicked at build.rs:2:44:
      called `Result::unwrap()` on an `Err` value: Os { code: 13, kind: PermissionDenied, message: "Permission denied" }
      note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
    hint: an action may write below OUT_DIR and the temporary directory only; sources, dependencies and the toolchain are read-only
    "#);
    env.finish();
}

#[test]
fn a_build_script_that_writes_anywhere_else() {
    let env = TestEnv::vx();
    let there = env.work_dir().join("written.txt");
    let project = scripted(&env, &format!("std::fs::write({there:?}, \"\").unwrap();"));
    let said = failure_of_script(&project);
    assert!(!there.exists());
    assert!(said.starts_with("exit code: 101\n"), "{said}");
    assert!(
        said.contains("failed to run custom build command for `scripted v0.1.0"),
        "{said}"
    );
    assert!(said.contains("hint: an action"), "{said}");
    env.finish();
}
