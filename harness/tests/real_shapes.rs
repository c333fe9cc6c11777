//! Shapes of projects that real ones have and small ones have not: they build and run as with cargo.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Project, build};
use vx_testkit::TestEnv;

fn output(program: &Path) -> String {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A workspace with what manifests can say of names and kinds, beside packages outside of it.
fn shapes(env: &TestEnv) -> Project<'_> {
    let project = Project::new(env, "shapes");
    project.write(
        "Cargo.toml",
        r#"[workspace]
members = ["app", "native", "dynamic"]
resolver = "2"
[profile.tight]
inherits = "release"
lto = "fat"
panic = "abort"
codegen-units = 1
[workspace.lints.rust]
unexpected_cfgs = { level = "warn", check-cfg = ["cfg(shaped)"] }
"#,
    );
    project.write(
        ".cargo/config.toml",
        "[build]\nrustflags = [\"--cfg\", \"shaped\"]\n[env]\nSHAPE = \"round\"\n",
    );
    let package = |directory: &str, name: &str, version: &str, rest: &str| {
        project.write(
            &format!("{directory}/Cargo.toml"),
            &format!(
                "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{rest}"
            ),
        );
    };
    package(
        "app",
        "app",
        "0.1.0",
        r#"[features]
default = ["soft"]
soft = []
loud = ["dep:outside"]
[dependencies]
outside = { path = "../../outside", optional = true }
old = { package = "two", path = "../../two-1" }
two = { path = "../../two-2" }
native = { path = "../native" }
[lints]
workspace = true
"#,
    );
    project.write(
        "app/src/main.rs",
        r#"fn main() {
    #[cfg(feature = "loud")]
    print!("{} ", outside::name());
    print!("{} {} {} ", old::two(), two::two(), native::seven());
    print!("{} {} ", cfg!(shaped), env!("SHAPE"));
    println!("{} {}", cfg!(feature = "soft"), cfg!(panic = "abort"));
}
"#,
    );
    project.write(
        "app/examples/show.rs",
        "fn main() {\n    println!(\"example {}\", native::seven());\n}\n",
    );
    project.write("app/benches/speed.rs", "fn main() {}\n");
    project.write(
        "app/tests/whole.rs",
        r#"#[test]
fn program_and_scratch_directory() {
    let scratch = concat!(env!("CARGO_TARGET_TMPDIR"), "/file");
    std::fs::write(scratch, "text").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_app")).status().unwrap();
    assert!(status.success());
}
"#,
    );
    package(
        "native",
        "native",
        "0.1.0",
        "links = \"seven\"\n[lib]\ncrate-type = [\"lib\", \"cdylib\", \"staticlib\"]\n",
    );
    project.write(
        "native/build.rs",
        "fn main() {\n    println!(\"cargo:number=7\");\n    println!(\"cargo:rustc-env=SEVEN=7\");\n}\n",
    );
    project.write(
        "native/src/lib.rs",
        "pub fn seven() -> &'static str {\n    env!(\"SEVEN\")\n}\n",
    );
    package(
        "dynamic",
        "dynamic",
        "0.1.0",
        "[lib]\ncrate-type = [\"dylib\"]\n[dependencies]\nnative = { path = \"../native\" }\n",
    );
    project.write(
        "dynamic/build.rs",
        "fn main() {\n    println!(\"cargo:rustc-env=THEIRS={}\", std::env::var(\"DEP_SEVEN_NUMBER\").unwrap());\n}\n",
    );
    project.write(
        "dynamic/src/lib.rs",
        "pub const THEIRS: &str = env!(\"THEIRS\");\n",
    );
    for (directory, name, version, function) in [
        ("outside", "outside", "0.1.0", "name"),
        ("two-1", "two", "1.0.0", "two"),
        ("two-2", "two", "2.0.0", "two"),
    ] {
        package(&format!("../{directory}"), name, version, "");
        project.write(
            &format!("../{directory}/src/lib.rs"),
            &format!("pub fn {function}() -> &'static str {{\n    {directory:?}\n}}\n"),
        );
    }
    project
}

#[test]
fn features_profiles_targets_and_kinds_of_libraries() {
    let env = TestEnv::vx();
    let project = shapes(&env);
    let says = |arguments: &[&str], program: &str, expected: &str| {
        build(&project, arguments);
        assert_eq!(
            output(&project.output(program)).trim(),
            expected,
            "{arguments:?}"
        );
    };
    says(
        &["--workspace"],
        "debug/app",
        "two-1 two-2 7 true round true false",
    );
    for library in [
        "libnative.so",
        "libnative.a",
        "libnative.rlib",
        "libdynamic.so",
    ] {
        assert!(project.output("debug").join(library).is_file(), "{library}");
    }
    says(
        &["-p", "app", "--no-default-features", "-F", "loud"],
        "debug/app",
        "outside two-1 two-2 7 true round false false",
    );
    says(
        &["-p", "app", "--all-features"],
        "debug/app",
        "outside two-1 two-2 7 true round true false",
    );
    says(
        &["-p", "app", "--profile", "tight"],
        "tight/app",
        "two-1 two-2 7 true round true true",
    );
    says(
        &["-p", "app", "--example", "show"],
        "debug/examples/show",
        "example 7",
    );
    env.finish();
}

/// The integration test `whole` among the delivered programs of `directory`.
fn whole(directory: &Path) -> PathBuf {
    let mut tests = std::fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path());
    tests
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("whole-")
        })
        .unwrap()
}

#[test]
fn integration_tests_find_their_program_and_a_scratch_directory() {
    let env = TestEnv::vx();
    let project = shapes(&env);
    build(&project, &["--workspace", "--all-targets"]);
    assert!(output(&whole(&project.output("debug/deps"))).contains("1 passed"));
    assert!(project.output("tmp/file").is_file());
    env.finish();
}
