//! Even when the helper itself is killed, what it started can be found.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::process::Command;
use std::time::Duration;

use support::runs;
use vx_testkit::{TestEnv, wait_until};

fn sweep(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vx-testkit"))
        .arg("sweep")
        .args(args)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn what_a_killed_helper_leaves_is_found_and_killed() {
    let env = TestEnv::builder().build();
    let root = env.home().parent().unwrap().to_owned();
    let service = env.service("orphan", "sleep").arg("1234").start();
    let name = format!("process {} `", service.pid());
    // As long as the helper watches it, it is nobody's orphan.
    assert!(!sweep(&[]).1.contains(&name));

    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.pid())).unwrap();
    let helper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    // SAFETY: the parent of what a helper started is that helper.
    unsafe { libc::kill(helper.parse().unwrap(), libc::SIGKILL) };
    let report = env.try_finish();
    assert!(!report.is_clean());

    wait_until("the orphan is found", Duration::from_secs(20), || {
        let (code, text) = sweep(&[]);
        if code == Some(1) && text.contains(&name) {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert!(sweep(&["--kill"]).1.contains(&format!("killed: {name}")));
    assert!(!runs(service.pid()));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn wrong_usage_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_vx-testkit"))
        .arg("wipe")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: unexpected argument `wipe`"),
        "{text}"
    );
}
