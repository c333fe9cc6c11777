//! What the compiler says, in each form, the first time and from the store.

use std::fs;
use std::path::Path;

use harness::{Build, Project, build};
use serde_json::Value;
use vx_testkit::TestEnv;

/// A program with a warning of its own, and one of its build script.
fn with_warnings(env: &TestEnv) -> Project<'_> {
    let project = Project::hello(env, "careless", "");
    project.write(
        "src/main.rs",
        "fn main() {\n    let unused = 1;\n    println!(\"{}\", env!(\"WORD\"));\n}\n",
    );
    project.write(
        "build.rs",
        "fn main() {\n    println!(\"cargo::warning=look out\");\n    println!(\"cargo::rustc-env=WORD=word\");\n    let out = std::env::var(\"OUT_DIR\").unwrap() + \"/sub\";\n    std::fs::create_dir_all(&out).unwrap();\n    std::fs::write(format!(\"{out}/generated.rs\"), \"// here\").unwrap();\n    println!(\"cargo::rustc-env=PLACE={out}\");\n    println!(\"cargo::rustc-link-search=native={out}\");\n    println!(\"cargo::rerun-if-changed=build.rs\");\n}\n",
    );
    project
}

const RENDERED: &str = "warning: unused variable: `unused`\n --> src/main.rs:2:9\n  |\n2 |     let unused = 1;\n  |         ^^^^^^ help: if this is intentional, prefix it with an underscore: `_unused`\n";

fn warns(build: &Build) {
    let stderr = build.run.stderr();
    for words in [
        RENDERED,
        "warning: careless@0.1.0: look out\n",
        "warning: `careless` (bin \"careless\") generated 1 warning",
    ] {
        assert_eq!(stderr.matches(words).count(), 1, "`{words}`: {}", build.run);
    }
    assert_eq!(build.run.stdout(), "");
}

#[test]
fn warnings_do_not_vanish_on_a_hit() {
    let env = TestEnv::vx();
    let here = with_warnings(&env);
    let first = build(&here, &[]);
    assert_eq!(first.ran.len(), 3, "{}", first.run);
    warns(&first);
    let again = build(&here, &[]);
    assert!(again.is_up_to_date(), "{}", again.run);
    warns(&again);
    let there = here.copy("elsewhere");
    let hit = build(&there, &[]);
    assert!(hit.ran.is_empty(), "{}", hit.run);
    warns(&hit);
    // Also when a new daemon knows of it by the store only.
    let _killed = env.command("vx").arg("kill").run().expect_success();
    warns(&build(&here, &[]));
    env.finish();
}

#[test]
fn short_messages_are_one_line_each() {
    let env = TestEnv::vx();
    let project = with_warnings(&env);
    let line = "src/main.rs:2:9: warning: unused variable: `unused`";
    for _ in 0..2 {
        let short = build(&project, &["--message-format", "short"]);
        assert!(
            short
                .run
                .stderr()
                .lines()
                .any(|said| said.starts_with(line)),
            "{}",
            short.run
        );
        assert!(!short.run.stderr().contains(" --> "), "{}", short.run);
    }
    env.finish();
}

#[test]
fn quiet_shows_what_the_compiler_says_and_nothing_else() {
    let env = TestEnv::vx();
    let project = with_warnings(&env);
    // Cargo has something to say about a lock file that it makes.
    let part = Project::hello(&env, "careless/part", "");
    part.write("Cargo.toml", "[package]\nname = \"part\"\n");
    part.write("src/lib.rs", "");
    let manifest = env.read("careless/Cargo.toml");
    project.write(
        "Cargo.toml",
        &format!("{manifest}[dependencies]\npart = {{ path = \"part\" }}\n"),
    );
    let quiet = || {
        let command = env
            .command("vx")
            .args(["build", "-q"])
            .current_dir(project.dir());
        command.run().expect_success()
    };
    let first = quiet();
    assert!(first.stderr().contains(RENDERED), "{first}");
    for noise in ["Locking", "Compiling", "Finished"] {
        assert!(!first.stderr().contains(noise), "{first}");
    }
    assert_eq!(quiet().stderr(), first.stderr());
    env.finish();
}

#[test]
fn colours_appear_only_where_they_are_wanted() {
    let env = TestEnv::vx();
    let project = with_warnings(&env);
    let build = |arguments: &[&str], no_color: Option<&str>| {
        let mut command = env
            .command("vx")
            .arg("build")
            .args(arguments.iter().copied())
            .env_remove("NO_COLOR")
            .current_dir(project.dir());
        if let Some(value) = no_color {
            command = command.env("NO_COLOR", value);
        }
        command.run().expect_success().stderr().into_owned()
    };
    // Nobody watches.
    assert!(!build(&[], None).contains('\x1b'));
    assert!(build(&["--color", "always"], None).contains("\x1b["));
    assert!(build(&["--color", "always"], Some("1")).contains("\x1b["));
    assert!(!build(&["--color", "never"], None).contains('\x1b'));
    assert!(!build(&[], Some("1")).contains('\x1b'));
    env.finish();
}

fn messages(build: &Build) -> Vec<Value> {
    let lines = build.run.stdout().into_owned();
    let messages = lines.lines().map(|line| match serde_json::from_str(line) {
        Ok(message) => message,
        Err(error) => panic!("`{line}` is no JSON: {error}"),
    });
    messages.collect()
}

/// The one message of a kind that is about a target of that kind.
fn one<'a>(messages: &'a [Value], reason: &str, kind: &str) -> &'a Value {
    let mut found = messages.iter().filter(|message| {
        message["reason"] == reason && (kind.is_empty() || message["target"]["kind"][0] == kind)
    });
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        _ => panic!("expected one `{reason}` of `{kind}` in {messages:#?}"),
    }
}

#[test]
fn json_is_that_of_cargo() {
    let env = TestEnv::vx();
    let project = with_warnings(&env);
    let json = |project: &Project<'_>| messages(&build(project, &["--message-format", "json"]));
    let first = json(&project);
    let id = format!("path+file://{}#0.1.0", project.dir().display());

    let warning = one(&first, "compiler-message", "bin");
    assert_eq!(warning["package_id"], *id);
    assert_eq!(warning["target"]["name"], "careless");
    assert_eq!(warning["message"]["level"], "warning");
    assert_eq!(warning["message"]["code"]["code"], "unused_variables");
    assert_eq!(warning["message"]["spans"][0]["file_name"], "src/main.rs");
    let rendered = warning["message"]["rendered"].as_str().unwrap_or_default();
    assert!(rendered.starts_with(RENDERED), "{rendered}");

    let script = one(&first, "build-script-executed", "");
    assert_eq!(script["package_id"], *id);
    assert_eq!(script["env"][0], serde_json::json!(["WORD", "word"]));
    // What the script has made is where the message says, for editors to read.
    let out_dir = Path::new(script["out_dir"].as_str().unwrap_or_default());
    let generated = out_dir.join("sub/generated.rs");
    assert!(out_dir.starts_with(project.output("debug/build")));
    assert_eq!(
        fs::read_to_string(&generated).unwrap_or_default(),
        "// here"
    );
    let place = format!("{}/sub", out_dir.display());
    assert_eq!(script["env"][1], serde_json::json!(["PLACE", place]));
    assert_eq!(
        script["linked_paths"],
        serde_json::json!([format!("native={place}")])
    );

    let artifact = one(&first, "compiler-artifact", "bin");
    let program = project.output("debug/careless");
    assert_eq!(artifact["package_id"], *id);
    assert_eq!(artifact["executable"], *program.to_string_lossy());
    assert_eq!(artifact["filenames"], serde_json::json!([program]));
    assert_eq!(artifact["fresh"], false);
    assert_eq!(artifact["profile"]["opt_level"], "0");
    assert_eq!(
        one(&first, "compiler-artifact", "custom-build")["fresh"],
        false
    );

    assert_eq!(
        first.last(),
        Some(&serde_json::json!({"reason": "build-finished", "success": true}))
    );

    // The same again, and nothing was built.
    let fresh = |messages: &[Value]| -> Vec<Value> {
        messages
            .iter()
            .map(|message| {
                let mut message = message.clone();
                if message["reason"] == "compiler-artifact" {
                    message["fresh"] = true.into();
                }
                message
            })
            .collect()
    };
    let sorted = |mut messages: Vec<Value>| {
        messages.sort_by_key(Value::to_string);
        messages
    };
    assert_eq!(sorted(json(&project)), sorted(fresh(&first)));
    let elsewhere = json(&project.copy("elsewhere"));
    assert_eq!(elsewhere.len(), first.len());
    assert_eq!(one(&elsewhere, "compiler-artifact", "bin")["fresh"], true);
    env.finish();
}

#[test]
fn json_of_a_failed_build_ends_with_its_failure() {
    let env = TestEnv::vx();
    let project = Project::hello(&env, "wrong", "");
    project.write("src/main.rs", "fn main() {\n    wrong();\n}\n");
    let run = env
        .command("vx")
        .args(["build", "--message-format", "json"])
        .current_dir(project.dir())
        .run();
    assert_eq!(run.code(), Some(101), "{run}");
    let lines = run.stdout().into_owned();
    let last = lines.lines().last().unwrap_or_default();
    assert_eq!(last, "{\"reason\":\"build-finished\",\"success\":false}");
    let error: Value = serde_json::from_str(lines.lines().next().unwrap_or_default()).unwrap();
    assert_eq!(error["message"]["code"]["code"], "E0425", "{run}");
    env.finish();
}
