//! Dependencies are those that Cargo.lock means, and what is missing is told at once.

use harness::Project;
use vx_testkit::{Run, TestEnv};

/// SHA-256 of [`LIB`].
const SUM_OF_LIB: &str = "74ae44616286cfd218cd7d7809ec04afb02591f1880798c380bfc6058f18a9d3";
/// Of an archive that nobody has.
const SUM_OF_ARCHIVE: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

const LIB: &str = "pub fn seven() -> u32 { 7 }\n";

/// A project with the vendored package `seven`.
fn vendoring<'a>(env: &'a TestEnv, locked_checksum: &str) -> Project<'a> {
    let project = Project::hello(env, "app", "");
    project.write(
        "src/main.rs",
        "fn main() { println!(\"{}\", seven::seven()); }\n",
    );
    project.write(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nseven = \"1\"\n",
    );
    project.write(
        "Cargo.lock",
        &format!(
            "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"seven\",\n]\n\n[[package]]\nname = \"seven\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{locked_checksum}\"\n"
        ),
    );
    project.write(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n",
    );
    project.write(
        "vendor/seven/Cargo.toml",
        "[package]\nname = \"seven\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    );
    project.write("vendor/seven/src/lib.rs", LIB);
    project.write(
        "vendor/seven/.cargo-checksum.json",
        &format!(
            "{{\"files\":{{\"src/lib.rs\":\"{SUM_OF_LIB}\"}},\"package\":\"{SUM_OF_ARCHIVE}\"}}"
        ),
    );
    project
}

fn build(project: &Project<'_>, arguments: &[&str]) -> Run {
    let command = project.env().command("vx").arg("build").args(arguments);
    command.current_dir(project.dir()).run()
}

#[test]
fn vendored_sources_that_were_changed_are_refused_by_name() {
    let env = TestEnv::vx();
    let project = vendoring(&env, SUM_OF_ARCHIVE);
    build(&project, &["--locked"]).expect_success();
    project.edit("vendor/seven/src/lib.rs", "{ 7 }", "{ 8 }");
    let run = build(&project, &["--locked"]);
    assert_eq!(run.code(), Some(1), "{run}");
    for text in [
        "the file `src/lib.rs` of `seven 1.0.0` has the SHA-256",
        &format!("instead of {SUM_OF_LIB}"),
        "`cargo vendor`",
    ] {
        assert!(run.stderr().contains(text), "{text}: {run}");
    }
    project.edit("vendor/seven/src/lib.rs", "{ 8 }", "{ 7 }");
    build(&project, &["--locked"]).expect_success();
    env.finish();
}

#[test]
fn a_missing_lock_file_is_made_and_told() {
    let env = TestEnv::vx();
    let project = vendoring(&env, SUM_OF_ARCHIVE);
    let lock = project.dir().join("Cargo.lock");
    std::fs::remove_file(&lock).unwrap();
    let run = build(&project, &["--locked"]);
    assert_eq!(run.code(), Some(101), "{run}");
    assert!(run.stderr().contains("--locked"), "{run}");
    assert!(!lock.exists());
    let run = build(&project, &[]).expect_success();
    assert!(run.stderr().contains("Locking 1 package"), "{run}");
    let run = build(&project, &["--locked", "--release"]).expect_success();
    assert!(!run.stderr().contains("Locking"), "{run}");
    env.finish();
}

#[test]
fn offline_all_that_is_missing_is_listed_at_once() {
    let env = TestEnv::vx();
    let project = vendoring(&env, SUM_OF_ARCHIVE);
    // Nothing is vendored any more.
    project.write(".cargo/config.toml", "");
    let lock = format!(
        "[[package]]\nname = \"eight\"\nversion = \"2.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{SUM_OF_ARCHIVE}\"\n\n[[package]]\nname = \"seven\""
    );
    project.edit("Cargo.lock", "[[package]]\nname = \"seven\"", &lock);
    project.edit("Cargo.lock", "\n \"seven\",", "\n \"eight\",\n \"seven\",");
    project.edit("Cargo.toml", "seven =", "eight = \"2\"\nseven =");
    for option in ["--offline", "--frozen"] {
        let command = env.command("vx").args(["build", option]);
        let run = command
            .env("CARGO_HOME", env.home().join("cargo"))
            .current_dir(project.dir())
            .run();
        assert_eq!(run.code(), Some(101), "{run}");
        let says =
            "are not on this machine (some may be for other platforms): eight 2.0.0, seven 1.0.0";
        assert!(run.stderr().contains(says), "{run}");
    }
    env.finish();
}

#[test]
fn a_build_script_finds_the_sources_that_its_dependencies_carry() {
    let env = TestEnv::vx();
    // As openssl-src and lua-src do: a library whose files are what it is for.
    let carrier = Project::new(&env, "carrier");
    carrier.write(
        "Cargo.toml",
        "[package]\nname = \"carrier\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    );
    carrier.write(
        "src/lib.rs",
        "pub fn text() -> String {\n    std::fs::read_to_string(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/carried/text\")).unwrap()\n}\n",
    );
    carrier.write("carried/text", "first");
    // It may come by another one.
    let between = Project::new(&env, "between");
    between.write(
        "Cargo.toml",
        "[package]\nname = \"between\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\ncarrier = { path = \"../carrier\" }\n",
    );
    between.write("src/lib.rs", "pub use carrier::text;\n");
    let app = Project::new(&env, "app");
    app.write(
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[build-dependencies]\nbetween = { path = \"../between\" }\n",
    );
    app.write(
        "build.rs",
        "fn main() { println!(\"cargo:rustc-env=CARRIED={}\", between::text()); }\n",
    );
    app.write(
        "src/main.rs",
        "fn main() { println!(\"{}\", env!(\"CARRIED\")); }\n",
    );
    let says = |text: &str| {
        build(&app, &[]).expect_success();
        let program = app.output("debug/app");
        let run = env.command(program.to_str().unwrap()).run();
        assert_eq!(run.expect_success().stdout(), format!("{text}\n"));
    };
    says("first");
    // What it read is an input like any other.
    carrier.write("carried/text", "second");
    says("second");
}
