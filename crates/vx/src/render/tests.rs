//! Recorded events and what becomes of them.

use anstream::StripStream;
use vx_proto::command::{ArtifactProfile, How, UnitName};

use super::*;

fn unit(package: &str, kind: &str, mode: &str) -> UnitName {
    UnitName {
        package: package.to_owned(),
        version: "1.0.0".to_owned(),
        package_id: format!("path+file:///ws#{package}@1.0.0"),
        manifest_path: "/ws/Cargo.toml".into(),
        target: package.to_owned(),
        target_kind: vec![kind.to_owned()],
        crate_types: vec![kind.to_owned()],
        src_path: "/ws/src/lib.rs".into(),
        edition: "2024".to_owned(),
        mode: mode.to_owned(),
        member: true,
        path: Some("/ws".into()),
    }
}

fn diagnostic(name: &UnitName, level: &str, code: &str) -> BuildEvent {
    let rendered = format!("\u{1b}[1m{level}\u{1b}[0m: unused `x`\n --> src/lib.rs:2:7\n\n");
    let json = serde_json::json!({
        "$message_type": "diagnostic",
        "message": "unused `x`",
        "level": level,
        "code": {"code": code, "explanation": null},
        "spans": [{"file_name": "src/lib.rs", "line_start": 2, "column_start": 7,
                   "is_primary": true, "label": "help: remove it"}],
        "rendered": rendered,
    });
    BuildEvent::Diagnostic {
        name: name.clone(),
        level: level.to_owned(),
        rendered,
        json: json.to_string(),
        replayed: false,
    }
}

fn artifact(name: &UnitName, fresh: bool) -> BuildEvent {
    BuildEvent::Artifact {
        name: name.clone(),
        profile: ArtifactProfile {
            opt_level: "3".to_owned(),
            ..ArtifactProfile::default()
        },
        features: vec!["default".to_owned()],
        filenames: vec!["/ws/target/vx/release/app".into()],
        executable: Some("/ws/target/vx/release/app".into()),
        fresh,
    }
}

fn summary(success: bool, hits: u32, ran: u32, up_to_date: bool) -> BuildEvent {
    BuildEvent::Summary {
        success,
        units: 3,
        hits,
        ran,
        up_to_date,
        millis: 1234,
        profile: "release".to_owned(),
        opt_desc: "optimized".to_owned(),
    }
}

/// A build of a library with a warning and of a program.
fn good_build() -> Vec<BuildEvent> {
    let library = unit("base", "lib", "build");
    let program = unit("app", "bin", "build");
    vec![
        BuildEvent::Note {
            verb: "Starting".to_owned(),
            text: "vx-casd at 127.0.0.1:9002".to_owned(),
        },
        BuildEvent::Planned {
            units: 3,
            profile: "release".to_owned(),
        },
        BuildEvent::Finished {
            unit: 0,
            how: How::Hit,
            millis: 1,
        },
        artifact(&unit("dep", "lib", "build"), true),
        BuildEvent::Started {
            unit: 1,
            name: library.clone(),
        },
        diagnostic(&library, "warning", "unused_variables"),
        BuildEvent::UnitWarnings {
            name: library.clone(),
            count: 1,
            duplicates: 0,
        },
        BuildEvent::Finished {
            unit: 1,
            how: How::Ran,
            millis: 9,
        },
        BuildEvent::Started {
            unit: 2,
            name: program.clone(),
        },
        BuildEvent::Command {
            name: program.clone(),
            line: "rustc --crate-name app".to_owned(),
        },
        artifact(&program, false),
        BuildEvent::Finished {
            unit: 2,
            how: How::Ran,
            millis: 9,
        },
        summary(true, 1, 2, false),
    ]
}

/// A build whose library has an error.
fn bad_build() -> Vec<BuildEvent> {
    let library = unit("base", "lib", "check");
    vec![
        BuildEvent::Planned {
            units: 3,
            profile: "dev".to_owned(),
        },
        BuildEvent::Started {
            unit: 1,
            name: library.clone(),
        },
        diagnostic(&library, "warning", "unused_variables"),
        diagnostic(&library, "error", "E0425"),
        BuildEvent::Failed {
            unit: 1,
            name: library,
            errors: 1,
            message: None,
            hints: vec!["look closer".to_owned()],
            command: None,
        },
    ]
}

/// Standard error without colours, and standard output.
fn render(events: &[BuildEvent], verbosity: Verbosity, format: Format) -> (String, String) {
    let mut shown = Vec::new();
    let mut lines = Vec::new();
    let human = Human::new(
        StripStream::new(&mut shown),
        verbosity,
        format.messages,
        Progress::new(false),
    );
    let mut renderer = Renderer::new(human, format.json.map(Json::new), &mut lines);
    for event in events {
        renderer.event(event).unwrap();
    }
    renderer.finish().unwrap();
    drop(renderer);
    (
        String::from_utf8(shown).unwrap(),
        String::from_utf8(lines).unwrap(),
    )
}

#[test]
fn people_read_what_cargo_would_say() {
    let (shown, lines) = render(&good_build(), Verbosity::Normal, Format::of(&[]));
    assert_eq!(lines, "");
    insta::assert_snapshot!(shown, @r"
        Starting vx-casd at 127.0.0.1:9002
       Compiling base v1.0.0 (/ws)
    warning: unused `x`
     --> src/lib.rs:2:7

    warning: `base` (lib) generated 1 warning
       Compiling app v1.0.0 (/ws)
        Finished `release` profile [optimized] target(s) in 1.23s (3 units: 1 cached, 2 built)
    ");
}

#[test]
fn verbose_shows_hits_and_commands() {
    let (shown, _) = render(&good_build(), Verbosity::Verbose, Format::of(&[]));
    insta::assert_snapshot!(shown, @r"
        Starting vx-casd at 127.0.0.1:9002
           Fresh dep v1.0.0 (/ws)
       Compiling base v1.0.0 (/ws)
    warning: unused `x`
     --> src/lib.rs:2:7

    warning: `base` (lib) generated 1 warning
       Compiling app v1.0.0 (/ws)
         Running `rustc --crate-name app`
        Finished `release` profile [optimized] target(s) in 1.23s (3 units: 1 cached, 2 built)
    ");
}

#[test]
fn quiet_shows_the_compilers_messages_only() {
    let (shown, _) = render(&good_build(), Verbosity::Quiet, Format::of(&[]));
    insta::assert_snapshot!(shown, @r"
    warning: unused `x`
     --> src/lib.rs:2:7
    ");
}

#[test]
fn errors_are_counted_with_their_warnings() {
    let (shown, _) = render(&bad_build(), Verbosity::Normal, Format::of(&[]));
    insta::assert_snapshot!(shown, @r"
        Checking base v1.0.0 (/ws)
    warning: unused `x`
     --> src/lib.rs:2:7

    error: unused `x`
     --> src/lib.rs:2:7

    error: could not compile `base` (lib) due to 1 previous error; 1 warning emitted
    hint: look closer
    ");
}

#[test]
fn short_messages_take_one_line() {
    let format = Format::of(&[MessageFormat::Short]);
    let (shown, _) = render(&bad_build(), Verbosity::Quiet, format);
    insta::assert_snapshot!(shown, @r"
    src/lib.rs:2:7: warning: unused `x`: help: remove it
    src/lib.rs:2:7: error[E0425]: unused `x`: help: remove it
    error: could not compile `base` (lib) due to 1 previous error; 1 warning emitted
    hint: look closer
    ");
}

#[test]
fn colours_reach_a_stream_that_keeps_them() {
    let mut shown = Vec::new();
    let mut human = Human::new(
        &mut shown,
        Verbosity::Normal,
        Messages::Full,
        Progress::new(false),
    );
    human.event(&diagnostic(&unit("a", "lib", "build"), "warning", "x"));
    human.event(&summary(true, 3, 0, true));
    drop(human);
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.starts_with("\u{1b}[1mwarning\u{1b}[0m: unused"),
        "{shown:?}"
    );
    assert!(
        shown.contains("\u{1b}[1m\u{1b}[92m    Finished\u{1b}[0m"),
        "{shown:?}"
    );
    assert!(shown.ends_with("(3 units, all up to date)\n"), "{shown:?}");
}

#[test]
fn a_script_that_fails_names_its_cause() {
    let failed = BuildEvent::Failed {
        unit: 0,
        name: unit("base", "custom-build", "run-custom-build"),
        errors: 0,
        message: Some("process exited with code 101\n--- stderr\nno network".to_owned()),
        hints: Vec::new(),
        command: None,
    };
    let (shown, _) = render(&[failed], Verbosity::Normal, Format::of(&[]));
    insta::assert_snapshot!(shown, @r"
    error: failed to run custom build command for `base v1.0.0 (/ws)`

    Caused by:
      process exited with code 101
      --- stderr
      no network
    ");
}

#[test]
fn programs_read_cargos_objects() {
    let format = Format::of(&[MessageFormat::Json]);
    let (shown, lines) = render(&good_build(), Verbosity::Normal, format);
    // Status lines stay, the compiler's messages are in the objects.
    assert!(shown.contains("Compiling base v1.0.0 (/ws)"));
    assert!(!shown.contains("unused"));
    insta::assert_snapshot!(lines, @r#"
    {"reason":"compiler-artifact","package_id":"path+file:///ws#dep@1.0.0","manifest_path":"/ws/Cargo.toml","target":{"kind":["lib"],"crate_types":["lib"],"name":"dep","src_path":"/ws/src/lib.rs","edition":"2024","doc":true,"doctest":true,"test":true},"profile":{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false},"features":["default"],"filenames":["/ws/target/vx/release/app"],"executable":"/ws/target/vx/release/app","fresh":true}
    {"reason":"compiler-message","package_id":"path+file:///ws#base@1.0.0","manifest_path":"/ws/Cargo.toml","target":{"kind":["lib"],"crate_types":["lib"],"name":"base","src_path":"/ws/src/lib.rs","edition":"2024","doc":true,"doctest":true,"test":true},"message":{"$message_type":"diagnostic","code":{"code":"unused_variables","explanation":null},"level":"warning","message":"unused `x`","rendered":"warning: unused `x`\n --> src/lib.rs:2:7\n\n","spans":[{"column_start":7,"file_name":"src/lib.rs","is_primary":true,"label":"help: remove it","line_start":2}]}}
    {"reason":"compiler-artifact","package_id":"path+file:///ws#app@1.0.0","manifest_path":"/ws/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],"name":"app","src_path":"/ws/src/lib.rs","edition":"2024","doc":true,"doctest":false,"test":true},"profile":{"opt_level":"3","debuginfo":0,"debug_assertions":false,"overflow_checks":false,"test":false},"features":["default"],"filenames":["/ws/target/vx/release/app"],"executable":"/ws/target/vx/release/app","fresh":false}
    {"reason":"build-finished","success":true}
    "#);
}

#[test]
fn rendered_text_keeps_colours_on_request_and_goes_to_people_on_request() {
    let first = |formats: &[MessageFormat]| {
        let (shown, lines) = render(&bad_build(), Verbosity::Quiet, Format::of(formats));
        let rendered = lines.lines().next().and_then(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["message"]["rendered"].as_str().map(str::to_owned)
        });
        (rendered, shown.contains(" --> src/lib.rs:2:7"))
    };
    let (ansi, _) = first(&[
        MessageFormat::Json,
        MessageFormat::JsonDiagnosticRenderedAnsi,
    ]);
    assert!(ansi.unwrap().starts_with('\u{1b}'));
    let (short, _) = first(&[MessageFormat::JsonDiagnosticShort]);
    assert_eq!(
        short.unwrap(),
        "src/lib.rs:2:7: warning: unused `x`: help: remove it\n"
    );
    assert_eq!(first(&[MessageFormat::JsonRenderDiagnostics]), (None, true));
}

#[test]
fn a_build_without_an_end_is_finished_without_success() {
    let format = Format::of(&[MessageFormat::Json]);
    let (_, lines) = render(&bad_build(), Verbosity::Normal, format);
    assert_eq!(
        lines.lines().last(),
        Some(r#"{"reason":"build-finished","success":false}"#)
    );
    let error = BuildEvent::Error {
        message: "no manifest".to_owned(),
        hints: Vec::new(),
    };
    let (shown, lines) = render(&[error], Verbosity::Quiet, format);
    assert_eq!(
        (shown.as_str(), lines.as_str()),
        ("error: no manifest\n", "")
    );
}

#[test]
fn a_checked_test_is_called_a_test() {
    let title = |mode| names::target(&unit("app", "bin", mode));
    assert_eq!(title("check"), "`app` (bin \"app\")");
    assert_eq!(title("check-test"), "`app` (bin \"app\" test)");
    assert_eq!(title("test"), title("check-test"));
}
