//! Daemons with a health URL, played by this program: a server that makes its own
//! listener, one that is not well, one that does not end when asked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::{
    DaemonHandle, HealthStatus, HttpDaemonConfig, ShutdownConfig, StatusRequest,
};
use daemon_lifecycle::{
    Ended, HttpDaemon, HttpDaemonError, HttpProbe, IdentifiedProcess, ServiceSpec,
};
use tempfile::TempDir;

const ROLE: &str = "HTTP_TEST_ROLE";
const PORT: &str = "HTTP_TEST_PORT";
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    root: TempDir,
    port: u16,
}

impl Site {
    fn new() -> Site {
        let root = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        // Nobody else is given this port soon, and a second server says so.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Site { root, port }
    }

    fn daemon(&self) -> HttpDaemon {
        let url = format!("http://localhost:{}/health", self.port);
        let mut config = HttpDaemonConfig::new("web", url);
        config.shutdown_endpoint = Some("/shutdown".into());
        HttpDaemon::new(config).unwrap()
    }

    fn spec(&self, role: &str) -> ServiceSpec {
        ServiceSpec {
            program: env::current_exe().unwrap(),
            args: ["role", "--exact", "--nocapture"].map(Into::into).to_vec(),
            env: vec![
                (ROLE.into(), role.into()),
                (PORT.into(), self.port.to_string().into()),
                ("HTTP_TEST_BODY".into(), self.body().into()),
            ],
            log: self.root.path().join("log"),
            lifeline: false,
        }
    }

    fn body(&self) -> std::path::PathBuf {
        self.root.path().join("body")
    }

    fn lock(&self) -> std::path::PathBuf {
        self.root.path().join("run/start.lock")
    }
}

#[test]
fn role() {
    let Ok(role) = env::var(ROLE) else {
        return;
    };
    if role == "broken" {
        eprintln!("no templates");
        std::process::exit(4);
    }
    let port: u16 = env::var(PORT).unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming() {
        serve(stream.unwrap(), &role);
    }
}

fn serve(mut stream: TcpStream, role: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    if reader.read_line(&mut request).is_err() {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let status = match (request.split(' ').nth(1), role) {
        (Some("/health"), "ill") => "503 Service Unavailable",
        (Some("/shutdown"), "deaf") => "404 Not Found",
        _ => "200 OK",
    };
    let _sent = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    if request.starts_with("POST /shutdown") {
        fs::write(env::var_os("HTTP_TEST_BODY").unwrap(), body).unwrap();
        if role == "good" {
            drop((stream, reader));
            std::process::exit(0);
        }
    }
}

fn ensure(site: &Site, role: &str) -> Result<daemon_lifecycle::HttpEnsured, HttpDaemonError> {
    let deadline = Instant::now() + PATIENCE;
    site.daemon()
        .ensure(&site.spec(role), &site.lock(), deadline)
}

fn is_gone(handle: &DaemonHandle) -> bool {
    let process = handle.process().unwrap();
    IdentifiedProcess::find(process).unwrap().is_none()
        && !Path::new(&format!("/proc/{}", process.pid)).exists()
}

#[test]
fn it_is_started_once_found_again_and_ended_by_its_endpoint() {
    let site = Site::new();
    assert_eq!(
        site.daemon().probe(None, PATIENCE).unwrap(),
        HttpProbe::Absent
    );
    let started = ensure(&site, "good").unwrap();
    assert!(started.handle.should_cleanup());
    let found = ensure(&site, "good").unwrap();
    assert!(found.owned.is_none());
    assert!(!found.handle.should_cleanup());
    assert_eq!(found.handle.base_url(), started.handle.base_url());

    let request = StatusRequest::new("web");
    let status = site.daemon().status(&request, None).unwrap();
    assert_eq!(status.health_status, Some(HealthStatus::Healthy));
    assert_eq!(
        status.metadata.unwrap()["pid"],
        started.handle.pid().unwrap()
    );

    let owned = started.owned.unwrap();
    let config = ShutdownConfig::new("web", owned.identity().pid);
    let (how, died) = site.daemon().shutdown(owned, &config, "an update").unwrap();
    assert_eq!(how, Ended::Itself);
    assert_eq!(died.unwrap().status.code(), Some(0));
    let body = fs::read_to_string(site.body()).unwrap();
    assert!(body.contains(r#""reason":"an update""#), "{body}");
    let read: ShutdownConfig = serde_json::from_str(&body).unwrap();
    assert_eq!(read, config);
    assert!(is_gone(&started.handle));
    assert!(!site.daemon().status(&request, None).unwrap().is_running);
}

#[test]
fn many_who_start_it_at_once_start_one() {
    let site = Site::new();
    let ensured: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| ensure(&site, "good").unwrap()))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut owned: Vec<_> = ensured.into_iter().filter_map(|one| one.owned).collect();
    assert_eq!(owned.len(), 1);
    owned.pop().unwrap().stop(PATIENCE).unwrap();
}

#[test]
fn an_endpoint_that_refuses_is_followed_by_a_signal_and_one_that_does_nothing_by_force() {
    for (role, grace, expected) in [("deaf", 60, Ended::Asked), ("idle", 1, Ended::Killed)] {
        let site = Site::new();
        let started = ensure(&site, role).unwrap();
        let owned = started.owned.unwrap();
        let mut config = ShutdownConfig::new("web", owned.identity().pid);
        config.graceful_timeout_secs = grace;
        let (how, died) = site.daemon().shutdown(owned, &config, "enough").unwrap();
        assert!(died.is_some());
        // With no time left for the signal either of both may come first.
        assert!(how == expected || role == "idle", "{role}: {how:?}");
        assert!(is_gone(&started.handle));
    }
}

#[test]
fn a_request_for_another_process_ends_nobody() {
    let site = Site::new();
    let started = ensure(&site, "good").unwrap();
    let owned = started.owned.unwrap();
    let process = owned.identity().clone();
    let config = ShutdownConfig::new("web", process.pid + 1);
    let error = site.daemon().shutdown(owned, &config, "wrong").unwrap_err();
    assert!(
        error.to_string().ends_with("nothing was signalled"),
        "{error}"
    );
    assert!(!site.body().exists());
    let found = IdentifiedProcess::find(&process).unwrap().unwrap();
    found.stop(PATIENCE).unwrap();
}

#[test]
fn an_answer_of_another_process_is_not_its_health() {
    let site = Site::new();
    let started = ensure(&site, "good").unwrap();
    // Healthy by URL; but not the process that is meant.
    let own = IdentifiedProcess::identity_of(std::process::id()).unwrap();
    let HttpProbe::Foreign(stranger) = site.daemon().probe(Some(&own), PATIENCE).unwrap() else {
        panic!("it is foreign");
    };
    assert_eq!(stranger.pid, started.handle.pid());
    let probe = site
        .daemon()
        .probe(started.handle.process(), PATIENCE)
        .unwrap();
    assert!(matches!(
        probe,
        HttpProbe::Running {
            health: HealthStatus::Healthy,
            ..
        }
    ));
    started.owned.unwrap().stop(PATIENCE).unwrap();
}

#[test]
fn one_that_dies_or_is_not_well_is_told_at_once() {
    let site = Site::new();
    let error = ensure(&site, "broken").unwrap_err();
    let HttpDaemonError::Failed { died, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(died.status.code(), Some(4));
    assert!(died.log_tail.contains("no templates"), "{died}");

    let deadline = Instant::now() + Duration::from_millis(500);
    let error = site
        .daemon()
        .ensure(&site.spec("ill"), &site.lock(), deadline)
        .unwrap_err();
    assert!(
        matches!(error, HttpDaemonError::NotInTime { .. }),
        "{error}"
    );
    assert_eq!(
        site.daemon().probe(None, PATIENCE).unwrap(),
        HttpProbe::Absent
    );
}
