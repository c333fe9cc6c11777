//! Handlers that block or do not listen: nobody else is held up.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon_rpc::{CancelMode, Command, EndStatus, Interruption, Outcome, Refused, Streams};

use crate::kit::{Server, config};
use crate::{OK, daemon};

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
