//! The ways in which caches of compilers are known to give a wrong result, each shown not to work here.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use harness::{Project, build, layers};
use vx_testkit::TestEnv;

fn output(project: &Project<'_>, program: &str) -> String {
    let output = std::process::Command::new(project.output(program))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_file_that_only_a_macro_reads_is_an_input() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    build(&project, &[]);
    assert!(output(&project, "debug/app").ends_with("words."));
    project.write("app/words.txt", "other words\n");
    let second = build(&project, &[]);
    assert_eq!(second.ran, ["app build bin"]);
    assert!(output(&project, "debug/app").ends_with("other words."));
    // The same file is missing in another checkout.
    let copy = project.copy("copy");
    std::fs::remove_file(copy.dir().join("app/words.txt")).unwrap();
    build(&copy, &[]);
    assert!(output(&copy, "debug/app").ends_with("no words."));
    env.finish();
}

#[test]
fn a_variable_that_the_code_asks_for_is_an_input_and_others_do_not_exist() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "hello", "");
    project.write(
        "src/main.rs",
        "fn main() {\n    println!(\"{:?}\", option_env!(\"FLAVOUR\"));\n}\n",
    );
    let built_with = |flavour: Option<&str>| {
        let mut command = env.command("vx").arg("build").current_dir(project.dir());
        if let Some(flavour) = flavour {
            command = command.env("FLAVOUR", flavour);
        }
        command.run().expect_success();
        output(&project, "debug/hello")
    };
    assert_eq!(built_with(None), "None");
    assert_eq!(built_with(Some("sweet")), "Some(\"sweet\")");
    assert_eq!(built_with(Some("sour")), "Some(\"sour\")");
    assert_eq!(built_with(None), "None");
    env.finish();
}

#[test]
fn a_variable_that_only_a_macro_reads_does_not_exist() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    let with_mood = |mood: Option<&str>| {
        let mut vx = env.command("vx").arg("build").current_dir(project.dir());
        if let Some(mood) = mood {
            vx = vx.env("MACRO_MOOD", mood);
        }
        vx.run().expect_success();
        output(&project, "debug/app")
    };
    let silent = with_mood(None);
    assert!(silent.ends_with(" words."), "{silent}");
    assert_eq!(with_mood(Some("bright")), silent);
    // Declared in the configuration it is an input; as with cargo, the user's own value comes first.
    project.write(".cargo/config.toml", "[env]\nMACRO_MOOD = \"!\"\n");
    assert!(with_mood(Some("?")).ends_with(" words?."));
    assert!(with_mood(None).ends_with(" words!."));
    assert!(with_mood(Some("?")).ends_with(" words?."));
    env.finish();
}

#[test]
fn checking_and_building_do_not_take_each_others_results() {
    let env = TestEnv::vx();
    let project = layers(&env, "layers");
    let vx = |arguments: &[&str]| {
        let vx = env.command("vx").args(arguments.iter().copied());
        vx.current_dir(project.dir()).run().expect_success();
    };
    vx(&["check"]);
    assert!(!project.output("debug/app").exists());
    vx(&["build"]);
    let built = std::fs::read(project.output("debug/app")).unwrap();
    vx(&["build", "--tests"]);
    vx(&["check", "--all-targets"]);
    vx(&["build"]);
    assert_eq!(std::fs::read(project.output("debug/app")).unwrap(), built);
    assert!(output(&project, "debug/app").ends_with(" words."));
    env.finish();
}

#[test]
fn a_file_that_appears_changes_what_the_compiler_finds() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "hello", "");
    project.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo:rustc-env=THERE={}\", std::path::Path::new(\"switch\").exists());\n    println!(\"cargo:rerun-if-changed=switch\");\n}\n",
    );
    project.write(
        "src/main.rs",
        "fn main() {\n    println!(\"{}\", env!(\"THERE\"));\n}\n",
    );
    build(&project, &[]);
    assert_eq!(output(&project, "debug/hello"), "false");
    project.write("switch", "");
    build(&project, &[]);
    assert_eq!(output(&project, "debug/hello"), "true");
    env.finish();
}

#[test]
fn two_checkouts_with_different_path_dependencies_do_not_share() {
    let env = TestEnv::vx();
    let checkout = |place: &str, answer: &str| {
        let library = Project::new(&env, &format!("{place}/library"));
        library.write(
            "Cargo.toml",
            "[package]\nname = \"library\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
        );
        library.write(
            "src/lib.rs",
            &format!("pub const ANSWER: &str = {answer:?};\n"),
        );
        let name = format!("{place}/app");
        let app = Project::new(&env, &name);
        app.write(
            "Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\nlibrary = { path = \"../library\" }\n",
        );
        app.write(
            "src/main.rs",
            "fn main() {\n    println!(\"{}\", library::ANSWER);\n}\n",
        );
        build(&app, &[]);
        output(&app, "debug/app")
    };
    assert_eq!(checkout("one", "first"), "first");
    assert_eq!(checkout("two", "second"), "second");
    env.finish();
}

#[test]
fn a_restored_timestamp_hides_no_change() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "hello", "aaaa");
    let main = project.dir().join("src/main.rs");
    build(&project, &[]);
    let times = std::fs::metadata(&main).unwrap().modified().unwrap();
    project.edit("src/main.rs", "aaaa", "bbbb");
    std::fs::File::options()
        .write(true)
        .open(&main)
        .unwrap()
        .set_modified(times)
        .unwrap();
    build(&project, &[]);
    assert_eq!(output(&project, "debug/hello"), "bbbb");
    env.finish();
}
