//! Commands from their begin to their end: output, status, cancellation, limits.

mod kit;

use std::sync::atomic::Ordering;

use daemon_rpc::{
    CancelMode, Client, Command, ConnectError, EndStatus, Interruption, Outcome, Refused,
};
use kit::{Output, PATIENCE, Server, client_config, config};

const OK: Outcome = Outcome::Finished(EndStatus::Exit(0));

#[test]
fn output_and_status_arrive_over_both_kinds_of_socket() {
    let mut tcp = config();
    tcp.token = Some([5; 32]);
    let (unix, tcp) = (Server::unix(config()), Server::tcp(tcp));
    for server in [&unix, &tcp] {
        let mut with_token = client_config();
        with_token.token = Some([5; 32]);
        let client = Client::connect(&server.endpoint, with_token.clone()).unwrap();
        assert_eq!(client.server_version().service, kit::SERVICE);
        assert_eq!(client.server_version().pid, std::process::id());
        let mut output = Output::default();
        assert_eq!(
            client.run(&Command::new("echo hi"), |frame| output.take(frame)),
            OK
        );
        assert_eq!(
            (output.stdout, output.stderr),
            (b"hi".into(), b"told".into())
        );

        // The same with everything in one write.
        let command =
            Client::start(&server.endpoint, with_token, &Command::new("echo ho")).unwrap();
        let mut output = Output::default();
        assert_eq!(command.finish(|frame| output.take(frame)), OK);
        assert_eq!(output.stdout, b"ho");
    }
}

#[test]
fn every_way_to_end_is_told_apart() {
    let server = Server::unix(config());
    assert_eq!(
        server.run("exit 101").0,
        Outcome::Finished(EndStatus::Exit(101))
    );
    let failed = |message: &str| {
        Outcome::Finished(EndStatus::Failed {
            message: message.to_owned(),
        })
    };
    assert_eq!(server.run("fail no disk").0, failed("no disk"));
    assert_eq!(server.run("nonsense").0, failed("the command panicked"));
    // A message that would not fit into a frame is cut, not lost.
    let (outcome, _) = server.run(&format!("fail {}", "x".repeat(100_000)));
    assert_eq!(outcome, failed(&"x".repeat(2048)));
    // The server lives on.
    assert_eq!(server.run("exit 0").0, OK);
}

#[test]
fn much_output_and_large_events_arrive_whole() {
    let server = Server::unix(config());
    let (outcome, output) = server.run("flood 3000001");
    assert_eq!(outcome, OK);
    assert_eq!(output.stdout.len(), 3_000_001);
    for length in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let (outcome, output) = server.run(&format!("event {length}"));
        assert_eq!(outcome, OK);
        let expected: Vec<u8> = (0..length).map(|n: u32| n as u8).collect();
        assert_eq!(output.events, [expected], "event of {length} bytes");
    }
}

#[test]
fn a_client_may_want_small_frames() {
    let server = Server::unix(config());
    let mut small = client_config();
    small.max_frame = 1;
    let client = Client::connect(&server.endpoint, small).unwrap();
    let mut longest = 0;
    let outcome = client.run(&Command::new("flood 100000"), |frame| {
        if let daemon_rpc::OutputChunk::Stdout(bytes) = frame {
            longest = longest.max(bytes.len());
        }
    });
    assert_eq!(outcome, OK);
    assert_eq!(longest, 4095);
}

#[test]
fn a_soft_cancel_reaches_the_command_and_the_end_still_comes() {
    let server = Server::unix(config());
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("wait"), |_| {
        canceller.cancel(CancelMode::Soft)
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    assert_eq!(server.seen.cancelled.load(Ordering::SeqCst), 1);
    // After the end there is nothing left to cancel.
    canceller.cancel(CancelMode::Hard);
}

#[test]
fn a_hard_cancel_ends_a_command_that_does_not_listen() {
    let server = Server::unix(config());
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("deaf"), |_| {
        canceller.cancel(CancelMode::Soft);
        canceller.cancel(CancelMode::Hard);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    server.seen.wait(|seen| &seen.dropped, 1);
}

#[test]
fn a_command_cancelled_before_it_is_sent_does_not_run() {
    let server = Server::unix(config());
    let client = server.client();
    client.canceller().cancel(CancelMode::Soft);
    let outcome = client.run(&Command::new("exit 0"), |_| {});
    let reason = Refused::Cancelled;
    assert_eq!(outcome, Outcome::NotAdmitted { reason });
    assert_eq!(server.seen.begun.load(Ordering::SeqCst), 0);
}

#[test]
fn a_client_that_leaves_ends_its_command() {
    let server = Server::unix(config());
    let client = server.client();
    let canceller = client.canceller();
    let outcome = client.run(&Command::new("wait"), |_| canceller.abandon());
    let reason = Interruption::Abandoned;
    assert_eq!(outcome, Outcome::Interrupted { reason });
    server.seen.wait(|seen| &seen.cancelled, 1);

    // One that does not listen is dropped when the grace is over.
    let client = server.client();
    let canceller = client.canceller();
    let _outcome = client.run(&Command::new("deaf"), |_| canceller.abandon());
    server.seen.wait(|seen| &seen.dropped, 2);
}

#[test]
fn a_client_that_does_not_read_holds_up_its_command_and_no_other() {
    let server = Server::unix(config());
    let client = server.client();
    let total = 64 << 20;
    let mut checked = false;
    let mut received = 0;
    let outcome = client.run(&Command::new(format!("flood {total}")), |frame| {
        if let daemon_rpc::OutputChunk::Stdout(bytes) = frame {
            received += bytes.len();
        }
        if !checked {
            checked = true;
            // While this one does not read, another one is served...
            assert_eq!(server.run("exit 0").0, OK);
            assert_eq!(server.run("flood 1000000").1.stdout.len(), 1_000_000);
            // ... and what waits for this one is its queue, what was taken from
            // it to be written, and what the kernel holds.
            let produced = server.seen.produced.load(Ordering::SeqCst) - 1_000_000;
            assert!(produced < 2 << 20, "{produced} bytes were produced ahead");
        }
    });
    assert_eq!(outcome, OK);
    assert_eq!(received, total);
}

#[test]
fn one_command_too_many_is_refused_as_busy() {
    let mut config = config();
    config.max_concurrent = 1;
    let server = Server::unix(config);
    let client = server.client();
    let canceller = client.canceller();
    let mut second = None;
    let outcome = client.run(&Command::new("wait"), |_| {
        second = Some(server.run("exit 0").0);
        canceller.cancel(CancelMode::Soft);
    });
    let reason = Refused::Busy;
    assert_eq!(second, Some(Outcome::NotAdmitted { reason }));
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    // Whoever has seen the end of one finds room for the next.
    for _ in 0..50 {
        assert_eq!(server.run("exit 0").0, OK);
    }
}

#[test]
fn a_command_may_have_the_allowed_length_and_no_more() {
    let mut config = config();
    config.max_command = 100_000;
    let server = Server::unix(config);
    // The head of a command is part of it.
    let head = 15;
    let command = |length: usize| format!("echo {}", "x".repeat(length - head - 5));
    assert_eq!(server.run(&command(100_000)).0, OK);
    let reason = Refused::CommandTooLong { limit: 100_000 };
    assert_eq!(
        server.run(&command(100_001)).0,
        Outcome::NotAdmitted { reason }
    );
    // The server says so as well, to whoever did not wait for its limits.
    for length in [100_001, 5_000_000] {
        let command = Client::start(
            &server.endpoint,
            client_config(),
            &Command::new(command(length)),
        );
        let outcome = command.unwrap().finish(|_| {});
        let reason = Refused::CommandTooLong { limit: 100_000 };
        assert_eq!(outcome, Outcome::NotAdmitted { reason }, "{length}");
    }
    assert_eq!(server.seen.begun.load(Ordering::SeqCst), 1);
}

#[test]
fn a_service_that_ends_lets_commands_finish_and_no_new_ones_in() {
    let mut config = config();
    config.drain = PATIENCE;
    let mut server = Server::unix(config);
    let early = server.client();
    let client = server.client();
    let canceller = client.canceller();
    let mut refused = None;
    let mut early = Some(early);
    let outcome = client.run(&Command::new("wait"), |_| {
        server.shutdown.cancel();
        refused = early
            .take()
            .map(|early| early.run(&Command::new("exit 0"), |_| {}));
        canceller.cancel(CancelMode::Soft);
    });
    assert_eq!(outcome, Outcome::Finished(EndStatus::Cancelled));
    assert!(
        matches!(
            refused,
            Some(Outcome::NotAdmitted {
                reason: Refused::Draining | Refused::Closed
            })
        ),
        "{refused:?}"
    );
    server.stop();
    assert!(matches!(
        Client::connect(&server.endpoint, client_config()),
        Err(ConnectError::NotRunning { .. })
    ));
}

#[test]
fn the_end_of_a_service_is_bounded_whatever_its_commands_do() {
    for (command, expected) in [
        // The one ends when it is asked to, the other is dropped; both are told.
        ("wait", Outcome::Finished(EndStatus::Cancelled)),
        ("deaf", Outcome::Finished(EndStatus::Cancelled)),
    ] {
        let mut server = Server::unix(config());
        let client = server.client();
        let shutdown = server.shutdown.clone();
        let outcome = client.run(&Command::new(command), |_| shutdown.cancel());
        assert_eq!(outcome, expected);
        server.stop();
    }
}

#[test]
fn many_clients_at_once_each_get_their_own() {
    let mut config = config();
    config.max_concurrent = 64;
    let server = Server::unix(config);
    std::thread::scope(|scope| {
        for client in 0..16 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..20 {
                    let text = format!("{client}-{round}");
                    let (outcome, output) = server.run(&format!("echo {text}"));
                    assert_eq!(outcome, OK);
                    assert_eq!(output.stdout, text.as_bytes());
                }
            });
        }
    });
    assert_eq!(server.seen.begun.load(Ordering::SeqCst), 320);
}

#[test]
fn a_connection_without_a_command_only_tells_the_version() {
    let mut config = config();
    config.properties.insert("slots".to_owned(), "4".to_owned());
    let server = Server::unix(config);
    let client = server.client();
    assert_eq!(client.server_version().properties["slots"], "4");
    drop(client);
    assert_eq!(server.run("exit 0").0, OK);
    assert_eq!(server.seen.begun.load(Ordering::SeqCst), 1);
}
