//! Many processes, one download; and one that is killed leaves nothing wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod fetcher;
mod support;

use fetcher::fetcher;
use support::{LIMIT, Scene};
use vx_testkit::{HttpFault, TestEnv};

#[test]
fn thirty_two_processes_that_want_the_same_file_cause_one_download() {
    let mut scene = Scene::new();
    scene.content = (0..8 << 18_u32)
        .flat_map(|n: u32| n.to_le_bytes())
        .collect();
    scene.server.file("/file", &scene.content);
    // The first one is in the middle of it until all others are there.
    scene
        .server
        .fault_times("/file", 1, HttpFault::Stall { after: 1 << 20 });
    let env = TestEnv::builder().build();
    let all: Vec<_> = (0..32).map(|_| fetcher(&env, &scene).spawn()).collect();
    scene.server.wait_until_sent("/file", 1 << 20, LIMIT);
    scene.server.release();
    let mut downloads = 0;
    for running in all {
        let run = running.wait().expect_success();
        let says = |how: &str| {
            let text = format!("fetch: {how} {} bytes", scene.content.len());
            run.stdout().contains(&text)
        };
        if says("downloaded") {
            downloads += 1;
        } else {
            assert!(says("found"), "{run}");
        }
    }
    assert_eq!(downloads, 1);
    scene.server.assert_requests("/file", 1);
    env.finish();
}

#[test]
fn when_the_one_that_downloads_is_killed_the_next_one_goes_on() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Stall { after: 100_000 });
    let env = TestEnv::builder().build();
    let first = fetcher(&env, &scene).spawn();
    scene.server.wait_until_sent("/file", 100_000, LIMIT);
    // It has the lock; whoever comes now waits for it.
    let others: Vec<_> = (0..4).map(|_| fetcher(&env, &scene).spawn()).collect();
    vx_testkit::wait_until(
        "the killed one has written something",
        LIMIT,
        || match std::fs::metadata(scene.partial_path()) {
            Ok(metadata) if metadata.len() > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    first.signal(9).unwrap();
    assert_eq!(first.wait().signal(), Some(9));
    let mut downloads = 0;
    for running in others {
        let run = running.wait().expect_success();
        downloads += usize::from(run.stdout().contains("fetch: downloaded"));
    }
    assert_eq!(downloads, 1);
    let ranges = scene.ranges();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[1].as_ref().is_some_and(|range| range != "bytes=0-"));
    scene.assert_fetched();
    env.finish();
}

#[test]
fn tasks_of_one_process_share_a_download_too() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Stall { after: 1000 });
    let cache = scene.cache();
    std::thread::scope(|scope| {
        let fetch = || {
            cache
                .fetch_blocking(&scene.request())
                .unwrap()
                .was_downloaded()
        };
        let all: Vec<_> = (0..16).map(|_| scope.spawn(fetch)).collect();
        scene.server.wait_until_sent("/file", 1000, LIMIT);
        scene.server.release();
        let downloads = all.into_iter().map(|t| t.join().unwrap());
        assert_eq!(downloads.filter(|downloaded| *downloaded).count(), 1);
    });
    scene.server.assert_requests("/file", 1);
}

#[test]
fn waiting_for_somebody_else_has_a_time_limit() {
    let mut scene = Scene::new();
    scene.options.overall_timeout = std::time::Duration::from_millis(100);
    scene.cache();
    let path = scene
        .partial_path()
        .to_string_lossy()
        .replace("/partial/", "/lock/");
    let lock = std::fs::File::create(path).unwrap();
    lock.lock().unwrap();
    let error = scene.fetch().unwrap_err();
    assert!(matches!(error, vx_download::Error::Busy { .. }), "{error}");
    drop(lock);
    scene.options.overall_timeout = LIMIT;
    scene.assert_fetched();
}

#[tokio::test]
async fn a_fetch_that_is_given_up_keeps_what_has_come() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Stall { after: 100_000 });
    let cache = scene.cache();
    let request = scene.request();
    let (sender, mut came) = tokio::sync::mpsc::unbounded_channel();
    let request = request.on_progress(move |progress| {
        if matches!(
            progress,
            vx_download::Progress::Received { bytes: 100_000, .. }
        ) {
            sender.send(()).ok();
        }
    });
    tokio::select! {
        _ = cache.fetch(&request) => panic!("it cannot end"),
        _ = came.recv() => {}
    }
    cache.fetch(&request).await.unwrap();
    assert_eq!(scene.ranges(), [None, Some("bytes=100000-".to_owned())]);
}
