//! What comes over the network gets into the cache only if it is right; every
//! way to fail has an error of its own, and those that may pass are tried again.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::Scene;
use vx_download::{Digest, Error, Progress, Request};
use vx_testkit::HttpFault;

#[test]
fn a_file_is_fetched_once_and_then_found() {
    let scene = Scene::new();
    assert!(scene.assert_fetched().was_downloaded());
    assert!(!scene.assert_fetched().was_downloaded());
    scene.server.assert_requests("/file", 1);
    assert!(scene.cache().lookup(&scene.digest()).unwrap().is_some());
}

#[test]
fn blake3_works_as_well() {
    let scene = Scene::new();
    let request = Request::new(scene.server.url("/file"), Digest::blake3(&scene.content));
    let entry = scene.cache().fetch_blocking(&request).unwrap();
    assert_eq!(entry.size(), scene.content.len() as u64);
    assert!(entry.path().starts_with(scene.dir.path().join("v1/blake3")));
}

#[tokio::test]
async fn it_works_in_asynchronous_code_and_blocking_calls_do_not_panic_there() {
    let scene = Scene::new();
    let entry = scene.cache().fetch(&scene.request()).await.unwrap();
    assert!(entry.was_downloaded());
    assert!(!scene.fetch().unwrap().was_downloaded());
}

#[test]
fn transient_failures_are_tried_again() {
    for fault in [
        HttpFault::Status(408),
        HttpFault::Status(429),
        HttpFault::Status(500),
        HttpFault::Unavailable { retry_after: 0 },
        HttpFault::Truncated { after: 1000 },
        HttpFault::HangUp,
    ] {
        let scene = Scene::new();
        scene.server.fault_times("/file", 2, fault.clone());
        scene.assert_fetched();
        scene.server.assert_requests("/file", 3);
        assert!(scene.server.faults_left().is_empty(), "{fault:?}");
    }
}

#[test]
fn attempts_are_bounded() {
    let scene = Scene::new();
    scene.server.fault("/file", HttpFault::Status(503));
    let error = scene.fetch().unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 503, .. }),
        "{error}"
    );
    scene.server.assert_requests("/file", 3);
}

#[test]
fn failures_that_stay_are_told_at_once() {
    for status in [400, 401, 403, 404, 410] {
        let scene = Scene::new();
        scene.server.fault("/file", HttpFault::Status(status));
        let error = scene.fetch().unwrap_err();
        assert!(!error.is_transient());
        let text = format!(
            "the server answered {status} to `{}`",
            scene.server.url("/file")
        );
        assert_eq!(error.to_string(), text);
        scene.server.assert_requests("/file", 1);
    }
}

#[test]
fn wrong_bytes_never_get_in() {
    let scene = Scene::new();
    scene.server.fault_times("/file", 1, HttpFault::WrongBytes);
    let error = scene.fetch().unwrap_err();
    let Error::WrongDigest {
        expected, found, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(expected, scene.digest());
    assert_ne!(found, expected);
    assert!(!scene.entry_path().exists() && !scene.partial_path().exists());
    scene.server.assert_requests("/file", 1);
    scene.assert_fetched();
}

#[test]
fn a_wrong_length_is_an_error() {
    let scene = Scene::new();
    let size = scene.content.len() as u64;
    // Less than there is: what lies behind it is no answer.
    scene
        .server
        .fault_times("/file", 1, HttpFault::WrongLength { announced: 1000 });
    let error = scene.fetch().unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    let request = scene.request().size(size);
    scene
        .server
        .fault_times("/file", 1, HttpFault::WrongLength { announced: 1000 });
    let error = scene.cache().fetch_blocking(&request).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` has 1000 bytes instead of {size}",
            scene.server.url("/file")
        )
    );
    // More than there is: the rest never comes, but the digest says that all is there.
    let more = HttpFault::WrongLength {
        announced: size + 1,
    };
    scene.server.fault_times("/file", 1, more);
    scene.assert_fetched();
    scene.server.assert_requests("/file", 3);
}

#[test]
fn a_redirect_is_followed_and_a_loop_is_not() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Redirect("/moved".to_owned()));
    scene.server.file("/moved", &scene.content);
    scene.assert_fetched();
    scene.server.assert_requests("/moved", 1);

    let scene = Scene::new();
    scene.server.fault("/file", HttpFault::RedirectLoop);
    let error = scene.fetch().unwrap_err();
    assert!(
        matches!(error, Error::Redirects { limit: 10, .. }),
        "{error}"
    );
    scene.server.assert_requests("/file", 11);
}

#[test]
fn a_silent_server_is_given_up() {
    let mut scene = Scene::new();
    scene.options.stall_timeout = Duration::from_secs(1);
    scene.options.retries.attempts = 2;
    scene
        .server
        .fault("/file", HttpFault::Stall { after: 1000 });
    let error = scene.fetch().unwrap_err();
    let Error::Stalled { received, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(received, 2000);
    scene.server.assert_requests("/file", 2);
}

#[test]
fn a_slow_server_has_a_time_limit_and_its_work_is_not_lost() {
    let mut scene = Scene::new();
    scene.options.overall_timeout = Duration::from_secs(2);
    let pause = Duration::from_millis(20);
    scene
        .server
        .fault_times("/file", 1, HttpFault::Slow { piece: 1000, pause });
    let error = scene.fetch().unwrap_err();
    let Error::TooSlow { received, .. } = error else {
        panic!("{error}");
    };
    assert!(received > 0);
    scene.options.overall_timeout = support::LIMIT;
    scene.assert_fetched();
    assert!(scene.ranges()[1].is_some());
}

#[test]
fn nobody_there_is_a_connection_error() {
    let scene = Scene::new();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", unused.local_addr().unwrap());
    drop(unused);
    let attempts = Arc::new(Mutex::new(0));
    let count = Arc::clone(&attempts);
    let request = Request::new(url, scene.digest()).on_progress(move |progress| {
        if matches!(progress, Progress::Retrying { .. }) {
            *count.lock().unwrap() += 1;
        }
    });
    let error = scene.cache().fetch_blocking(&request).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(*attempts.lock().unwrap(), 2);
}

#[test]
fn something_that_is_not_http_is_told() {
    let scene = Scene::new();
    scene.server.fault("/file", HttpFault::Garbage);
    let error = scene.fetch().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    scene.server.assert_requests("/file", 1);
}

#[test]
fn tls_is_spoken_to_https() {
    let scene = Scene::new();
    let url = scene.server.url("/file").replace("http:", "https:");
    let request = Request::new(url, scene.digest());
    let error = scene.cache().fetch_blocking(&request).unwrap_err();
    // The fixture does not understand the greeting and hangs up.
    assert!(
        matches!(error, Error::Connect { .. } | Error::Client(_)),
        "{error}"
    );
}

#[test]
fn more_than_the_cache_may_hold_is_refused() {
    let mut scene = Scene::new();
    scene.options.size_limit = 5000;
    let error = scene.fetch().unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 5000, .. }),
        "{error}"
    );
    // Also if the server does not say how much it is going to be.
    scene
        .server
        .fault("/file", HttpFault::TruncatedUnnoticed { after: 9000 });
    let error = scene.fetch().unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 5000, .. }),
        "{error}"
    );
}

#[test]
fn progress_is_told_from_start_to_end() {
    let scene = Scene::new();
    scene
        .server
        .fault_times("/file", 1, HttpFault::Truncated { after: 1000 });
    let told = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&told);
    let request = scene
        .request()
        .on_progress(move |progress| record.lock().unwrap().push(progress.clone()));
    scene.cache().fetch_blocking(&request).unwrap();
    let told = told.lock().unwrap();
    let total = Some(scene.content.len() as u64);
    let started = |resumed_from| Progress::Started {
        resumed_from,
        total,
    };
    assert_eq!(told[0], started(0));
    assert!(told.contains(&started(1000)));
    assert!(
        told.iter()
            .any(|p| matches!(p, Progress::Retrying { attempt: 1, .. }))
    );
    let bytes = scene.content.len() as u64;
    assert!(told.contains(&Progress::Received { bytes, total }));
    assert_eq!(told.last(), Some(&Progress::Stored { bytes }));
}

#[test]
fn files_of_this_machine_are_copied() {
    let scene = Scene::new();
    let path = scene.dir.path().join("a file");
    std::fs::write(&path, &scene.content).unwrap();
    let url = format!("file://{}", path.display()).replace(' ', "%20");
    let fetch = || {
        scene
            .cache()
            .fetch_blocking(&Request::new(&url, scene.digest()))
    };
    let entry = fetch().unwrap();
    std::fs::write(&path, "changed").unwrap();
    assert!(std::fs::read(entry.path()).unwrap() == scene.content);
    drop(entry);
    std::fs::remove_file(scene.entry_path()).unwrap();
    assert!(matches!(fetch().unwrap_err(), Error::WrongDigest { .. }));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(fetch().unwrap_err(), Error::Read { .. }));
    scene.server.assert_requests("/file", 0);
}

#[test]
fn what_is_not_a_url_is_told() {
    let scene = Scene::new();
    for url in ["", "file", "ftp://x/y", "file://elsewhere/x"] {
        let request = Request::new(url, scene.digest());
        let error = scene.cache().fetch_blocking(&request).unwrap_err();
        assert!(error.to_string().contains(&format!("`{url}`")), "{error}");
    }
}

#[tokio::test]
async fn a_document_is_read_anew_each_time_with_a_limit_and_retries() {
    let scene = Scene::new();
    let url = scene.server.url("/sum");
    scene.server.file("/sum", "0123");
    scene.server.fault_times("/sum", 1, HttpFault::Status(503));
    let cache = scene.cache();
    assert_eq!(cache.read(&url, 4).await.unwrap(), b"0123");
    scene.server.file("/sum", "45678");
    let error = cache.read(&url, 4).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4, .. }), "{error}");
    assert_eq!(cache.read(&url, 5).await.unwrap(), b"45678");
    let error = cache.read(&scene.server.url("/none"), 4).await.unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 404, .. }),
        "{error}"
    );
    scene
        .server
        .fault_times("/sum", 3, HttpFault::Truncated { after: 2 });
    let error = cache.read(&url, 5).await.unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    let path = scene.dir.path().join("document");
    std::fs::write(&path, "local").unwrap();
    let url = format!("file://{}", path.display());
    assert_eq!(cache.read(&url, 5).await.unwrap(), b"local");
    assert!(cache.read(&url, 4).await.is_err());
}
