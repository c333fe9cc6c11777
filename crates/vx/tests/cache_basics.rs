//! What an edit rebuilds, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use harness::{Build, Project, build, layers};
use vx_testkit::TestEnv;

/// All units of the layers that run a compiler or a build script.
const ALL: [&str; 11] = [
    "app build bin",
    "base build custom-build",
    "base build lib",
    "base run of build script",
    "left build lib",
    "macros build proc-macro",
    "native build custom-build",
    "native build lib",
    "native run of build script",
    "right build lib",
    "top build lib",
];

fn run(project: &Project<'_>) -> String {
    let output = std::process::Command::new(project.output("debug/app"))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn assert_ran(build: &Build, expected: &[&str]) {
    assert_eq!(build.ran, expected, "{}", build.run.stderr());
}

#[test]
fn each_edit_rebuilds_what_depends_on_it_and_nothing_else() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    assert_ran(&build(&project, &[]), &ALL);
    assert_eq!(run(&project), "left:data-plain+right:data-plain 7 words.");

    // Nobody reads the README.
    project.edit("README.md", "layers", "LAYERS");
    assert_ran(&build(&project, &[]), &[]);

    // A leaf: nothing depends on it.
    project.edit("app/src/main.rs", "\".\"", "\";\"");
    assert_ran(&build(&project, &[]), &["app build bin"]);
    assert_eq!(run(&project), "left:data-plain+right:data-plain 7 words;");

    // One side of the diamond: the other one stays.
    project.edit("left/src/lib.rs", "left:", "LEFT:");
    assert_ran(
        &build(&project, &[]),
        &["app build bin", "left build lib", "top build lib"],
    );
    assert_eq!(run(&project), "LEFT:data-plain+right:data-plain 7 words;");

    // A file that the build script reads.
    project.write("base/data.txt", "DATA");
    assert_ran(
        &build(&project, &[]),
        &[
            "app build bin",
            "base build lib",
            "base run of build script",
            "left build lib",
            "right build lib",
            "top build lib",
        ],
    );
    assert_eq!(run(&project), "LEFT:DATA-plain+right:DATA-plain 7 words;");

    // Back again: every result is known.
    project.write("base/data.txt", "data");
    assert_ran(&build(&project, &[]), &[]);
    assert_eq!(run(&project), "LEFT:data-plain+right:data-plain 7 words;");
    env.finish();
}

#[test]
fn a_build_script_that_makes_the_same_again_stops_the_rebuild() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    build(&project, &[]);
    // The script is compiled and run again, and its output is what it was.
    project.edit(
        "native/build.rs",
        "fn main() {",
        "fn main() {\n    let _unused = 1 + 1;",
    );
    assert_ran(
        &build(&project, &[]),
        &["native build custom-build", "native run of build script"],
    );
    // Another comment in C is another object file only if the compiler says so.
    project.edit("native/seven.c", "return 7;", "/* seven */ return 7;");
    assert_ran(&build(&project, &[]), &["native run of build script"]);
    env.finish();
}

#[test]
fn declared_variables_features_and_flags_count_and_others_do_not() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    build(&project, &[]);
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let run = env
            .command("vx")
            .arg("build")
            .args(arguments.iter().copied())
            .env(name, value)
            .current_dir(project.dir())
            .run()
            .expect_success();
        let stderr = run.stderr().into_owned();
        let built = stderr
            .split(" cached, ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        built.unwrap_or("0").to_owned()
    };
    assert_eq!(with("UNRELATED", "1", &[]), "0");
    // base's script declares it: script run, base, left, right, top, app.
    assert_eq!(with("LAYERS_MODE", "fast", &[]), "6");
    assert_eq!(run(&project), "left:data-fast+right:data-fast 7 words.");
    assert_eq!(with("LAYERS_MODE", "fast", &[]), "0");
    // A feature of one package concerns that package; and cargo builds a macro that nobody asked for by name without debug information.
    assert_eq!(with("UNRELATED", "1", &["-p", "app"]), "2");
    assert_eq!(with("UNRELATED", "1", &["-p", "app", "-F", "loud"]), "1");
    assert_eq!(run(&project), "left:data-plain+right:data-plain 7 words!");
    // Flags concern everything that is compiled, and a build script run that is told of them.
    let everything: usize = with("RUSTFLAGS", "--cfg other", &[]).parse().unwrap();
    assert!(everything >= 9, "{everything}");
    env.finish();
}
