//! Commands see what the test declares and nothing else; their results can be
//! asserted on and compared.

use std::time::Duration;

use predicates::prelude::*;
use vx_testkit::{Address, Flavour, TestEnv};

#[test]
fn commands_get_declared_variables_only() {
    let env = TestEnv::builder()
        .dir("state", "APP_STATE")
        .endpoint("api", "APP_API", Flavour::Unix)
        .endpoint("tcp", "APP_TCP", Flavour::Leased)
        .env("APP_MODE", "test")
        .build();
    let run = env.command("/usr/bin/env").run().expect_success();
    let text = run.stdout().into_owned();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .collect();
    for name in [
        "HOME",
        "PATH",
        "APP_STATE",
        "APP_API",
        "APP_TCP",
        "APP_MODE",
        "TZ",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for name in names {
        let known = [
            "APP_",
            "HOME",
            "PATH",
            "TMPDIR",
            "XDG_RUNTIME_DIR",
            "CARGO_HOME",
            "RUSTUP_",
            "LC_ALL",
            "TZ",
            "COLUMNS",
            "NO_COLOR",
            "TERM",
            "LLVM_PROFILE_FILE",
            "VX_TESTKIT_ENV_ID",
        ];
        assert!(known.iter().any(|known| name.starts_with(known)), "{name}");
    }
    assert!(
        matches!(env.endpoint("api"), Address::Unix(path) if path.starts_with(env.runtime_dir()))
    );
    assert!(env.endpoint("tcp").port().is_some_and(|port| port < 32_768));
    env.finish();
}

#[test]
fn a_snapshot_shows_both_outputs_and_the_exit_status() {
    let env = TestEnv::builder().build();
    let script = "echo in $HOME; echo pid $$ >&2; cat; exit 3";
    let command = env.command("sh").args(["-c", script]).stdin("from stdin");
    insta::assert_snapshot!(command.snapshot(), @r"
    exit code: 3
    ----- stdout -----
    in [HOME]
    from stdin[no newline]
    ----- stderr -----
    pid [PID]
    ");
    command
        .assert()
        .code(3)
        .stdout(predicate::str::ends_with("from stdin"));
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_group() {
    let env = TestEnv::builder().build();
    let error = env
        .command("sh")
        .args(["-c", "echo started; sleep 600 & wait"])
        .timeout(Duration::from_millis(200))
        .try_run()
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("did not end within 0.2 s"), "{text}");
    assert!(text.contains("started"), "{text}");
    env.finish();
}

#[test]
fn a_background_process_with_the_output_open_does_not_hang_the_command() {
    let env = TestEnv::builder().settle(Duration::ZERO).build();
    let run = env
        .command("sh")
        // It is a copy of the shell until it is `sleep`.
        .args([
            "-c",
            "sleep 600 & until grep -q sleep /proc/$!/comm; do :; done; echo done",
        ])
        .run();
    assert_eq!(run.stdout(), "done\n");
    assert!(run.left_output_open());
    let report = env.try_finish();
    assert_eq!(report.processes.len(), 1, "{report}");
    assert_eq!(report.processes[0].command, "sleep 600");
}

#[test]
fn commands_start_with_no_signal_blocked_or_ignored() {
    let env = TestEnv::builder().build();
    let run = env.command("cat").arg("/proc/self/status").run();
    for field in ["SigBlk:", "SigIgn:"] {
        let text = run.stdout();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        let set = u64::from_str_radix(line.trim(), 16).unwrap();
        // Above are real-time signals, the C library's own among them.
        assert_eq!(set & 0x7fff_ffff, 0, "{field} {line}");
    }
}

#[test]
fn fixtures_are_copied_and_commands_run_beside_them() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("a.txt"), "fixture").unwrap();
    let env = TestEnv::builder().fixture(source.path(), "data").build();
    let run = env.command("cat").arg("data/a.txt").run().expect_success();
    assert_eq!(run.stdout(), "fixture");
    env.write("data/b/c.txt", "written");
    assert_eq!(env.read("data/b/c.txt"), "written");
    let root = env.home();
    env.finish();
    assert!(!root.exists());
}

#[test]
fn a_missing_program_is_told_with_the_way_to_build_it() {
    let env = TestEnv::builder().build();
    let error = env.command("no-such-program").try_run().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cargo build --bin no-such-program")
    );
    let error = env.command("true").current_dir("gone").try_run();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("there is no directory"), "{text}");
}

#[tokio::test]
async fn commands_run_beside_asynchronous_code() {
    let env = TestEnv::builder().build();
    let command = env.command("echo").arg("hello");
    let run = tokio::task::spawn_blocking(move || command.run())
        .await
        .unwrap();
    assert_eq!(run.stdout(), "hello\n");
}
