//! The life of one connection: Hello, command, stream, end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::admit::admit;
use super::deliver::deliver;
use super::socket::{Broken, Frames, Socket};
use super::{CommandHandler, IncomingCommand, Server, output};
use crate::frame::{FrameError, HANDSHAKE_LIMIT, Kind, put};
use crate::message::{CancelMode, EndStatus, Hello, HelloAck, Refusal, encode};

/// How long to wait for a client to take its last answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one client. Whatever it sends, the worst that happens is that this
/// connection ends.
pub(super) async fn serve<H: CommandHandler>(socket: Socket, server: &Arc<Server<H>>) {
    let mut frames = Frames::new(&socket);
    let Some((ack, command)) = greet(&socket, &mut frames, server).await else {
        return;
    };
    let run = async {
        match Arc::clone(&server.commands).try_acquire_owned() {
            Err(_) => refuse(&socket, &mut frames, &Refusal::Busy).await,
            // A client that lost patience while this server was stopped expects
            // that nothing happens any more.
            Ok(_) if frames.is_gone() => {}
            Ok(slot) => run(&socket, &mut frames, server, &ack, command, slot).await,
        }
    };
    tokio::select! {
        () = run => {}
        // Long past its time; whoever still reads sees a stream without End.
        () = server.abort.cancelled() => {}
    }
}

/// Lets a client in and waits for its command; `None` if it does not come to that.
async fn greet<H>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Server<H>,
) -> Option<(HelloAck, IncomingCommand)> {
    let config = &server.config;
    // A stranger gets no answer: it would not understand it.
    let first = timeout(config.handshake_timeout, frames.next(HANDSHAKE_LIMIT)).await;
    let Ok(Ok((Kind::Hello, payload))) = first else {
        return None;
    };
    let hello = Hello::decode(&payload)?;
    let (peer_uid, client_pid) = match socket.peer().ok()? {
        Some((uid, pid)) => (Some(uid), pid),
        None => (None, None),
    };
    if let Err(refusal) = admit(config, &hello, peer_uid, server.draining.is_cancelled()) {
        refuse(socket, frames, &refusal).await;
        return None;
    }
    let ack = config.hello_ack(hello.max_frame);
    send(
        socket,
        config.handshake_timeout,
        Kind::HelloAck,
        &encode(&ack),
    )
    .await?;
    let next = tokio::select! {
        // A command that has arrived is refused as well, as nothing was promised.
        biased;
        () = server.draining.cancelled() => {
            refuse(socket, frames, &Refusal::Draining).await;
            return None;
        }
        next = timeout(
            config.command_timeout,
            frames.next(config.max_command.saturating_add(1)),
        ) => next.ok()?,
    };
    match next {
        Ok((Kind::Command, payload)) => {
            let command = IncomingCommand {
                payload,
                client_build: hello.build,
                client_pid,
            };
            Some((ack, command))
        }
        Err(Broken::Frame(FrameError::TooLong { .. })) => {
            let limit = config.max_command;
            refuse(socket, frames, &Refusal::CommandTooLong { limit }).await;
            None
        }
        // It only wanted to know who is here, or does not know the rules.
        Ok(_) | Err(_) => None,
    }
}

async fn send(socket: &Socket, patience: Duration, kind: Kind, payload: &[u8]) -> Option<()> {
    let mut frame = Vec::new();
    put(&mut frame, kind, payload);
    timeout(patience, socket.write_all(&frame)).await.ok()?.ok()
}

async fn refuse(socket: &Socket, frames: &mut Frames<'_>, refusal: &Refusal) {
    if send(socket, LINGER, Kind::Refused, &encode(refusal))
        .await
        .is_some()
    {
        linger(socket, frames).await;
    }
}

/// Closes in a way that does not destroy what the client has not read yet: with
/// unread data on this side, closing would reset the connection.
async fn linger(socket: &Socket, frames: &mut Frames<'_>) {
    socket.finish_writing();
    // Who does not close by then has to live with a reset.
    let _late = timeout(LINGER, frames.discard()).await;
}

/// Runs an admitted command to its end, or to that of its client.
async fn run<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Arc<Server<H>>,
    ack: &HelloAck,
    command: IncomingCommand,
    slot: OwnedSemaphorePermit,
) {
    let grace = server.config.grace;
    // The promise is in the kernel's hands before the command begins.
    if send(socket, grace, Kind::Accepted, &[]).await.is_none() {
        return;
    }
    let cancel = server.cancel.child_token();
    let (sink, queue) = output::channel(ack.max_frame);
    let mut task = Running(tokio::spawn({
        let (server, cancel) = (Arc::clone(server), cancel.clone());
        async move {
            // Given back when the command is really gone, however it goes, and
            // before its client can hear of it.
            let _slot = slot;
            server.handler.handle(command, sink, cancel).await
        }
    }));
    let abort = task.0.abort_handle();
    let delivered = tokio::select! {
        end = deliver(socket, queue, &mut task) => end.is_ok(),
        () = watch(frames, &cancel, &abort) => false,
    };
    if delivered {
        linger(socket, frames).await;
        return;
    }
    // Nobody waits for it any more.
    cancel.cancel();
    if !task.0.is_finished() {
        let _late = timeout(grace, task.ended()).await;
    }
}

/// Reads what the client says during its command; returns when it is gone.
async fn watch(frames: &mut Frames<'_>, cancel: &CancellationToken, abort: &AbortHandle) {
    // Anything else than a Cancel breaks the rules, which is as good as leaving.
    while let Ok((Kind::Cancel, payload)) = frames.next(HANDSHAKE_LIMIT).await {
        let Some(mode) = CancelMode::from_payload(&payload) else {
            return;
        };
        cancel.cancel();
        if mode == CancelMode::Hard {
            abort.abort();
        }
    }
}

/// A command that runs; dropping this drops it.
pub(super) struct Running(JoinHandle<EndStatus>);

impl Running {
    /// How it ended. Not to be called again after that.
    pub(super) async fn ended(&mut self) -> EndStatus {
        match (&mut self.0).await {
            Ok(status) => status,
            Err(error) if error.is_cancelled() => EndStatus::Cancelled,
            Err(_) => EndStatus::Failed {
                message: "the command panicked".to_owned(),
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
