//! Who does not belong: foreign servers for the client, foreign clients for the
//! server, and those of another version.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{
    Client, Command, ConnectError, EndStatus, Foreign, Listener, Outcome, ServeError, ServerConfig,
};
use kit::{Commands, PATIENCE, PROTOCOL, SERVICE, Server, client_config, config, endpoint_of};

/// A server of something else: says `answer` to each connection, reads a little
/// first if it is polite, and then closes or (without an answer) stays silent.
fn foreign(answer: Option<Vec<u8>>, polite: bool) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint_of(&listener);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if polite {
                let _read = stream.read(&mut [0; 1024]).unwrap();
            }
            match &answer {
                Some(answer) => stream.write_all(answer).unwrap(),
                None => kept.push(stream),
            }
        }
    });
    endpoint
}

fn connect_error(endpoint: &Endpoint, timeout: Duration) -> ConnectError {
    let mut config = client_config();
    config.service = "vx-daemon".to_owned();
    config.handshake_timeout = timeout;
    Client::connect(endpoint, config).unwrap_err()
}

fn why(error: &ConnectError) -> &Foreign {
    match error {
        ConnectError::Foreign { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_something_else_is_told_apart_at_once() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\0\0\0\x01\x13",
        b"\0\0\0\x03\x11??",
        b"?",
    ] {
        let endpoint = foreign(Some(answer.to_vec()), true);
        let started = Instant::now();
        let error = connect_error(&endpoint, Duration::from_secs(60));
        assert_eq!(*why(&error), Foreign::Garbage, "{answer:?}");
        assert_eq!(
            error.to_string(),
            format!("{endpoint} answers, but is not vx-daemon")
        );
        assert!(started.elapsed() < PATIENCE);
    }
}

#[test]
fn a_server_that_only_closes_is_no_service() {
    let endpoint = foreign(Some(Vec::new()), true);
    let error = connect_error(&endpoint, PATIENCE);
    assert_eq!(*why(&error), Foreign::Closes);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_beyond_the_timeout() {
    let endpoint = foreign(None, false);
    let error = connect_error(&endpoint, Duration::from_millis(30));
    assert_eq!(*why(&error), Foreign::Silent { millis: 30 });
    assert_eq!(
        error.to_string(),
        format!("{endpoint} answers, but is not vx-daemon")
    );
}

#[test]
fn another_service_is_named() {
    let server = Server::unix(config());
    let error = connect_error(&server.endpoint, PATIENCE);
    let service = SERVICE.to_owned();
    assert_eq!(*why(&error), Foreign::OtherService { service });
}

#[test]
fn nobody_there_is_not_running() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint_of(&listener);
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    for endpoint in [endpoint, Endpoint::Unix(folder.path().join("sock"))] {
        let error = connect_error(&endpoint, PATIENCE);
        assert!(
            matches!(error, ConnectError::NotRunning { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn different_protocols_are_both_named() {
    let server = Server::unix(config());
    let mut client = client_config();
    client.protocol = PROTOCOL + 1;
    let error = Client::connect(&server.endpoint, client).unwrap_err();
    let ConnectError::VersionMismatch { ours, theirs, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*ours, theirs.protocol), (8, 7));
    assert!(
        error.to_string().ends_with(
            "is test-daemon 0.1.0 and speaks protocol 7, this program speaks protocol 8"
        ),
        "{error}"
    );
}

#[test]
fn a_port_wants_the_token() {
    let mut config = config();
    config.token = Some([5; 32]);
    let server = Server::tcp(config);
    for token in [None, Some([0; 32])] {
        let mut client = client_config();
        client.token = token;
        let error = Client::start(&server.endpoint, client, &Command::new("exit 0")).unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    }
    assert_eq!(server.seen.begun.load(Ordering::SeqCst), 0);
}

#[test]
fn unsafe_configurations_are_not_served() {
    let serve = |listener: TcpListener, config: ServerConfig| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(daemon_rpc::serve(
                Listener::Tcp(listener),
                config,
                Commands(Default::default()),
                Default::default(),
            ))
            .unwrap_err()
    };
    let loopback = || TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(matches!(serve(loopback(), config()), ServeError::NoToken));
    let mut safe = config();
    safe.token = Some([1; 32]);
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(matches!(
        serve(everywhere, safe.clone()),
        ServeError::NotLocal { .. }
    ));
    safe.properties.insert("k".to_owned(), "v".repeat(5000));
    assert!(matches!(
        serve(loopback(), safe),
        ServeError::Properties { .. }
    ));
}

fn tcp_server() -> Server {
    let mut config = config();
    config.token = Some([5; 32]);
    config.handshake_timeout = Duration::from_millis(50);
    Server::tcp(config)
}

fn raw(server: &Server) -> TcpStream {
    let Endpoint::Tcp { host, port } = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    let stream = TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the server says until it closes; a reset is as good as an end.
fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    bytes
}

fn assert_alive(server: &Server) {
    let mut client = client_config();
    client.token = Some([5; 32]);
    let outcome = Client::connect(&server.endpoint, client)
        .unwrap()
        .run(&Command::new("exit 0"), |_| {});
    assert_eq!(outcome, Outcome::Finished(EndStatus::Exit(0)));
}

#[test]
fn strangers_get_no_answer() {
    let server = tcp_server();
    for words in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        // A frame of 4 GiB, one of nothing, a command without a Hello, a Hello
        // of something else.
        b"\xff\xff\xff\xff\x01dmnrpc\r\n",
        b"\0\0\0\0\x01",
        b"\0\0\0\x05\x02exit",
        b"\0\0\0\x09\x01dmnrpc\n\n",
    ] {
        let mut stream = raw(&server);
        stream.write_all(words).unwrap();
        assert_eq!(answer(stream), b"", "{words:?}");
    }
    assert_alive(&server);
}

#[test]
fn who_does_not_finish_its_hello_is_not_waited_for() {
    let server = tcp_server();
    let mut partial = raw(&server);
    partial.write_all(b"\0\0\x01\0\x01dmnrpc").unwrap();
    let silent = raw(&server);
    assert_eq!(answer(partial), b"");
    assert_eq!(answer(silent), b"");
    assert_alive(&server);
}

#[test]
fn a_hello_may_come_byte_by_byte() {
    let mut config = config();
    config.token = Some([5; 32]);
    let server = Server::tcp(config);
    // Version 2 to 2, protocol 7, frames of 4096 bytes, no build, token.
    let mut hello = b"\0\0\0\x30\x01dmnrpc\r\n\x02\x02\x07\x80\x20\0\x01".to_vec();
    hello.extend([5; 32]);
    assert_eq!(hello.len(), 4 + 0x30);
    let mut stream = raw(&server);
    stream.set_nodelay(true).unwrap();
    for byte in &hello {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut start = [0; 5];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(start[4], 0x11);
}

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn garbage_does_not_hurt_the_server() {
    let server = tcp_server();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut good = b"\0\0\0\x30\x01dmnrpc\r\n\x02\x02\x07\x80\x20\0\x01".to_vec();
    good.extend([5; 32]);
    good.extend(b"\0\0\0\x11\x02\x0f\x06exit 0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x03\0");
    for _ in 0..300 {
        // A conversation with some bytes changed, cut at some place.
        let mut words = good.clone();
        for _ in 0..1 + random.next() % 4 {
            let place = random.next() as usize % words.len();
            words[place] = random.next() as u8;
        }
        words.truncate(random.next() as usize % (words.len() + 1));
        let mut stream = raw(&server);
        // The server may close before it has read everything.
        let _sent = stream.write_all(&words);
        let _sent = stream.shutdown(std::net::Shutdown::Write);
        let said = answer(stream);
        assert!(said.len() < 4096);
    }
    assert_alive(&server);
}

#[test]
fn garbage_does_not_hurt_the_client() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut good =
        b"\0\0\0\x1a\x11\x02\x0btest-daemon\x010\x07\x07\0\x80\x20\x80\x80\x01\0\0".to_vec();
    good.extend(b"\0\0\0\x01\x13\0\0\0\x03\x14hi\0\0\0\x06\x18\0\0\x02\0\0");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint_of(&listener);
    thread::spawn(move || {
        for (round, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut words = good.clone();
            if round > 0 {
                for _ in 0..1 + random.next() % 3 {
                    let place = random.next() as usize % words.len();
                    words[place] = random.next() as u8;
                }
                words.truncate(random.next() as usize % (words.len() + 1));
            }
            let _sent = stream.write_all(&words);
            let _sent = stream.shutdown(std::net::Shutdown::Write);
            let _said = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let mut succeeded = 0;
    for round in 0..300 {
        let mut received = Vec::new();
        if let Ok(command) = Client::start(&endpoint, client_config(), &Command::new("echo hi")) {
            let outcome = command.finish(|frame| {
                if let daemon_rpc::OutputChunk::Stdout(bytes) = frame {
                    received.extend_from_slice(bytes);
                }
            });
            if outcome == Outcome::Finished(EndStatus::Exit(0)) {
                succeeded += 1;
                assert_eq!(received.len(), 2, "a success without its output");
            }
        }
        // The first conversation is unchanged.
        assert!(round > 0 || succeeded == 1);
    }
}
