//! Servers that break the rules of a stream: what the client makes of them.
//! `PROTOCOL.md`, sections "Admission", "Stream" and "End".

mod kit;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use daemon_rpc::{Client, Command, EndStatus, Interruption, Outcome, OutputChunk, Refused};
use kit::{client_config, endpoint_of};

const ACK: &[u8] = b"\0\0\0\x1a\x11\x02\x0btest-daemon\x010\x07\x07\0\x80\x20\x80\x80\x01\0\0";
const ACCEPTED: &[u8] = b"\0\0\0\x01\x13";
const HI: &[u8] = b"\0\0\0\x03\x14hi";
/// Exit 0 with two bytes of standard output.
const END: &[u8] = b"\0\0\0\x06\x18\0\0\x02\0\0";

/// What a client makes of a server that says exactly this.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn outcome_of(words: &[&[u8]]) -> (Outcome, Vec<u8>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint_of(&listener);
    let words = [ACK, &words.concat()].concat();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All of the Hello, so that closing does not reset the connection.
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut hello = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut hello).unwrap();
        stream.write_all(&words).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The client is the one to close.
        let _said = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let (mut stdout, mut events) = (Vec::new(), 0);
    let client = Client::connect(&endpoint, client_config()).unwrap();
    let outcome = client.run(&Command::new("anything"), |frame| match frame {
        OutputChunk::Stdout(bytes) => stdout.extend_from_slice(bytes),
        OutputChunk::Event(_) => events += 1,
        OutputChunk::Stderr(_) => {}
    });
    server.join().unwrap();
    (outcome, stdout, events)
}

fn interrupted() -> Outcome {
    Outcome::Interrupted {
        reason: Interruption::Closed,
    }
}

fn protocol(outcome: &Outcome, what: &str) {
    match outcome {
        Outcome::Protocol { what: said } => assert!(said.contains(what), "{said}"),
        other => panic!("{other:?} instead of a protocol error: {what}"),
    }
}

#[test]
fn a_whole_stream_is_a_success_whatever_comes_after_it() {
    let success = Outcome::Finished(EndStatus::Exit(0));
    let (outcome, stdout, _) = outcome_of(&[ACCEPTED, HI, END]);
    assert_eq!((outcome, &stdout[..]), (success.clone(), &b"hi"[..]));
    let (outcome, ..) = outcome_of(&[ACCEPTED, HI, END, HI, b"garbage"]);
    assert_eq!(outcome, success);
    // Unknown frames that may be skipped count for nothing.
    let (outcome, ..) = outcome_of(&[ACCEPTED, b"\0\0\0\x04\x90abc", HI, END]);
    assert_eq!(outcome, success);
}

#[test]
fn before_accepted_nothing_has_happened() {
    let not_admitted = |reason| Outcome::NotAdmitted { reason };
    assert_eq!(outcome_of(&[]).0, not_admitted(Refused::Closed));
    for (code, reason) in [
        (1, Refused::Draining),
        (2, Refused::Busy),
        (3, Refused::Denied),
    ] {
        let refused: &[u8] = &[0, 0, 0, 2, 0x12, code];
        assert_eq!(outcome_of(&[refused]).0, not_admitted(reason));
    }
    protocol(&outcome_of(&[HI]).0, "where none is expected");
    protocol(&outcome_of(&[END]).0, "where none is expected");
}

#[test]
fn a_stream_that_just_ends_is_interrupted_wherever_it_is_cut() {
    let whole = [ACCEPTED, HI, END].concat();
    for cut in ACCEPTED.len()..whole.len() {
        let (outcome, ..) = outcome_of(&[&whole[..cut]]);
        assert_eq!(outcome, interrupted(), "cut after {cut} bytes");
    }
}

#[test]
fn an_end_that_counts_other_bytes_is_no_success() {
    protocol(&outcome_of(&[ACCEPTED, END]).0, "counts");
    protocol(&outcome_of(&[ACCEPTED, HI, HI, END]).0, "counts");
    let stderr = b"\0\0\0\x03\x15hi";
    protocol(&outcome_of(&[ACCEPTED, stderr, END]).0, "counts");
    protocol(
        &outcome_of(&[ACCEPTED, b"\0\0\0\x02\x18\x09"]).0,
        "cannot be read",
    );
}

#[test]
fn events_are_only_given_out_whole() {
    let part = b"\0\0\0\x03\x17ab";
    let last = b"\0\0\0\x02\x16c";
    let three = b"\0\0\0\x06\x18\0\0\0\0\x03";
    let (outcome, _, events) = outcome_of(&[ACCEPTED, part, last, three]);
    assert_eq!(
        (outcome, events),
        (Outcome::Finished(EndStatus::Exit(0)), 1)
    );
    let two = b"\0\0\0\x06\x18\0\0\0\0\x02";
    let (outcome, _, events) = outcome_of(&[ACCEPTED, part, two]);
    protocol(&outcome, "incomplete");
    assert_eq!(events, 0);
}

#[test]
fn frames_out_of_turn_or_size_end_the_stream() {
    protocol(&outcome_of(&[ACCEPTED, ACCEPTED]).0, "Accepted");
    protocol(&outcome_of(&[ACCEPTED, b"\0\0\0\x01\x01"]).0, "Hello");
    protocol(
        &outcome_of(&[ACCEPTED, b"\0\0\0\x01\x55"]).0,
        "unknown type",
    );
    // The server of these tests announced frames of 4096 bytes.
    protocol(
        &outcome_of(&[ACCEPTED, b"\0\0\x10\x01\x14"]).0,
        "4097 bytes",
    );
    protocol(
        &outcome_of(&[ACCEPTED, b"\xff\xff\xff\xff\x14"]).0,
        "4294967295",
    );
}
