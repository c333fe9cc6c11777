//! The shortest way through all services: one crate is built, runs, and is not built again.

use harness::{Project, build};
use vx_testkit::TestEnv;

#[test]
fn a_crate_is_built_once_and_runs() {
    let env = TestEnv::vx();
    let hello = Project::hello(&env, "hello", "hello from vx");
    let first = build(&hello, &[]);
    assert_eq!(first.ran, ["hello build bin"], "{}", first.run.stderr());
    let program = hello.output("debug/hello");
    let output = std::process::Command::new(&program).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from vx\n");

    let second = build(&hello, &[]);
    assert!(second.is_up_to_date(), "{}", second.summary());
    env.finish();
}

#[test]
fn the_same_sources_elsewhere_come_from_the_store_bit_for_bit() {
    let env = TestEnv::vx();
    let here = Project::hello(&env, "hello", "anywhere");
    assert_eq!(build(&here, &["--release"]).ran.len(), 1);
    let there = here.copy("elsewhere/deep/down");
    assert!(build(&there, &["--release"]).ran.is_empty());
    let bytes = |project: &Project<'_>| std::fs::read(project.output("release/hello")).unwrap();
    assert_eq!(bytes(&here), bytes(&there));
    env.finish();
}

#[test]
fn run_passes_arguments_and_exit_code() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "hello", "");
    project.write(
        "src/main.rs",
        "fn main() {\n    println!(\"{:?}\", std::env::args().skip(1).collect::<Vec<_>>());\n    std::process::exit(7);\n}\n",
    );
    let run = env
        .command("vx")
        .args(["run", "-q", "--", "--flag", "value"])
        .current_dir(project.dir())
        .run();
    assert_eq!(run.code(), Some(7), "{}", run.snapshot());
    assert_eq!(run.stdout(), "[\"--flag\", \"value\"]\n");
    env.finish();
}
