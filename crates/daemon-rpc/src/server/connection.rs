//! The life of one connection: Hello, command, stream, end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::admit::admit;
use super::ask;
use super::deliver::deliver;
use super::executor::yield_now;
use super::reactor::Reactor;
use super::registry::Slot;
use super::running::{Ending, enforce, start};
use super::socket::{Broken, Frames, Socket};
use super::stdin::{self, StdinFeed};
use super::{CommandHandler, IncomingCommand, Server, output};
use crate::command::{Head, WindowSize};
use crate::failpoint;
use crate::frame::{DATA_CHUNK, FrameError, HANDSHAKE_LIMIT, Kind, put};
use crate::message::{CancelMode, Hello, Refusal, StdinEnd, decode};

/// How long to wait for a client to take its last answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one client. Whatever it sends, the worst that happens is that this
/// connection ends.
pub(super) async fn serve<H: CommandHandler>(socket: Socket, server: &Arc<Server<H>>) {
    failpoint::hit("server-connected");
    let mut frames = Frames::new(&socket);
    let late = async {
        server.abort.cancelled().await;
        // Commands are dropped, and who reads is told so.
        server.reactor.sleep(LINGER).await;
    };
    tokio::select! {
        _done = converse(&socket, &mut frames, server) => {}
        // Whoever still reads sees a stream without End.
        () = late => {}
    }
}

async fn converse<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Arc<Server<H>>,
) -> Option<()> {
    // Boxed, as all that most connections do not need while they wait: those that are
    // open at the same time wait for a command.
    let guest = Box::pin(greet(socket, frames, server)).await?;
    match await_command(frames, server).await {
        Ok(command) => Box::pin(carry_out(socket, frames, server, guest, command)).await,
        Err(Some(refusal)) => {
            let reactor = &server.reactor;
            Box::pin(refuse(socket, frames, reactor, guest.unsent, &refusal)).await
        }
        // It only wanted to know who is here, or does not know the rules.
        Err(None) => None,
    }
}

/// Runs the command of a client that was let in, or refuses it.
async fn carry_out<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Arc<Server<H>>,
    guest: Guest,
    command: Bytes,
) -> Option<()> {
    let (reactor, unsent) = (&server.reactor, guest.unsent);
    let Some((head, payload)) = read_command(command) else {
        return refuse(socket, frames, reactor, unsent, &Refusal::Unreadable).await;
    };
    if server.is_ending() {
        // Whoever asked for that may be heard here first.
        server.registry.drain();
    }
    let slot = match server.registry.admit(&head.name, guest.client_pid) {
        Ok(slot) => slot,
        Err(refusal) => return refuse(socket, frames, reactor, unsent, &refusal).await,
    };
    // A client that lost patience while this server was stopped expects that
    // nothing happens any more.
    if frames.is_gone() {
        return None;
    }
    let (feed, stdin) = stdin::channel(head.has_stdin);
    let (resize, window) = watch::channel(head.terminal.size);
    let command = IncomingCommand {
        id: slot.id,
        payload,
        cwd: head.cwd(),
        env: head.env(),
        terminal: head.terminal,
        name: head.name,
        window,
        stdin,
        client_build: guest.client_build,
        client_pid: guest.client_pid,
    };
    let side = ClientSide { feed, resize };
    run(
        socket,
        frames,
        server,
        guest.max_frame,
        (command, unsent),
        side,
        slot,
    )
    .await;
    Some(())
}

/// A client that was let in.
struct Guest {
    client_build: String,
    client_pid: Option<u32>,
    /// The largest frame that it takes.
    max_frame: u32,
    /// The HelloAck, if the command came with the Hello: both are answered in one
    /// write.
    unsent: Vec<u8>,
}

/// The head and the payload, if this is what the handler takes.
fn read_command<P: serde::de::DeserializeOwned>(command: Bytes) -> Option<(Head, P)> {
    let (head, payload) = Head::decode(command)?;
    Some((head, decode(&payload)?))
}

/// Lets a client in; `None` if it does not come to that.
async fn greet<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Server<H>,
) -> Option<Guest> {
    let (config, reactor) = (&server.config, &server.reactor);
    // A stranger gets no answer: it would not understand it.
    let first = frames.next(HANDSHAKE_LIMIT);
    let first = reactor.timeout(config.handshake_timeout, first).await;
    let hello = match first?.ok()? {
        (Kind::Hello, payload) => Hello::decode(&payload)?,
        (Kind::Ask, payload) => {
            ask::answer(socket, frames, server, &payload).await?;
            return None;
        }
        _ => return None,
    };
    let (peer_uid, client_pid) = match socket.peer().ok()? {
        Some((uid, pid)) => (Some(uid), pid),
        None => (None, None),
    };
    if let Err(refusal) = admit(config, &hello, peer_uid, server.is_ending()) {
        return refuse(socket, frames, reactor, Vec::new(), &refusal).await;
    }
    let client_build = hello.build;
    let (mut unsent, max_frame) = server.acknowledge(hello.max_frame);
    if !frames.has_next() {
        failpoint::hit("server-before-hello-ack");
        write(socket, reactor, config.handshake_timeout, &unsent).await?;
        failpoint::hit("server-after-hello-ack");
        unsent = Vec::new();
    }
    Some(Guest {
        client_build,
        client_pid,
        max_frame,
        unsent,
    })
}

/// Waits for the command of a client that was let in; otherwise says why it is
/// refused, if that is worth a word.
async fn await_command<H: CommandHandler>(
    frames: &mut Frames<'_>,
    server: &Server<H>,
) -> Result<Bytes, Option<Refusal>> {
    let config = &server.config;
    let next = frames.next(config.max_command.saturating_add(1));
    let next = tokio::select! {
        // A command that has arrived is refused as well, as nothing was promised.
        biased;
        () = server.draining.cancelled() => return Err(Some(Refusal::Draining)),
        next = server.reactor.timeout(config.command_timeout, next) => next,
    };
    match next {
        Some(Ok((Kind::Command, command))) => Ok(command),
        Some(Err(Broken::Frame(FrameError::TooLong { .. }))) => {
            let limit = config.max_command;
            Err(Some(Refusal::CommandTooLong { limit }))
        }
        _ => Err(None),
    }
}

pub(super) async fn send(
    socket: &Socket,
    reactor: &Reactor,
    patience: Duration,
    kind: Kind,
    payload: &[u8],
) -> Option<()> {
    let mut frame = Vec::new();
    put(&mut frame, kind, payload);
    write(socket, reactor, patience, &frame).await
}

async fn write(socket: &Socket, reactor: &Reactor, patience: Duration, bytes: &[u8]) -> Option<()> {
    let written = socket.write_all(bytes, "server-inside-answer");
    reactor.timeout(patience, written).await?.ok()
}

/// Says no, after what is still unsent: there is never anything to go on with.
async fn refuse<T>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    reactor: &Reactor,
    unsent: Vec<u8>,
    refusal: &Refusal,
) -> Option<T> {
    let mut bytes = unsent;
    put(&mut bytes, Kind::Refused, &refusal.encode());
    write(socket, reactor, LINGER, &bytes).await?;
    linger(socket, frames, reactor).await;
    None
}

/// Closes in a way that does not destroy what the client has not read yet: with
/// unread data on this side, closing would reset the connection.
pub(super) async fn linger(socket: &Socket, frames: &mut Frames<'_>, reactor: &Reactor) {
    socket.finish_writing();
    // Who does not close by then has to live with a reset.
    let _late = reactor.timeout(LINGER, frames.discard()).await;
}

/// What a client may tell its command while it runs.
struct ClientSide {
    feed: StdinFeed,
    resize: watch::Sender<Option<WindowSize>>,
}

/// Runs an admitted command to its end, or to that of its client.
async fn run<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Arc<Server<H>>,
    max_frame: u32,
    (command, mut answer): (IncomingCommand<H::Payload>, Vec<u8>),
    side: ClientSide,
    slot: Slot,
) {
    let id = slot.id;
    // The promise is in the kernel's hands before the command begins.
    let patience = server.config.grace;
    failpoint::hit("server-before-accepted");
    put(&mut answer, Kind::Accepted, &[]);
    let reactor = &server.reactor;
    if write(socket, reactor, patience, &answer).await.is_none() {
        return;
    }
    failpoint::hit("server-after-accepted");
    let ending = Ending::of(server);
    let (sink, queue) = output::channel(max_frame);
    let mut task = start(server, command, sink, slot, &ending);
    // It has its first turn before this goes on: what a short command says and that it
    // ended are one write then, and nothing is waited for.
    yield_now().await;
    let mut enforced = pin!(enforce(server, &ending, id));
    let delivered = tokio::select! {
        end = deliver(socket, queue, &side.feed, &mut task) => end.is_ok(),
        () = watch(frames, &side, &ending) => false,
        never = &mut enforced => match never {},
    };
    side.feed.gone();
    if delivered {
        if socket.is_fragile() {
            linger(socket, frames, reactor).await;
        }
        return;
    }
    // Nobody waits for it any more.
    ending.cancel.cancel();
    tokio::select! {
        _nobody_hears_it = task.ended() => {}
        never = &mut enforced => match never {},
    }
}

/// Reads what the client says during its command; returns when it is gone, or
/// breaks the rules, which is as good as leaving.
async fn watch(frames: &mut Frames<'_>, side: &ClientSide, ending: &Ending) {
    while let Ok((kind, payload)) = frames.next(DATA_CHUNK as u32 + 1).await {
        let is_valid = match kind {
            Kind::Cancel => CancelMode::from_payload(&payload).map(|mode| {
                ending.cancel.cancel();
                if mode == CancelMode::Hard {
                    ending.hard.cancel();
                }
            }),
            Kind::Stdin => side.feed.bytes(&payload).then_some(()),
            Kind::StdinEnd => StdinEnd::from_payload(&payload)
                .filter(|end| side.feed.end(*end))
                .map(drop),
            Kind::Resize => decode(&payload).map(|size| {
                side.resize.send_replace(Some(size));
            }),
            _ => None,
        };
        if is_valid.is_none() {
            return;
        }
    }
}
