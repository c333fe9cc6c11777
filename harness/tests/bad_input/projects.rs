//! Manifests, sources and directories that are not what they have to be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::processes::services;
use harness::{Project, build};
use vx_testkit::TestEnv;

use crate::{failure, vx_build};

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
