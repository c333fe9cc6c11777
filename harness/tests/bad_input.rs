//! Projects that cannot be built: what is said names the unit and the cause, the daemon goes on, and the next build works.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::processes::{descendants, service, services, wait_for_end_of};
use harness::{Project, build};
use vx_testkit::{Command, TestEnv};

fn vx_build(project: &Project<'_>, arguments: &[&str]) -> Command {
    project
        .env()
        .command("vx")
        .arg("build")
        .args(arguments.iter().copied())
        .current_dir(project.dir())
}

/// A crate whose build script has this body.
fn scripted<'a>(env: &'a TestEnv, body: &str) -> Project<'a> {
    let project = Project::hello(env, "scripted", "fine");
    project.write("build.rs", &format!("fn main() {{\n    {body}\n}}\n"));
    project
}

/// What a build says that fails; the services stay, run nothing, and build the same project once it is mended.
fn failure(project: &Project<'_>, arguments: &[&str], mend: impl FnOnce()) -> String {
    let env = project.env();
    // Another project, so that all services run before.
    let hello = Project::hello(env, "before", "before");
    build(&hello, &[]);
    let before = services(env);
    // All tests share the crates that cargo has unpacked, so it may wait for that of another test.
    let snapshot: String = vx_build(project, arguments)
        .snapshot()
        .split_inclusive('\n')
        .filter(|line| !line.contains("Blocking waiting for file lock"))
        .collect();
    assert_eq!(services(env), before, "{snapshot}");
    wait_for_end_of(&descendants(&service(env, "vx-execd")));
    mend();
    build(project, &[]);
    snapshot
}

#[test]
fn a_broken_manifest() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "broken", "fine");
    project.edit("Cargo.toml", "edition", "nonsense\nedition");
    let said = failure(&project, &[], || {
        project.edit("Cargo.toml", "nonsense\n", "")
    });
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
    error: key with no value, expected `=`
     --> Cargo.toml:4:9
      |
    4 | nonsense
      |         ^
    ");
    env.finish();
}

#[test]
fn no_lock_file_where_it_must_not_be_written() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "unlocked", "fine");
    let said = failure(&project, &["--locked"], || {});
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
    error: cannot create the lock file [WORK]/unlocked/Cargo.lock because --locked was passed to prevent this
    help: to generate the lock file without accessing the network, remove the --locked flag and use --offline instead.
    ");
    // The build without the flag has written it.
    build(&project, &["--locked"]);
    env.finish();
}

#[test]
fn a_dependency_that_is_not_there() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "lonely", "fine");
    project.edit(
        "Cargo.toml",
        "edition = \"2021\"\n",
        "edition = \"2021\"\n[dependencies]\nnowhere = { path = \"nowhere\" }\n",
    );
    let said = failure(&project, &[], || {
        project.edit("Cargo.toml", "nowhere = { path = \"nowhere\" }\n", "")
    });
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
    error: failed to get `nowhere` as a dependency of package `lonely v0.1.0 ([WORK]/lonely)`

    Caused by:
      failed to load source for dependency `nowhere`

    Caused by:
      unable to update [WORK]/lonely/nowhere

    Caused by:
      failed to read `[WORK]/lonely/nowhere/Cargo.toml`

    Caused by:
      No such file or directory (os error 2)
    ");
    env.finish();
}

#[test]
fn code_that_does_not_compile() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "mistaken", "fine");
    project.edit(
        "src/main.rs",
        "println!",
        "let number: u32 = \"text\";\n    println!",
    );
    let said = failure(&project, &[], || {
        project.edit("src/main.rs", "let number: u32 = \"text\";\n", "")
    });
    insta::assert_snapshot!(said, @r#"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling mistaken v0.1.0 ([WORK]/mistaken)
    error[E0308]: mismatched types
     --> src/main.rs:2:23
      |
    2 |     let number: u32 = "text";
      |                 ---   ^^^^^^ expected `u32`, found `&str`
      |                 |
      |                 expected due to this

    For more information about this error, try `rustc --explain E0308`.
    error: could not compile `mistaken` (bin "mistaken") due to 1 previous error
    "#);
    env.finish();
}

#[test]
fn a_file_outside_of_the_workspace() {
    let env = TestEnv::vx();
    env.write("outside.txt", "outside");
    let project = Project::hello(&env, "curious", "fine");
    project.edit(
        "src/main.rs",
        "println!(\"fine\")",
        "println!(include_str!(\"../../outside.txt\"))",
    );
    let said = failure(&project, &[], || {
        project.edit("src/main.rs", "../../outside.txt", "../Cargo.lock")
    });
    insta::assert_snapshot!(said, @r#"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling curious v0.1.0 ([WORK]/curious)
    error: couldn't read `src/../../outside.txt`: No such file or directory (os error 2)
     --> src/main.rs:2:14
      |
    2 |     println!(include_str!("../../outside.txt"));
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: could not compile `curious` (bin "curious") due to 1 previous error
    hint: an action sees its own workspace or package, its dependencies, the toolchain and /usr, and no other file; move the file into the workspace
    "#);
    env.finish();
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
    let said = failure(&project, &[], || {
        project.write("build.rs", "fn main() {}\n")
    });
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
    let said = failure(&project, &[], || {
        project.write("build.rs", "fn main() {}\n")
    });
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
    let said = failure(&project, &[], || {
        project.write("build.rs", "fn main() {}\n")
    });
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
    let said = failure(&project, &[], || {
        project.write("build.rs", "fn main() {}\n")
    });
    assert!(!there.exists());
    assert!(said.starts_with("exit code: 101\n"), "{said}");
    assert!(
        said.contains("failed to run custom build command for `scripted v0.1.0"),
        "{said}"
    );
    assert!(said.contains("hint: an action"), "{said}");
    env.finish();
}

#[test]
fn a_source_file_that_cannot_be_read() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "secretive", "fine");
    let file = project.dir().join("src/main.rs");
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0);
    if fs::read(&file).is_ok() {
        eprintln!("skipped: this user reads every file whatever its mode");
        mode(0o644);
    } else {
        let said = failure(&project, &[], || mode(0o644));
        assert!(said.contains("[WORK]/secretive/src/main.rs"), "{said}");
        assert!(said.contains("Permission denied"), "{said}");
    }
    env.finish();
}

#[test]
fn a_target_directory_that_cannot_be_written() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "stuck", "fine");
    // As good as read-only, for every user.
    project.write("target/vx", "in the way");
    let said = failure(&project, &[], || {
        fs::remove_file(project.dir().join("target/vx")).unwrap()
    });
    insta::assert_snapshot!(said, @r#"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
       Compiling stuck v0.1.0 ([WORK]/stuck)
    error: could not compile `stuck` (bin "stuck")

    Caused by:
      cannot write `[WORK]/stuck/target/vx/debug/stuck`: Not a directory (os error 20)
    hint: check the permissions and the free space of the target directory
    "#);
    env.finish();
}

#[test]
fn a_home_that_cannot_be_used() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "homeless", "fine");
    env.write("file", "no directory");
    let with_home = |home: &str| vx_build(&project, &[]).env("VX_HOME", home).snapshot();
    let said = with_home(&env.work_dir().join("file").display().to_string());
    insta::assert_snapshot!(said, @r"
    exit code: 3
    ----- stdout -----
    ----- stderr -----
    error: cannot use `[WORK]/file`
      caused by: File exists (os error 17)
    hint: set VX_HOME to a directory of your own
    ");
    let said = with_home("relative");
    insta::assert_snapshot!(said, @r"
    exit code: 2
    ----- stdout -----
    ----- stderr -----
    error: `VX_HOME` is `relative`, which is not an absolute path
    hint: `vx help environment` lists the variables and their forms
    ");
    assert_eq!(services(&env), []);
    env.finish();
}

#[test]
fn no_project_at_all() {
    let env = TestEnv::vx();
    let said = env.command("vx").arg("build").snapshot();
    insta::assert_snapshot!(said, @r"
    exit code: 101
    ----- stdout -----
    ----- stderr -----
    error: could not find `Cargo.toml` in `[WORK]` or any parent directory
    ");
    env.finish();
}

#[test]
fn one_failure_does_not_hide_another_where_that_is_asked_for() {
    let env = TestEnv::vx();
    let project = Project::new(&env, "pair");
    project.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"left\", \"right\", \"fine\"]\nresolver = \"2\"\n",
    );
    for (name, body) in [("left", "left()"), ("right", "right()"), ("fine", "")] {
        Project::hello(&env, &format!("pair/{name}"), "");
        project.write(
            &format!("{name}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        );
        project.write(
            &format!("{name}/src/main.rs"),
            &format!("fn main() {{ {body} }}\n"),
        );
    }
    let run = vx_build(&project, &["--keep-going"]).run();
    assert_eq!(run.code(), Some(101), "{run}");
    for name in ["left", "right"] {
        let words = format!("could not compile `{name}` (bin \"{name}\") due to 1 previous error");
        assert!(run.stderr().contains(&words), "{run}");
    }
    assert!(project.output("debug/fine").is_file());
    env.finish();
}
