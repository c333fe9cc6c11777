//! The program itself: how it starts, what it says, when it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_lifecycle::{LIFELINE_VARIABLE, Listener, ServiceSpec, SpawnTracker};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use vx_proto::cas::{Blob, CasClient};
use vx_proto::{Digest, DigestFunction, connect, token};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vx-casd");
/// More than a loaded machine needs; nothing waits that long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn spec(home: &Path) -> ServiceSpec {
    ServiceSpec {
        program: PROGRAM.into(),
        args: Vec::new(),
        env: vec![("VX_HOME".into(), home.into())],
        log: home.join("log/vx-casd.log"),
        // A tracker that ends its children lets go of their lifelines as well,
        // which would be the other reason to end.
        lifeline: false,
    }
}

/// The command with an environment that has nothing of ours.
fn command(home: &Path, endpoint: &Endpoint) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("VX_HOME", home)
        .env("VX_CAS", endpoint.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn private_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn it_serves_the_listener_it_was_handed_and_ends_when_asked() {
    let dir = private_dir();
    let home = dir.path().join("home");
    let token = token::load_or_create(&home).unwrap();
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let endpoint = listener.endpoint();
    let tracker = SpawnTracker::new();
    let child = tracker.spawn(&spec(&home), listener).unwrap();

    // No need to wait for it: the connection queues until it is there.
    let (channel, version) = connect::open(&endpoint, Some(&token), "vx-casd", PATIENCE)
        .await
        .unwrap();
    assert_eq!(version.pid, child.pid);
    assert_eq!(version.crate_version, env!("CARGO_PKG_VERSION"));
    let client = CasClient::new(channel, Some(&token), DigestFunction::Blake3);
    client.ensure(vec![Blob::of("content")]).await.unwrap();
    let read = client.read(&Digest::of(b"content"), 100).await.unwrap();
    assert_eq!(read, "content");
    assert!(home.join("cas").is_dir());

    // An idle connection does not keep it: its client closes it when asked to.
    let asked = Instant::now();
    tokio::task::spawn_blocking(move || tracker.kill_all(PATIENCE))
        .await
        .unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "not by its patience"
    );
    let log = fs::read_to_string(home.join("log/vx-casd.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines,
        [
            format!(
                "vx-casd: serves {} at {endpoint} (version {}, pid {})",
                home.join("cas").display(),
                env!("CARGO_PKG_VERSION"),
                child.pid
            ),
            "vx-casd: ends, as it was asked to".to_owned(),
        ]
    );
}

#[test]
fn it_ends_when_its_owner_is_gone() {
    let dir = private_dir();
    let home = dir.path().join("home");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    fcntl_setfd(&read, FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&read);
    let endpoint = Endpoint::Unix(dir.path().join("run/casd.sock"));
    let child = command(&home, &endpoint)
        .env(LIFELINE_VARIABLE, number.to_string())
        .spawn()
        .unwrap();
    drop(read);
    // Whenever this happens, early or late, the end of the pipe is seen.
    drop(write);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.ends_with("ends, since its owner is gone\n"), "{log}");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let dir = private_dir();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: Endpoint = taken.local_addr().unwrap().to_string().parse().unwrap();
    let output = command(&dir.path().join("home"), &endpoint)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.starts_with("vx-casd: error: "), "{log}");
    assert!(log.contains(&endpoint.to_string()), "{log}");
}

#[test]
fn a_home_of_strangers_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = private_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let endpoint = "127.0.0.1:0".parse().unwrap();
    let output = command(dir.path(), &endpoint).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("can be changed by other users"), "{log}");
}
