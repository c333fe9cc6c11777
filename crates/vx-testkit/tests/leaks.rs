//! What a test leaves behind fails it, and the report names the culprit.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use support::{pid_in, runs};
use vx_testkit::{Flavour, TestEnv, TestEnvBuilder};

fn strict() -> TestEnvBuilder {
    TestEnv::builder().settle(Duration::from_millis(20))
}

#[test]
fn a_daemon_left_running_is_named_with_its_command_and_killed() {
    let env = strict().build();
    let script = "(setsid env -i sleep 1234 </dev/null >/dev/null 2>&1 & echo $! > pid)";
    env.command("sh")
        .args(["-c", script])
        .run()
        .expect_success();
    let pid = pid_in(&env.work_dir().join("pid"));
    assert!(runs(pid));
    let report = env.try_finish();
    assert_eq!(report.processes.len(), 1, "{report}");
    assert_eq!(report.processes[0].pid, pid);
    let text = report.to_string();
    assert!(text.contains("`sleep 1234`"), "{text}");
    assert!(text.contains("a_daemon_left_running_is_named"), "{text}");
    assert!(!runs(pid));
    std::fs::remove_dir_all(report.bundle.unwrap()).unwrap();
}

#[test]
fn a_listener_left_open_is_named_with_its_port() {
    let env = strict().endpoint("api", "API", Flavour::Handed).build();
    let port = env.endpoint("api").port().unwrap();
    // The socket goes on to the grandchild, which the service leaves behind.
    env.service("leaky", "sh")
        .args(["-c", "setsid sleep 1234 & wait"])
        .listener("api")
        .ready(vx_testkit::Ready::check(|probe| {
            let children = format!("/proc/{0}/task/{0}/children", probe.pid());
            match std::fs::read_to_string(children) {
                Ok(list) if !list.is_empty() => Ok(()),
                _ => Err("no child yet".to_owned()),
            }
        }))
        .start();
    let report = env.try_finish();
    let listeners: Vec<&String> = report.processes.iter().flat_map(|p| &p.listeners).collect();
    assert!(
        listeners.contains(&&format!("127.0.0.1:{port}")),
        "{report}"
    );
    std::fs::remove_dir_all(report.bundle.unwrap()).unwrap();
}

#[test]
fn finish_panics_with_the_report() {
    let env = strict().build();
    env.command("sh")
        .args(["-c", "sleep 1234 >/dev/null 2>&1 &"])
        .run()
        .expect_success();
    let panic = catch_unwind(AssertUnwindSafe(|| env.finish())).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("left running: process"), "{text}");
}

#[test]
fn dropping_panics_with_the_report_as_well() {
    let env = strict().build();
    env.command("sh")
        .args(["-c", "sleep 1234 >/dev/null 2>&1 &"])
        .run()
        .expect_success();
    let panic = catch_unwind(AssertUnwindSafe(|| drop(env))).unwrap_err();
    assert!(
        panic
            .downcast_ref::<String>()
            .unwrap()
            .contains("sleep 1234")
    );
}

#[test]
fn a_process_that_ends_by_itself_in_time_is_no_leak() {
    let env = TestEnv::builder().settle(Duration::from_secs(30)).build();
    env.command("sh")
        .args(["-c", "sleep 0.05 >/dev/null 2>&1 &"])
        .run()
        .expect_success();
    env.finish();
}

#[test]
fn teardown_runs_before_anything_is_killed_and_its_failure_is_told() {
    let env = TestEnv::builder()
        .settle(Duration::from_secs(30))
        .teardown(
            "sh",
            ["-c", "kill $(cat pid) && echo stopped > ../torn-down"],
        )
        .teardown("sh", ["-c", "echo 'no such daemon' >&2; exit 4"])
        .build();
    env.command("sh")
        .args(["-c", "setsid sleep 1234 >/dev/null 2>&1 & echo $! > pid"])
        .run()
        .expect_success();
    let report = env.try_finish();
    assert!(report.processes.is_empty(), "{report}");
    assert_eq!(report.teardown.len(), 1, "{report}");
    assert!(report.teardown[0].contains("exit status: 4"), "{report}");
    assert!(report.teardown[0].contains("no such daemon"), "{report}");
    let bundle = report.bundle.unwrap();
    assert!(bundle.join("env/torn-down").exists());
    std::fs::remove_dir_all(bundle).unwrap();
}

#[test]
fn a_teardown_that_hangs_is_cut_off() {
    let env = strict()
        .teardown("sleep", ["1234"])
        .teardown_timeout(Duration::from_millis(50))
        .build();
    let report = env.try_finish();
    assert!(
        report.teardown[0].contains("did not end within"),
        "{report}"
    );
}

#[test]
fn files_outside_the_directories_are_told_if_watched() {
    let outside = tempfile::tempdir().unwrap();
    let env = strict().watch(outside.path()).build();
    env.command("touch")
        .arg(outside.path().join("stray"))
        .run()
        .expect_success();
    env.write("inside", "");
    let report = env.try_finish();
    assert_eq!(report.files, [outside.path().join("stray")]);
    assert!(!report.is_clean());
}
