//! The preset for vx, shown with a stand-in that leaves a daemon behind as vx
//! does.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use vx_testkit::{Address, TestEnv};

const ROLE: &str = "USES_VX";

const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
start) setsid sleep 1234 </dev/null >/dev/null 2>&1 & echo $! > "$VX_HOME/pid"; echo "home $VX_HOME, daemon $VX_DAEMON" ;;
kill) [ ! -e "$VX_HOME/pid" ] || kill "$(cat "$VX_HOME/pid")" ;;
esac
"#;

/// The test that uses vx; an empty one when run by itself.
#[test]
fn user() {
    let Ok(how) = std::env::var(ROLE) else {
        return;
    };
    let env = if how == "tcp" {
        TestEnv::vx_tcp()
    } else {
        TestEnv::vx()
    };
    let run = env.command("vx").arg("start").run().expect_success();
    if how == "tcp" {
        assert!(matches!(env.endpoint("daemon"), Address::Tcp(_)));
        assert_ne!(env.endpoint("daemon"), env.endpoint("cas"));
    } else {
        insta::assert_snapshot!(run.snapshot(), @r"
        exit code: 0
        ----- stdout -----
        home [VX-HOME], daemon unix://[RUNTIME]/daemon.sock
        ----- stderr -----
        ");
    }
    for name in [
        "VX_HOME",
        "VX_DAEMON",
        "VX_CAS",
        "VX_EXEC",
        "VX_DOWNLOAD_CACHE_DIR",
    ] {
        assert!(env.var(name).is_some(), "{name}");
    }
    if how == "leaky" {
        // `vx kill` does not find the daemon any more.
        std::fs::remove_file(env.dir("vx-home").join("pid")).unwrap();
    }
    env.finish();
}

fn run(how: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let vx = dir.path().join("vx");
    std::fs::write(&vx, STAND_IN).unwrap();
    std::fs::set_permissions(&vx, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    for program in ["vx", "vx-daemon", "vx-casd", "vx-execd"] {
        command.env(format!("NEXTEST_BIN_EXE_{program}"), &vx);
    }
    let output = command
        .args(["--exact", "user", "--nocapture", "--test-threads=1"])
        .env(ROLE, how)
        .env("VX_TESTKIT_BUNDLE_DIR", dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn vx_kill_ends_the_daemon() {
    let (success, text) = run("unix");
    assert!(success, "{text}");
}

#[test]
fn tcp_endpoints_are_leased() {
    let (success, text) = run("tcp");
    assert!(success, "{text}");
}

#[test]
fn a_daemon_that_vx_kill_misses_fails_the_test() {
    let (success, text) = run("leaky");
    assert!(!success, "{text}");
    assert!(text.contains("left running: process"), "{text}");
}
