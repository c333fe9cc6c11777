//! The fault matrix of the protocol: at every named step, on both sides, the process
//! is killed or stopped. Afterwards the next command succeeds, one daemon serves,
//! nothing is left of the broken conversation, no stranger was signalled, and no
//! output was ever taken for complete that was not.
//!
//! This program plays client and daemon itself: it runs again with
//! `roles::role_client` or `roles::role_daemon` selected and a variable that names the
//! place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../place/mod.rs"]
mod place;
mod roles;
mod stage;

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use daemon_rpc::{Command, EndStatus, Input, Interruption, Outcome, Stopped, Streams};
use rustix::process::Signal;

use place::{PATIENCE, signal};
use roles::{IDLE, daemon, input};
use stage::Stage;

/// Steps of the daemon before it has promised anything.
const DAEMON_BEFORE: [&str; 5] = [
    "server-connected",
    "server-inside-answer",
    "server-before-hello-ack",
    "server-after-hello-ack",
    "server-before-accepted",
];
/// Steps after that.
const DAEMON_AFTER: [&str; 5] = [
    "server-after-accepted",
    "server-inside-chunk",
    "server-after-chunk",
    "server-before-end",
    "server-inside-end",
];
const CLIENT: [&str; 9] = [
    "client-connected",
    "client-inside-hello",
    "client-after-hello",
    "client-inside-command",
    "client-after-command",
    "client-after-accepted",
    "client-inside-input",
    "client-after-chunk",
    "client-after-end",
];

#[test]
fn a_daemon_killed_before_it_promised_anything_is_not_even_noticed() {
    for step in DAEMON_BEFORE {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_killed_after_its_promise_is_told_and_nothing_is_repeated() {
    for step in DAEMON_AFTER {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 70, "{step}");
        stage.check(step);
    }
    // With the End everything has arrived.
    let mut stage = Stage::new();
    let fault = stage.fault("server-after-end", "kill");
    assert_eq!(stage.client(None, Some(&fault)).end(), 0);
    stage.check("server-after-end");
}

#[test]
fn a_stopped_daemon_is_waited_for() {
    for step in DAEMON_BEFORE.into_iter().chain(DAEMON_AFTER) {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let mut client = stage.client(None, Some(&fault));
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        assert!(client.child.try_wait().unwrap().is_none(), "{step}");
        signal(pid, Signal::CONT);
        assert_eq!(client.end(), 0, "{step}");
        assert_eq!(stage.the_daemon(), pid, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_that_is_killed_while_it_is_stopped_is_told() {
    for (step, code) in [
        ("server-after-hello-ack", 0),
        ("server-after-accepted", 70),
        ("server-inside-chunk", 70),
        ("server-inside-end", 70),
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let client = stage.client(None, Some(&fault));
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        signal(pid, Signal::KILL);
        assert_eq!(client.end(), code, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_killed_client_leaves_nothing_behind() {
    for step in CLIENT {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        let mut client = stage.client(Some(&fault), None);
        let status = client.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{step}");
        stage.check(step);
    }
}

#[test]
fn a_stopped_client_delays_nobody_and_goes_on_where_it_was() {
    for step in CLIENT {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let client = stage.client(Some(&fault), None);
        stage.wait_until_fired();
        stage.wait_until_stopped(client.child.id());
        assert_eq!(stage.client(None, None).end(), 0, "{step}: another client");
        signal(client.child.id(), Signal::CONT);
        assert_eq!(client.end(), 0, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_may_die_at_every_step_of_its_end() {
    for step in [
        "server-drain",
        "server-before-unlink",
        "server-after-unlink",
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0);
        let stopped = daemon(&stage.root, None).stop(PATIENCE).unwrap();
        assert!(matches!(stopped, Stopped::Ended(_)), "{step}: {stopped:?}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_that_is_stopped_in_its_end_is_waited_for_or_has_a_successor() {
    for step in [
        "server-drain",
        "server-before-unlink",
        "server-after-unlink",
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0);
        let asking = daemon(&stage.root, None);
        let ending = asking.stop(Duration::from_millis(1));
        assert!(matches!(ending, Ok(Stopped::Ending(_))), "{ending:?}");
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        let next = stage.client(None, None);
        if step == "server-after-unlink" {
            // There is a place for another one.
            assert_eq!(next.end(), 0);
            signal(pid, Signal::CONT);
        } else {
            signal(pid, Signal::CONT);
            assert_eq!(next.end(), 0);
        }
        stage.check(step);
    }
}

#[test]
fn no_command_ever_sees_that_the_daemon_ended_because_it_was_idle() {
    let stage = Stage::new();
    // SAFETY: nothing else runs in the process of this test yet.
    unsafe { env::set_var(IDLE, "3") };
    let daemon = daemon(&stage.root, None);
    let mut pids = std::collections::BTreeSet::new();
    for round in 0..80_u64 {
        // From the middle of its idle time to long after it.
        std::thread::park_timeout(Duration::from_micros(round % 30 * 200));
        let mut output = Vec::new();
        let outcome = daemon.run(
            &Command::new("echo"),
            &mut Streams {
                stdin: Some(Input::reader(io::Cursor::new(b"input"))),
                stdout: &mut output,
                stderr: &mut io::sink(),
                on_event: &mut |_| {},
            },
            |client| {
                pids.insert(client.server_version().pid);
            },
        );
        assert_eq!(
            outcome.unwrap(),
            Outcome::Finished(EndStatus::Exit(0)),
            "{round}"
        );
        assert_eq!(output, b"input");
    }
    assert!(pids.len() > 3, "it ended only {} times", pids.len());
    stage.place.wait_until_gone();
}

/// What a client makes of a stream that takes its end for success.
fn naive(socket: &Path) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut words = b"\0\0\0\x10\x01dmnrpc\r\n\x02\x02\x01\x80\x20\0\0".to_vec();
    // `echo` with an input, and its first bytes when they are asked for.
    words.extend(b"\0\0\0\x10\x02\x0e\x04echo\0\0\0\0\0\0\0\0\x01");
    stream.write_all(&words).unwrap();
    let mut output = Vec::new();
    let mut header = [0; 5];
    while stream.read_exact(&mut header).is_ok() {
        let [a, b, c, d, kind] = header;
        let mut payload = vec![0; u32::from_be_bytes([a, b, c, d]) as usize - 1];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        match kind {
            0x14 => output.extend(payload),
            0x19 => {
                let _gone = stream.write_all(b"\0\0\0\x06\x04input\0\0\0\x02\x05\0");
            }
            _ => {}
        }
    }
    output
}

#[test]
fn negative_control_the_end_of_the_connection_taken_for_success_is_found_out() {
    let mut truncated = 0;
    for step in ["server-after-accepted", "server-inside-chunk"] {
        let stage = Stage::new();
        let fault = stage.fault(step, "kill");
        let faulty = daemon(&stage.root, Some(&fault));
        // Starts it; the fault waits for a command.
        drop(faulty.connect().unwrap());
        let socket = stage.root.join("run/echo/sock");
        truncated += usize::from(naive(&socket) != b"input");
        stage.check(step);
    }
    assert_eq!(truncated, 2, "the naive rule would pass these tests");
    // The same rule and no fault: it does read what there is.
    let stage = Stage::new();
    let calm = daemon(&stage.root, None);
    drop(calm.connect().unwrap());
    assert_eq!(naive(&stage.root.join("run/echo/sock")), b"input");
    File::create(stage.fired()).unwrap();
    stage.check("no fault");
}

#[test]
fn the_reason_of_an_interruption_is_that_the_daemon_went_away() {
    let stage = Stage::new();
    let fault = stage.fault("server-inside-chunk", "kill");
    let outcome = daemon(&stage.root, Some(&fault)).run(
        &Command::new("echo"),
        &mut Streams {
            stdin: Some(Input::reader(io::Cursor::new(input()))),
            stdout: &mut io::sink(),
            stderr: &mut io::sink(),
            on_event: &mut |_| {},
        },
        |_| {},
    );
    let reason = Interruption::Closed;
    assert_eq!(outcome.unwrap(), Outcome::Interrupted { reason });
    stage.check("server-inside-chunk");
}
