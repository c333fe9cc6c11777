//! Who waits for an action decides how long it lives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod site;

use std::time::Duration;

use daemon_lifecycle::{Listener, ServiceSpec, SpawnTracker};
use site::{ActionBuilder, Site, eventually, is_running, next_early, shell};
use tonic::Code;
use vx_proto::DigestFunction;
use vx_proto::exec::ExecClient;

/// Publishes `m`, leaves a grandchild in a session of its own, and goes on until the file `go` appears.
fn lingering(mark: &str, end: &str) -> ActionBuilder {
    let script = format!(
        "(setsid sh -c 'trap \"\" TERM HUP; while :; do kill -STOP $$; done' {mark} &); head -c 8 /dev/urandom > /vx/out/new; mv /vx/out/new /vx/out/m; while [ ! -e /vx/out/go ]; do :; done; {end}"
    );
    shell(&script)
        .output("/vx/out/m")
        .property("vx-early-output", "/vx/out/m")
}

fn let_go(site: &Site) {
    for folder in site.writable_directories() {
        std::fs::write(folder.join("go"), "").unwrap();
    }
}

fn mark() -> String {
    format!(
        "mark-{}",
        tempfile::tempdir()
            .unwrap()
            .path()
            .file_name()
            .unwrap()
            .display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_output_is_stored_and_announced_while_the_command_runs() {
    let site = Site::start().await;
    let mark = mark();
    let digest = lingering(&mark, "exit 0").store(&site.cas).await;
    let mut execution = site.exec.execute(digest, false).await.unwrap();
    let early = next_early(&mut execution).await;
    assert!(is_running(&mark));
    let blob = vx_proto::digest::required(early.digest.as_ref()).unwrap();
    assert_eq!(site.cas.read(&blob, 100).await.unwrap().len(), 8);
    let_go(&site);
    let (_, response) = site.finish(execution).await;
    assert_eq!(response.result.unwrap().output_files, [early]);
    eventually("what the command left is gone", || !is_running(&mark)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_output_that_changes_afterwards_is_an_error() {
    let site = Site::start().await;
    let digest = lingering(&mark(), "echo x > /vx/out/m; exit 0")
        .store(&site.cas)
        .await;
    let mut execution = site.exec.execute(digest, false).await.unwrap();
    next_early(&mut execution).await;
    let_go(&site);
    let status = site.finish(execution).await.1.status.unwrap();
    assert_eq!(status.code, Code::Internal as i32);
    assert!(status.message.contains("`/vx/out/m`"), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_nobody_waits_for_ends_with_all_it_started() {
    let site = Site::start().await;
    let mark = mark();
    let digest = lingering(&mark, "exit 0").store(&site.cas).await;
    let mut execution = site.exec.execute(digest, false).await.unwrap();
    next_early(&mut execution).await;
    assert!(is_running(&mark));
    drop(execution);
    eventually("all processes are gone", || !is_running(&mark)).await;
    let work = site.home.path().join("exec/work");
    eventually("its directory is gone", || {
        std::fs::read_dir(&work).unwrap().count() == 0
    })
    .await;
    // Its slot is free again: both can be taken.
    for script in ["exit 3", "exit 4"] {
        assert!(site.result(&shell(script)).await.exit_code > 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_actions_run_once_while_one_runs_and_live_as_long_as_anybody_waits() {
    let site = Site::start().await;
    // A failure is not cached, so a later run is a run of its own.
    let digest = lingering(&mark(), "exit 1").store(&site.cas).await;
    let start = || async {
        let mut execution = site.exec.execute(digest, false).await.unwrap();
        let early = next_early(&mut execution).await;
        (execution, early)
    };
    let ((one, first), (other, second), (third, _)) = (start().await, start().await, start().await);
    assert_eq!(first, second);
    drop(third);
    let_go(&site);
    let ended = [site.finish(one).await.1, site.finish(other).await.1];
    for response in ended {
        assert_eq!(
            response.result.unwrap().output_files[0].digest,
            first.digest
        );
    }
    let (again, fresh) = start().await;
    assert_ne!(fresh.digest, first.digest);
    drop(again);
}

#[test]
fn a_runtime_that_is_dropped_takes_its_actions_along() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mark = mark();
    let running = runtime.block_on(async {
        let site = Site::start().await;
        let digest = lingering(&mark, "exit 0").store(&site.cas).await;
        let mut execution = site.exec.execute(digest, false).await.unwrap();
        next_early(&mut execution).await;
        (site, execution)
    });
    assert!(is_running(&mark));
    // Waits for the thread that waits for the command.
    drop(runtime);
    assert!(!is_running(&mark));
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_limit_of_an_action_holds() {
    let site = Site::start().await;
    let mark = mark();
    let mut action = lingering(&mark, "exit 0");
    action.action.timeout = Some(Duration::from_millis(300).try_into().unwrap());
    let status = site.run(&action).await.status.unwrap();
    assert_eq!(status.code, Code::DeadlineExceeded as i32);
    eventually("all processes are gone", || !is_running(&mark)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_killed_hard_leaves_no_process_and_the_next_one_clears_up() {
    let home = site::private_directory();
    let cas = site::start_store(home.path()).await;
    let settings = site::settings(home.path());
    let tracker = SpawnTracker::new();
    let spec = ServiceSpec {
        program: env!("CARGO_BIN_EXE_vx-execd").into(),
        args: Vec::new(),
        env: settings.to_env(),
        log: home.path().join("log"),
        lifeline: false,
    };
    let start = || {
        let listener = Listener::bind(&settings.exec).unwrap();
        tracker.spawn(&spec, listener).unwrap()
    };
    let connect = || {
        let channel = vx_proto::connect::channel(&settings.exec);
        ExecClient::new(channel, None, DigestFunction::Blake3)
    };
    let child = start();
    let mark = mark();
    let digest = lingering(&mark, "exit 0").store(&cas).await;
    let mut execution = connect().execute(digest, false).await.unwrap();
    next_early(&mut execution).await;
    assert!(is_running(&mark));
    let pid = rustix::process::Pid::from_raw(child.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("all processes are gone", || !is_running(&mark)).await;
    eventually("the executor is gone", || {
        !tracker.try_wait().unwrap().is_empty()
    })
    .await;
    let work = home.path().join("exec/work");
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 1);

    let _second = start();
    let digest = shell("exit 5").store(&cas).await;
    let mut execution = connect().execute(digest, false).await.unwrap();
    let done = loop {
        use futures_util::StreamExt;
        if let vx_proto::exec::ExecEvent::Done(done) = execution.next().await.unwrap().unwrap() {
            break done;
        }
    };
    assert_eq!(done.result.unwrap().exit_code, 5);
    eventually("old and new work is gone", || {
        std::fs::read_dir(&work).unwrap().count() == 0
    })
    .await;
    tracker.kill_all(Duration::from_secs(5));
}
