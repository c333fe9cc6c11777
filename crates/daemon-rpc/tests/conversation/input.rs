//! The input of a command: all of it arrives, no more than is wanted, and an end is
//! never made up.

use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use daemon_contract::Endpoint;
use daemon_rpc::{CancelMode, Command, EndStatus, Input, Interruption, Outcome, Streams};

use crate::OK;
use crate::kit::{PATIENCE, Server, config};

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
