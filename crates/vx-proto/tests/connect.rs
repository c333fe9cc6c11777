//! Who answers at an endpoint: ours, ours of another version, somebody else,
//! nobody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_lifecycle::Listener;
use tokio::sync::oneshot;
use tonic::service::Routes;
use vx_proto::connect::{VERIFY_TIMEOUT, VerifyError, capabilities, verify};
use vx_proto::ext::VersionInfo;
use vx_proto::server::{Stop, serve_until, version_info};
use vx_proto::token::Token;

fn token(byte: u8) -> Token {
    Token::from_bytes([byte; 32])
}

fn tcp(listener: &TcpListener) -> Endpoint {
    listener.local_addr().unwrap().to_string().parse().unwrap()
}

/// A server that does `talk` with whoever comes first, on a port of its own.
fn stranger(talk: impl FnOnce(TcpStream) + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = tcp(&listener);
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        talk(stream);
    });
    endpoint
}

struct Ours {
    endpoint: Endpoint,
    stop: oneshot::Sender<Stop>,
    task: tokio::task::JoinHandle<Stop>,
}

impl Ours {
    fn start(listener: Listener, token: Option<Token>, version: VersionInfo) -> Ours {
        let endpoint = listener.endpoint();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or(Stop::OwnerGone) };
            serve_until(listener, Routes::default(), token, version, stopped)
                .await
                .unwrap()
        });
        Ours {
            endpoint,
            stop,
            task,
        }
    }

    fn on_tcp(version: VersionInfo) -> Ours {
        let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        Ours::start(listener, Some(token(1)), version)
    }
}

async fn casd_at(endpoint: &Endpoint, byte: u8) -> Result<VersionInfo, VerifyError> {
    verify(endpoint, Some(&token(byte)), "vx-casd", VERIFY_TIMEOUT).await
}

#[tokio::test]
async fn ours_is_recognised() {
    let mut version = version_info("vx-casd");
    version
        .properties
        .insert("slots".to_owned(), "4".to_owned());
    let ours = Ours::on_tcp(version.clone());
    assert_eq!(casd_at(&ours.endpoint, 1).await.unwrap(), version);
    ours.stop.send(Stop::Requested).unwrap();
    assert_eq!(ours.task.await.unwrap(), Stop::Requested);
    assert!(matches!(
        casd_at(&ours.endpoint, 1).await,
        Err(VerifyError::Unreachable { .. })
    ));
}

#[tokio::test]
async fn a_unix_socket_needs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(dir.path().join("run/s"));
    let listener = Listener::bind(&endpoint).unwrap();
    let ours = Ours::start(listener, None, version_info("vx-casd"));
    assert_eq!(casd_at(&ours.endpoint, 9).await.unwrap().service, "vx-casd");
}

#[tokio::test]
async fn a_tcp_port_is_not_served_without_a_token() {
    let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
    let served = serve_until(
        listener,
        Routes::default(),
        None,
        version_info("vx-casd"),
        std::future::pending(),
    )
    .await;
    assert!(served.is_err());
}

#[tokio::test]
async fn a_wrong_token_or_none_is_denied() {
    let ours = Ours::on_tcp(version_info("vx-casd"));
    assert!(matches!(
        casd_at(&ours.endpoint, 2).await,
        Err(VerifyError::Denied { .. })
    ));
    assert!(matches!(
        verify(&ours.endpoint, None, "vx-casd", VERIFY_TIMEOUT).await,
        Err(VerifyError::Denied { .. })
    ));
}

#[tokio::test]
async fn another_of_our_services_is_foreign() {
    let ours = Ours::on_tcp(version_info("vx-execd"));
    let error = casd_at(&ours.endpoint, 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} answers, but is not vx-casd", ours.endpoint)
    );
    assert!(matches!(error, VerifyError::Foreign { why, .. } if why == "it is `vx-execd`"));
}

#[tokio::test]
async fn ours_without_the_api_is_no_server_of_it() {
    let ours = Ours::on_tcp(version_info("vx-casd"));
    let error = capabilities(&ours.endpoint, Some(&token(1)), VERIFY_TIMEOUT)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} answers, but is not a server of the Remote Execution API",
            ours.endpoint
        )
    );
}

#[tokio::test]
async fn another_protocol_is_told_with_both_versions() {
    let ours = Ours::on_tcp(VersionInfo {
        protocol: 77,
        crate_version: "9.9.9".into(),
        ..version_info("vx-casd")
    });
    assert_eq!(
        casd_at(&ours.endpoint, 1).await.unwrap_err().to_string(),
        format!(
            "vx-casd at {} speaks protocol 77 (version 9.9.9), this is protocol {} (version {})",
            ours.endpoint,
            vx_proto::PROTOCOL_VERSION,
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[tokio::test]
async fn nobody_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = tcp(&listener);
    drop(listener);
    let error = casd_at(&endpoint, 1).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unreachable { .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let error = casd_at(&Endpoint::Unix(dir.path().join("none")), 1)
        .await
        .unwrap_err();
    assert!(matches!(error, VerifyError::Unreachable { .. }), "{error}");
}

async fn is_foreign_at_once(endpoint: Endpoint) {
    let began = Instant::now();
    let error = casd_at(&endpoint, 1).await.unwrap_err();
    assert!(matches!(error, VerifyError::Foreign { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("{endpoint} answers, but is not vx-casd")
    );
    assert!(began.elapsed() < VERIFY_TIMEOUT, "not by its silence");
}

#[tokio::test]
async fn an_http_1_server_is_foreign_at_once() {
    is_foreign_at_once(stranger(|mut stream| {
        let mut request = [0; 1024];
        let _size = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        // It keeps the connection open until the client has had enough.
        while matches!(stream.read(&mut request), Ok(1..)) {}
    }))
    .await;
}

#[tokio::test]
async fn an_ssh_server_is_foreign_at_once() {
    is_foreign_at_once(stranger(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
        let mut rest = [0; 1024];
        while matches!(stream.read(&mut rest), Ok(1..)) {}
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_hangs_up_is_foreign_at_once() {
    is_foreign_at_once(stranger(drop)).await;
}

#[tokio::test]
async fn a_silent_server_is_foreign_after_the_time_it_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = tcp(&listener);
    let timeout = Duration::from_millis(50);
    let error = verify(&endpoint, Some(&token(1)), "vx-casd", timeout)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, VerifyError::Foreign { why, .. } if why == "no answer within 50ms"),
        "{error:?}"
    );
}
