//! Whoever else may listen where a service is expected, and services that are on other machines.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use daemon_rpc::{CommandHandler, EndStatus, IncomingCommand, OutputSink, ServerConfig};
use harness::Project;
use harness::processes::{names, services};
use tokio_util::sync::CancellationToken;
use vx_testkit::{Run, TestEnv};

/// Each service with its variable.
const SERVICES: [(&str, &str); 3] = [
    ("vx-daemon", "VX_DAEMON"),
    ("vx-casd", "VX_CAS"),
    ("vx-execd", "VX_EXEC"),
];
/// A protocol that nobody speaks.
const OTHER: u32 = 999;
/// Long after a service has said who it is; well before anybody would think that `vx` hangs.
const AT_ONCE: Duration = Duration::from_secs(15);

fn build(env: &TestEnv, variables: &[(&str, &str)]) -> Run {
    let hello = Project::hello(env, "hello", "hello");
    let mut command = env.command("vx").arg("build").current_dir(hello.dir());
    for (name, value) in variables {
        command = command.env(name, value);
    }
    command.run()
}

/// A server on a port of its own; it ends with the process of the test.
fn server(answer: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = std::sync::Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, stream) = (answer.clone(), stream.unwrap());
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// What a web server says to whatever it does not understand.
fn web_server() -> String {
    server(|mut stream| {
        // Neither an error nor the end matters: it says the same to everybody.
        let _length = stream.read(&mut [0; 1024]);
        let page = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _sent = stream.write_all(page.as_bytes());
    })
}

/// Takes connections, and says nothing.
fn silent() -> String {
    server(|mut stream| {
        let mut rest = Vec::new();
        let _end = stream.read_to_end(&mut rest);
    })
}

fn is_told(foreign: fn() -> String) {
    for (service, variable) in SERVICES {
        let env = TestEnv::vx();
        let address = foreign();
        let run = build(&env, &[(variable, &address)]);
        assert_eq!(run.code(), Some(3), "{run}");
        let words = format!("{address} answers, but is not {service}");
        assert!(run.stderr().contains(&words), "expected `{words}`: {run}");
        assert!(run.stderr().contains("hint: "), "{run}");
        assert!(run.duration() < AT_ONCE, "{:?}", run.duration());
        if service == "vx-daemon" {
            assert_eq!(services(&env), []);
        }
        env.finish();
    }
}

#[test]
fn a_web_server_is_told_from_each_service() {
    is_told(web_server);
}

#[test]
fn a_silent_listener_is_told_from_each_service() {
    is_told(silent);
}

struct Nothing;

impl CommandHandler for Nothing {
    type Payload = ();

    async fn handle(
        &self,
        _: IncomingCommand<()>,
        _: OutputSink,
        _: CancellationToken,
    ) -> EndStatus {
        EndStatus::Exit(0)
    }
}

/// Serves in the background until the process of the test ends.
fn in_background<F>(serve: impl FnOnce(TcpListener) -> F + Send + 'static) -> String
where
    F: Future<Output = ()>,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serve(listener));
    });
    address
}

fn names_both_versions(run: &Run, service: &str, address: &str) {
    assert_eq!(run.code(), Some(3), "{run}");
    let stderr = run.stderr();
    for word in [
        service,
        address,
        &OTHER.to_string(),
        &vx_proto::PROTOCOL_VERSION.to_string(),
        "7.7.7",
    ] {
        assert!(stderr.contains(word), "expected `{word}`: {run}");
    }
}

#[test]
fn a_daemon_of_another_protocol_is_told_with_both_versions() {
    let env = TestEnv::vx();
    let token = vx_proto::token::load_or_create(&env.dir("vx-home")).unwrap();
    let address = in_background(move |listener| async move {
        let config = ServerConfig {
            token: Some(*token.as_bytes()),
            ..ServerConfig::new("vx-daemon", "7.7.7", OTHER)
        };
        let listener = daemon_rpc::Listener::from(listener);
        daemon_rpc::serve(listener, config, Nothing, CancellationToken::new())
            .await
            .unwrap();
    });
    let run = build(&env, &[("VX_DAEMON", &address)]);
    names_both_versions(&run, "vx-daemon", &address);
    assert!(run.stderr().contains("vx kill"), "{run}");
    env.finish();
}

#[test]
fn a_store_and_an_executor_of_another_protocol_are_told_with_both_versions() {
    for (service, variable) in &SERVICES[1..] {
        let env = TestEnv::vx();
        let token = vx_proto::token::load_or_create(&env.dir("vx-home")).unwrap();
        let address = in_background(move |listener| async move {
            let version = vx_proto::ext::VersionInfo {
                service: (*service).to_owned(),
                crate_version: "7.7.7".to_owned(),
                protocol: OTHER,
                pid: std::process::id(),
                properties: BTreeMap::new().into_iter().collect(),
            };
            let listener = daemon_lifecycle::Listener::Tcp(listener);
            let routes = tonic::service::Routes::default();
            let never = std::future::pending::<vx_proto::server::Stop>();
            let _ended =
                vx_proto::server::serve_until(listener, routes, Some(token), version, never).await;
        });
        let run = build(&env, &[(variable, &address)]);
        names_both_versions(&run, service, &address);
        env.finish();
    }
}

#[test]
fn a_service_on_another_machine_is_never_started_here() {
    // Names below `invalid` belong to nobody, so nothing is asked over the network.
    let remote = "tcp://builder.invalid:9999";
    for (service, variable) in SERVICES {
        let env = TestEnv::vx();
        let triple = ("VX_EXEC_HOST_TRIPLE", "x86_64-unknown-linux-gnu");
        let run = build(&env, &[(variable, remote), triple]);
        assert_eq!(run.code(), Some(3), "{run}");
        assert!(run.stderr().contains("builder.invalid:9999"), "{run}");
        assert!(run.stderr().contains("start it there"), "{run}");
        assert!(run.stderr().contains(service), "{run}");
        let running = services(&env);
        assert!(!names(&running).contains(&service), "{running:?}");
        env.finish();
    }
}

#[test]
fn an_executor_on_another_machine_needs_its_host_triple() {
    let env = TestEnv::vx();
    let run = build(&env, &[("VX_EXEC", "tcp://builder.invalid:9999")]);
    assert_eq!(run.code(), Some(3), "{run}");
    assert!(run.stderr().contains("VX_EXEC_HOST_TRIPLE"), "{run}");
    env.finish();
}

#[test]
fn a_variable_that_is_no_endpoint_is_named() {
    let env = TestEnv::vx();
    for (_, variable) in SERVICES {
        let run = build(&env, &[(variable, "nowhere")]);
        assert_eq!(run.code(), Some(2), "{run}");
        assert!(run.stderr().contains(&format!("`{variable}`")), "{run}");
    }
    assert_eq!(services(&env), []);
    env.finish();
}
