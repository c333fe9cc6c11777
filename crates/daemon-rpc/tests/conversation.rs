//! What a client tells its command: input, window, directory, terminal. And what it
//! may ask of the server itself. `PROTOCOL.md`, sections "Input" and "Questions".

mod kit;

use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use daemon_contract::Endpoint;
use daemon_rpc::{
    CancelMode, Client, Command, ConnectError, Daemon, EndStatus, Input, Interruption, Outcome,
    OutputChunk, Refused, Stopped, Streams, Terminal, WindowSize,
};
use kit::{PATIENCE, Server, client_config, config};

const OK: Outcome = Outcome::Finished(EndStatus::Exit(0));

/// Runs a command with this input; what became of it, and its output.
fn feed(server: &Server, command: &str, stdin: Input) -> (Outcome, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let outcome = server.client().run_with(
        &Command::new(command),
        &mut Streams {
            stdin: Some(stdin),
            stdout: &mut stdout,
            stderr: &mut stderr,
            on_event: &mut |_| {},
        },
    );
    (outcome, stdout)
}

fn daemon(endpoint: &Endpoint) -> Daemon {
    Daemon::new(endpoint.clone(), "0.1.0", client_config())
}

/// Counts what is read of it.
struct Counted<R>(R, std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.fetch_add(length, Ordering::SeqCst);
        Ok(length)
    }
}

#[test]
fn input_of_any_length_arrives_whole() {
    let server = Server::unix(config());
    for length in [0, 1, 65_536, 262_143, 262_144, 262_145, 5_000_000] {
        let input: Vec<u8> = (0..length).map(|n: u32| (n / 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&input).unwrap();
        file.rewind().unwrap();
        let (pipe, mut end) = io::pipe().unwrap();
        let written = input.clone();
        let writer = std::thread::spawn(move || end.write_all(&written).unwrap());
        for (kind, stdin) in [
            ("reader", Input::reader(io::Cursor::new(input.clone()))),
            ("file", file.into()),
            ("pipe", pipe.into()),
        ] {
            let (outcome, output) = feed(&server, "cat", stdin);
            assert_eq!(outcome, OK, "{length} bytes of a {kind}");
            assert!(output == input, "{length} bytes of a {kind}");
        }
        writer.join().unwrap();
    }
}

#[test]
fn input_and_output_take_turns_as_in_a_conversation() {
    /// Asks the next question when the last one was answered.
    struct Asking(io::PipeWriter, Vec<u8>, u8);
    impl Write for Asking {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(bytes);
            if self.2 > 0 {
                self.2 -= 1;
                self.0.write_all(&[self.2])?;
            } else {
                // The end of the input.
                self.0 = io::pipe()?.1;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = Server::unix(config());
    let (input, mut questions) = io::pipe().unwrap();
    questions.write_all(&[100]).unwrap();
    let mut stdout = Asking(questions, Vec::new(), 100);
    let outcome = server.client().run_with(
        &Command::new("cat"),
        &mut Streams {
            stdin: Some(input.into()),
            stdout: &mut stdout,
            stderr: &mut io::sink(),
            on_event: &mut |_| {},
        },
    );
    assert_eq!(outcome, OK);
    let expected: Vec<u8> = (0..=100).rev().collect();
    assert_eq!(stdout.1, expected);
}

#[test]
fn a_command_that_does_not_read_leaves_the_input_alone() {
    let server = Server::unix(config());
    let read = std::sync::Arc::default();
    let input = Counted(io::repeat(b'x'), std::sync::Arc::clone(&read));
    assert_eq!(feed(&server, "exit 0", Input::reader(input)).0, OK);
    assert_eq!(read.load(Ordering::SeqCst), 0);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"for the next program").unwrap();
    file.rewind().unwrap();
    let input = file.try_clone().unwrap();
    assert_eq!(feed(&server, "exit 0", input.into()).0, OK);
    assert_eq!(file.stream_position().unwrap(), 0);
}

#[test]
fn a_command_that_stops_reading_takes_no_more_than_its_window() {
    let server = Server::unix(config());
    let read = std::sync::Arc::default();
    let input = Counted(io::repeat(b'x'), std::sync::Arc::clone(&read));
    let client = server.client();
    let canceller = client.canceller();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.seen.wait(|seen| &seen.read, 1);
            // It has taken some, and the window may fill up again behind that.
            canceller.cancel(CancelMode::Soft);
        });
        let outcome = client.run_with(
            &Command::new("read"),
            &mut Streams {
                stdin: Some(Input::reader(input)),
                stdout: &mut io::sink(),
                stderr: &mut io::sink(),
                on_event: &mut |_| {},
            },
        );
        assert_eq!(outcome, OK);
    });
    let taken = read.load(Ordering::SeqCst);
    assert!(taken <= 2 * (256 << 10), "{taken} bytes were taken");
}

#[test]
fn an_input_that_breaks_off_is_not_its_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more paper"))
        }
    }
    let server = Server::unix(config());
    let (outcome, output) = feed(&server, "cat", Input::reader((&b"some"[..]).chain(Broken)));

    let message = "the client could not read the rest of its input".to_owned();
    assert_eq!(outcome, Outcome::Finished(EndStatus::Failed { message }));
    assert_eq!(output, b"some");

    // Nor is a file that cannot be read.
    let folder = std::fs::File::open("/").unwrap();
    let (outcome, _) = feed(&server, "cat", folder.into());
    let message = "the client could not read the rest of its input".to_owned();
    assert_eq!(outcome, Outcome::Finished(EndStatus::Failed { message }));

    // A client that dies is none either.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let client = server.client();
    let canceller = client.canceller();
    std::thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            theirs.write_all(b"some").unwrap();
            server.seen.wait(|seen| &seen.read, 8);
            canceller.abandon();
        });
        let outcome = client.run_with(
            &Command::new("cat"),
            &mut Streams {
                stdin: Some(ours.into()),
                stdout: &mut io::sink(),
                stderr: &mut io::sink(),
                on_event: &mut |_| {},
            },
        );
        let reason = Interruption::Abandoned;
        assert_eq!(outcome, Outcome::Interrupted { reason });
    });
    server.seen.wait(|seen| &seen.broken, 3);
}

#[test]
fn a_client_that_sends_more_input_than_granted_is_thrown_out() {
    let server = Server::unix(config());
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut words = b"\0\0\0\x10\x01dmnrpc\r\n\x02\x02\x07\x80\x20\0\0".to_vec();
    // `wait` with an input, and a byte of it that nobody asked for.
    words.extend(b"\0\0\0\x10\x02\x0e\x04wait\0\0\0\0\0\0\0\0\x01");
    words.extend(b"\0\0\0\x02\x04x");
    stream.write_all(&words).unwrap();
    let mut said = Vec::new();
    let _reset = stream.read_to_end(&mut said);
    assert!(!said.is_empty());
    // No End (0x18 after its length).
    assert!(!said.windows(2).any(|pair| pair == b"\x06\x18"), "{said:?}");
    server.seen.wait(|seen| &seen.cancelled, 1);
}

#[test]
fn a_command_knows_where_its_client_is() {
    let server = Server::unix(config());
    let mut config = client_config();
    config.build.id = "b7".to_owned();
    let command = Command::new("where")
        .with_cwd("/some/where")
        .with_env("KEY", "value")
        .with_terminal(Terminal {
            stdout: true,
            size: Some(WindowSize {
                columns: 80,
                rows: 24,
            }),
            term: "vt100".to_owned(),
            no_color: true,
            ..Terminal::default()
        });
    let mut output = kit::Output::default();
    let outcome = Client::connect(&server.endpoint, config)
        .unwrap()
        .run(&command, |chunk| output.take(chunk));
    assert_eq!(outcome, OK);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "Some(\"/some/where\") [(\"KEY\", \"value\")] Terminal { stdin: false, stdout: true, \
         stderr: false, size: Some(WindowSize { columns: 80, rows: 24 }), term: \"vt100\", \
         no_color: true } b7"
    );
}

#[test]
fn a_new_size_of_the_window_reaches_the_command() {
    let server = Server::unix(config());
    let client = server.client();
    let window = client.window();
    let mut output = kit::Output::default();
    let outcome = client.run(&Command::new("resize"), |chunk| {
        if chunk == OutputChunk::Stdout(b"ready") {
            window.resized(WindowSize {
                columns: 132,
                rows: 43,
            });
        } else {
            output.take(chunk);
        }
    });
    assert_eq!(outcome, OK);
    let told = b"Some(WindowSize { columns: 132, rows: 43 })";
    assert_eq!(output.stdout, told);
}

#[test]
fn a_command_of_another_kind_is_refused() {
    let server = Server::unix(config());
    let nested = Command::new("exit 0").with_payload("text").unwrap();
    // The handler's payload is `()`, which everything begins with.
    assert_eq!(server.client().run(&nested, |_| {}), OK);
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    let mut stream = UnixStream::connect(path).unwrap();
    let mut words = b"\0\0\0\x10\x01dmnrpc\r\n\x02\x02\x07\x80\x20\0\0".to_vec();
    words.extend(b"\0\0\0\x03\x02\x09x");
    stream.write_all(&words).unwrap();
    let mut said = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_end(&mut said).unwrap();
    assert!(said.ends_with(b"\0\0\0\x02\x12\x05"), "{said:?}");
}

#[test]
fn output_that_cannot_be_written_ends_the_command() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let server = Server::unix(config());
    let outcome = server.client().run_with(
        &Command::new("wait"),
        &mut Streams {
            stdin: None,
            stdout: &mut Full,
            stderr: &mut io::sink(),
            on_event: &mut |_| {},
        },
    );
    let reason = Interruption::Output {
        stream: "output",
        kind: io::ErrorKind::BrokenPipe,
    };
    assert_eq!(outcome, Outcome::Interrupted { reason });
    server.seen.wait(|seen| &seen.cancelled, 1);
}

#[test]
fn a_handler_that_blocks_is_reported_and_stops_nobody() {
    let mut config = config();
    config.max_concurrent = 1;
    config.stuck_after = Duration::from_millis(50);
    let mut server = Server::unix(config);
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("block"), |_| {
        // It blocks its own thread and no other.
        let busy = server.run("exit 0").0;
        let reason = Refused::Busy;
        assert_eq!(busy, Outcome::NotAdmitted { reason });
        canceller.cancel(CancelMode::Hard);
    });
    let Outcome::Finished(EndStatus::Failed { message }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(message.contains("may still be running"), "{message}");
    assert_eq!(server.seen.stuck.load(Ordering::SeqCst), 1);
    // It takes no place of others any more, and is still told of.
    assert_eq!(server.run("exit 0").0, OK);
    let status = daemon(&server.endpoint).status().unwrap().unwrap();
    assert_eq!(status.running, 1);
    assert!(status.commands[0].is_stuck);
    assert_eq!(status.commands[0].name, "block");
    assert_eq!(status.commands[0].client_pid, Some(std::process::id()));
    // Nor does it keep the service from ending.
    server.stop();
    server.seen.unblock.store(true, Ordering::SeqCst);
}

#[test]
fn many_handlers_that_block_at_once_stop_nobody() {
    const BLOCKED: usize = 12;
    let mut config = config();
    config.max_concurrent = BLOCKED + 4;
    config.stuck_after = Duration::from_millis(50);
    let mut server = Server::unix(config);
    let talking = server.client();
    std::thread::scope(|scope| {
        let blocked: Vec<_> = (0..BLOCKED)
            .map(|_| {
                let client = server.client();
                let canceller = client.canceller();
                let outcome = scope.spawn(move || client.run(&Command::new("block"), |_| {}));
                (canceller, outcome)
            })
            .collect();
        server.seen.wait(|seen| &seen.begun, BLOCKED);
        // All that others may want goes on: new ones, input and output, questions,
        // those that compute themselves, and being cancelled.
        assert_eq!(server.run("echo hi").1.stdout, b"hi");
        let (input, mut end) = io::pipe().unwrap();
        end.write_all(b"still there?").unwrap();
        drop(end);
        let mut answer = Vec::new();
        let outcome = talking.run_with(
            &Command::new("cat"),
            &mut Streams {
                stdin: Some(input.into()),
                stdout: &mut answer,
                stderr: &mut io::sink(),
                on_event: &mut |_| {},
            },
        );
        assert_eq!((outcome, &answer[..]), (OK, &b"still there?"[..]));
        let status = daemon(&server.endpoint).status().unwrap().unwrap();
        assert_eq!(status.running as usize, BLOCKED);
        let (outcome, output) = server.run("steps 20");
        assert_eq!(outcome, OK);
        assert_eq!(output.stdout, (0..20).collect::<Vec<u8>>());
        let waiting = server.client();
        let canceller = waiting.canceller();
        let outcome = waiting.run(&Command::new("wait"), |_| {
            canceller.cancel(CancelMode::Soft)
        });
        assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
        // Each of them hears that it is to end, and is reported since it does not.
        for (canceller, _) in &blocked {
            canceller.cancel(CancelMode::Hard);
        }
        for (_, outcome) in blocked {
            let outcome = outcome.join().unwrap();
            let Outcome::Finished(EndStatus::Failed { message }) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(message.contains("may still be running"), "{message}");
        }
    });
    assert_eq!(server.seen.stuck.load(Ordering::SeqCst), BLOCKED);
    assert_eq!(server.run("exit 0").0, OK);
    server.stop();
    server.seen.unblock.store(true, Ordering::SeqCst);
    server.seen.wait(|seen| &seen.dropped, BLOCKED);
}

#[test]
fn commands_that_compute_in_steps_and_others_get_on() {
    let mut config = config();
    config.max_concurrent = 16;
    let server = Server::unix(config);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (outcome, output) = server.run("steps 50");
                assert_eq!(outcome, OK);
                assert_eq!(output.stdout, (0..50).collect::<Vec<u8>>());
            });
        }
        for _ in 0..100 {
            assert_eq!(server.run("echo hi").1.stdout, b"hi");
        }
    });
}

#[test]
fn a_client_that_leaves_a_blocked_handler_is_noticed() {
    let mut config = config();
    config.stuck_after = Duration::from_millis(50);
    let server = Server::unix(config);
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("block"), |_| canceller.abandon());
    let reason = Interruption::Abandoned;
    assert_eq!(outcome, Outcome::Interrupted { reason });
    server.seen.wait(|seen| &seen.stuck, 1);
    server.seen.unblock.store(true, Ordering::SeqCst);
    server.seen.wait(|seen| &seen.dropped, 1);
}

#[test]
fn a_soft_cancel_becomes_a_hard_one_when_the_grace_is_over() {
    let server = Server::unix(config());
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("deaf"), |_| {
        canceller.cancel(CancelMode::Soft)
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    server.seen.wait(|seen| &seen.dropped, 1);
}

#[test]
fn every_version_may_ask_who_is_there_and_ask_it_to_end() {
    let mut config = config();
    config.build.id = "b1".to_owned();
    config.build.time = Some(1_700_000_000);
    config.drain = PATIENCE;
    let mut server = Server::unix(config);
    let mut other = client_config();
    other.protocol += 1;
    let daemon = Daemon::new(server.endpoint.clone(), "9.9.9", other);
    let status = daemon.status().unwrap().unwrap();
    assert_eq!(status.version.pid, std::process::id());
    assert_eq!(status.build.to_string(), "b1 (built at 1700000000)");
    assert!(!status.is_draining);
    assert_eq!((status.connections, status.running), (1, 0));

    // What runs may finish; meanwhile others are told.
    let client = server.client();
    let canceller = client.canceller();
    let mut ending = None;
    let outcome = client.run(&Command::new("wait"), |_| {
        ending = Some(daemon.stop(Duration::from_millis(1)).unwrap());
        let error = Client::connect(&server.endpoint, client_config()).unwrap_err();
        assert!(matches!(error, ConnectError::Draining { .. }), "{error:?}");
        assert!(daemon.status().unwrap().unwrap().is_draining);
        canceller.cancel(CancelMode::Soft);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    assert!(matches!(ending, Some(Stopped::Ending(status)) if status.running == 1));
    server.stop();
    assert_eq!(daemon.stop(PATIENCE).unwrap(), Stopped::NotRunning);
    assert_eq!(daemon.status().unwrap(), None);
    // Nothing is left.
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    assert!(!path.exists());
}

#[test]
fn the_socket_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::unix(config());
    assert_eq!(server.run("exit 0").0, OK);
    let Endpoint::Unix(path) = &server.endpoint else {
        panic!("{}", server.endpoint);
    };
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_asks_for_the_end_can_wait_for_it() {
    let mut server = Server::unix(config());
    let stopped = daemon(&server.endpoint).stop(PATIENCE).unwrap();
    assert!(matches!(stopped, Stopped::Ended(_)), "{stopped:?}");
    server.stop();
}

#[test]
fn a_stranger_may_ask_nothing() {
    let mut config = config();
    config.token = Some([5; 32]);
    let server = Server::tcp(config);
    for token in [None, Some([6; 32])] {
        let mut client = client_config();
        client.token = token;
        let daemon = Daemon::new(server.endpoint.clone(), "0.1.0", client);
        let error = daemon.status().unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
        let error = daemon.stop(PATIENCE).unwrap_err();
        assert!(matches!(error, ConnectError::Denied { .. }), "{error:?}");
    }
    assert!(!server.shutdown.is_cancelled());
}

#[test]
fn a_service_of_another_name_is_not_stopped() {
    let server = Server::unix(config());
    let mut client = client_config();
    client.service = "another".to_owned();
    let daemon = Daemon::new(server.endpoint.clone(), "0.1.0", client);
    let error = daemon.stop(PATIENCE).unwrap_err();
    assert!(matches!(error, ConnectError::Foreign { .. }), "{error:?}");
    assert!(!server.shutdown.is_cancelled());
    assert_eq!(server.run("exit 0").0, OK);
}

#[test]
fn a_service_without_work_ends() {
    let mut config = config();
    config.idle_exit = Some(Duration::from_millis(300));
    let mut server = Server::unix(config);
    let client = server.client();
    let canceller = client.canceller();
    let began = Instant::now();
    // Not while something runs, however long.
    let outcome = client.run(&Command::new("wait"), |_| {
        let status = daemon(&server.endpoint).status().unwrap().unwrap();
        assert!(!status.is_draining);
        canceller.cancel(CancelMode::Soft);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    // It ends without being asked: nobody fires the token.
    server.join();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(daemon(&server.endpoint).status().unwrap(), None);
}

#[test]
fn a_service_that_was_just_started_waits_longer_for_its_first_client() {
    let mut config = config();
    config.idle_exit = Some(Duration::from_millis(1));
    let server = Server::unix(config);
    // As a starter that gets no processor for a while; no shorter time would do.
    std::thread::park_timeout(Duration::from_millis(100));
    assert_eq!(server.run("exit 0").0, OK);
}
