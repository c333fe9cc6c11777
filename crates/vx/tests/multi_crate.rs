//! Graphs of crates: equal names, long chains, many units.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fmt::Write;

use harness::{Project, build};
use vx_testkit::TestEnv;

fn output(project: &Project<'_>, program: &str) -> String {
    let output = std::process::Command::new(project.output(program))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn manifest(name: &str, version: &str, rest: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{rest}")
}

#[test]
fn two_crates_of_one_name_are_told_apart() {
    let env = TestEnv::vx();
    let project = Project::new(&env, "versions");
    project.write(
        "Cargo.toml",
        &manifest(
            "app",
            "1.0.0",
            "[dependencies]\nold = { package = \"same\", path = \"same-1\" }\nnew = { package = \"same\", path = \"same-2\" }\nuser = { path = \"user\" }\n[workspace]\nexclude = [\"same-1\", \"same-2\"]\n",
        ),
    );
    project.write(
        "src/main.rs",
        "fn main() {\n    println!(\"{} {} {}\", old::VERSION, new::VERSION, user::version());\n}\n",
    );
    for (directory, version) in [("same-1", "1.0.0"), ("same-2", "2.0.0")] {
        project.write(
            &format!("{directory}/Cargo.toml"),
            &manifest("same", version, ""),
        );
        project.write(
            &format!("{directory}/src/lib.rs"),
            "pub const VERSION: &str = env!(\"CARGO_PKG_VERSION\");\n",
        );
    }
    project.write(
        "user/Cargo.toml",
        &manifest(
            "user",
            "1.0.0",
            "[dependencies]\nsame = { path = \"../same-1\" }\n",
        ),
    );
    project.write(
        "user/src/lib.rs",
        "pub fn version() -> &'static str {\n    same::VERSION\n}\n",
    );
    assert_eq!(build(&project, &[]).ran.len(), 4);
    assert_eq!(output(&project, "debug/app"), "1.0.0 2.0.0 1.0.0");

    // A new version of one of them concerns those who use that one.
    project.edit("same-2/Cargo.toml", "2.0.0", "2.1.0");
    assert_eq!(
        build(&project, &[]).ran,
        ["app build bin", "same build lib"]
    );
    assert_eq!(output(&project, "debug/app"), "1.0.0 2.1.0 1.0.0");
    env.finish();
}

#[test]
fn an_edit_travels_up_a_chain_as_far_as_it_shows() {
    let env = TestEnv::vx();
    let project = Project::new(&env, "chain");
    let names = ["one", "two", "three", "four", "five"];
    project.write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"one\", \"two\", \"three\", \"four\", \"five\", \"app\"]\nresolver = \"2\"\n",
    );
    for (number, name) in names.iter().enumerate() {
        let (dependency, call) = match number.checked_sub(1).map(|below| names[below]) {
            Some(below) => (
                format!("[dependencies]\n{below} = {{ path = \"../{below}\" }}\n"),
                format!("1 + {below}::count()"),
            ),
            None => (String::new(), "1".to_owned()),
        };
        project.write(
            &format!("{name}/Cargo.toml"),
            &manifest(name, "1.0.0", &dependency),
        );
        project.write(
            &format!("{name}/src/lib.rs"),
            &format!("pub fn count() -> u32 {{\n    {call}\n}}\n"),
        );
    }
    project.write(
        "app/Cargo.toml",
        &manifest(
            "app",
            "1.0.0",
            "[dependencies]\nfive = { path = \"../five\" }\n",
        ),
    );
    project.write(
        "app/src/main.rs",
        "fn main() {\n    println!(\"{}\", five::count());\n}\n",
    );
    assert_eq!(build(&project, &[]).ran.len(), 6);
    assert_eq!(output(&project, "debug/app"), "5");

    project.edit("one/src/lib.rs", "    1\n", "    10\n");
    assert_eq!(build(&project, &[]).ran.len(), 6);
    assert_eq!(output(&project, "debug/app"), "14");
    project.edit("four/src/lib.rs", "1 +", "2 +");
    assert_eq!(
        build(&project, &[]).ran,
        ["app build bin", "five build lib", "four build lib"]
    );
    assert_eq!(output(&project, "debug/app"), "15");
    env.finish();
}

#[test]
fn two_hundred_units_are_built_once() {
    const COUNT: usize = 199;
    let env = TestEnv::vx();
    let project = Project::new(&env, "many");
    let mut dependencies = "[dependencies]\n".to_owned();
    let mut sum = String::new();
    for number in 0..COUNT {
        let name = format!("part{number}");
        project.write(&format!("{name}/Cargo.toml"), &manifest(&name, "1.0.0", ""));
        project.write(
            &format!("{name}/src/lib.rs"),
            &format!("pub const N: usize = {number};\n"),
        );
        writeln!(dependencies, "{name} = {{ path = \"{name}\" }}").unwrap();
        write!(sum, "{name}::N + ").unwrap();
    }
    dependencies.push_str("[workspace]\n");
    project.write("Cargo.toml", &manifest("many", "1.0.0", &dependencies));
    project.write(
        "src/main.rs",
        &format!("fn main() {{\n    println!(\"{{}}\", {sum}0);\n}}\n"),
    );
    assert_eq!(build(&project, &[]).ran.len(), COUNT + 1);
    assert_eq!(
        output(&project, "debug/many"),
        (COUNT * (COUNT - 1) / 2).to_string()
    );
    assert!(build(&project, &[]).is_up_to_date());

    project.edit("part7/src/lib.rs", "= 7", "= 8");
    assert_eq!(
        build(&project, &[]).ran,
        ["many build bin", "part7 build lib"]
    );
    let copy = project.copy("elsewhere");
    assert!(build(&copy, &[]).ran.is_empty());
    env.finish();
}
