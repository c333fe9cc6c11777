//! Questions about the server itself, which every version understands.

use super::admit::is_known;
use super::connection::{linger, send};
use super::socket::{Frames, Socket};
use super::{CommandHandler, Server};
use crate::frame::Kind;
use crate::message::{Ask, Refusal, Status, WIRE_VERSION, encode};

/// Answers; whoever wants to see the end keeps its connection until then.
pub(super) async fn answer<H: CommandHandler>(
    socket: &Socket,
    frames: &mut Frames<'_>,
    server: &Server<H>,
    payload: &[u8],
) -> Option<()> {
    let (ask, token) = Ask::decode(payload)?;
    let peer = socket.peer().ok()?;
    let (reactor, patience) = (&server.reactor, server.config.handshake_timeout);
    if !is_known(&server.config, token.as_ref(), peer.map(|(uid, _)| uid)) {
        let refusal = Refusal::Denied.encode();
        send(socket, reactor, patience, Kind::Refused, &refusal).await?;
        linger(socket, frames, reactor).await;
        return None;
    }
    if matches!(ask, Ask::Stop | Ask::Retire) {
        // Before the answer, which tells that the end has begun.
        server.registry.drain();
    }
    let status = encode(&status(server));
    let sent = send(socket, reactor, patience, Kind::Status, &status).await;
    // Whoever asked is told before anything else of the end can happen.
    match ask {
        Ask::Status | Ask::Wait => {}
        Ask::Stop => server.shutdown.cancel(),
        Ask::Retire => server.retire.cancel(),
    }
    sent?;
    if ask != Ask::Status {
        tokio::select! {
            () = server.ended.cancelled() => {}
            () = frames.discard() => {}
        }
        return Some(());
    }
    linger(socket, frames, reactor).await;
    Some(())
}

fn status<H: CommandHandler>(server: &Server<H>) -> Status {
    let (is_draining, connections, running, commands) = server.registry.status();
    let clip = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Status {
        wire_min: WIRE_VERSION,
        wire_max: WIRE_VERSION,
        version: server.config.service_version(),
        build: server.config.build.clone(),
        is_draining,
        connections: clip(connections),
        uptime_secs: server.since.elapsed().as_secs(),
        running: clip(running),
        commands,
    }
}
