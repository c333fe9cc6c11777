//! What a command learns of its client, and what becomes of it where one of the two
//! cannot go on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use daemon_contract::Endpoint;
use daemon_rpc::{
    Client, Command, Interruption, Outcome, OutputChunk, Streams, Terminal, WindowSize,
};

use crate::OK;
use crate::kit::{Output, PATIENCE, Server, client_config, config};

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
    let mut output = Output::default();
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
    let mut output = Output::default();
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
