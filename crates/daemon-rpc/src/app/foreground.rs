//! A command in front of a person: with the standard streams of this process, in
//! the daemon or in this process.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use tokio_util::sync::CancellationToken;

use super::runtime;
use super::signals::Signals;
use crate::client::{
    Client, ClientConfig, Daemon, DaemonError, Input, Interruption, Outcome, Stream, Streams,
};
use crate::command::Command;
use crate::message::EndStatus;
use crate::server::{CommandHandler, ServerConfig, serve_connection};

/// Runs the command in the daemon.
pub(super) fn in_daemon(
    daemon: &Daemon,
    command: &Command,
    signals: &Signals,
) -> Result<Outcome, DaemonError> {
    with_streams(|streams| daemon.run(command, streams, |client| signals.watch(client)))
}

/// Runs the command in this process: the same protocol over a pair of sockets, so
/// that nothing behaves otherwise.
pub(super) fn in_process<H: CommandHandler>(
    client: ClientConfig,
    server: ServerConfig,
    handler: H,
    command: &Command,
    signals: &Signals,
) -> Result<Outcome, DaemonError> {
    match serve_here(client, server, handler) {
        Ok(client) => {
            signals.watch(&client);
            with_streams(|streams| Ok(client.run_with(command, streams)))
        }
        Err(error) => Ok(Outcome::Finished(EndStatus::Failed {
            message: format!("cannot run the command in this process: {error}"),
        })),
    }
}

fn serve_here<H: CommandHandler>(
    client: ClientConfig,
    server: ServerConfig,
    handler: H,
) -> Result<Client, Box<dyn std::error::Error>> {
    let (ours, theirs) = UnixStream::pair()?;
    let runtime = runtime()?;
    // It ends with the connection, and at the latest with this process.
    thread::Builder::new()
        .name("server".to_owned())
        .spawn(move || {
            let serve = serve_connection(theirs, server, handler, CancellationToken::new());
            // A connection that cannot be used is seen at its other end.
            let _served = runtime.block_on(serve);
        })?;
    Ok(Client::over(Stream::Unix(ours), &client)?)
}

fn with_streams(
    run: impl FnOnce(&mut Streams<'_>) -> Result<Outcome, DaemonError>,
) -> Result<Outcome, DaemonError> {
    // Without a buffer: what the command does not read is not read here either.
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let mut stdout = io::stdout().lock();
    let mut stderr = io::stderr().lock();
    let outcome = run(&mut Streams {
        stdin: stdin.ok().map(Input::File),
        stdout: &mut stdout,
        stderr: &mut stderr,
        // Programs with events of their own show them themselves.
        on_event: &mut |_| {},
    })?;
    // What is buffered must be written before the end is a success.
    match (io::Write::flush(&mut stdout), outcome) {
        (Err(error), Outcome::Finished(_)) => Ok(Outcome::Interrupted {
            reason: Interruption::Output {
                stream: "output",
                kind: error.kind(),
            },
        }),
        (_, outcome) => Ok(outcome),
    }
}
