//! A command that runs: how it is begun, how it is made to end, and how it ended.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_util::sync::CancellationToken;

use super::registry::Slot;
use super::{CommandHandler, IncomingCommand, OutputSink, Server};
use crate::message::EndStatus;

/// How a command is made to end.
pub(super) struct Ending {
    /// It is asked to.
    pub(super) cancel: CancellationToken,
    /// Its client does not want to wait for that.
    pub(super) hard: CancellationToken,
    /// Its future is dropped.
    abort: CancellationToken,
    /// It runs on nevertheless.
    stuck: CancellationToken,
}

impl Ending {
    /// For a command of this server.
    pub(super) fn of<H>(server: &Server<H>) -> Ending {
        Ending {
            cancel: server.cancel.child_token(),
            hard: CancellationToken::new(),
            abort: server.abort.child_token(),
            stuck: CancellationToken::new(),
        }
    }
}

/// Begins the command.
pub(super) fn start<H: CommandHandler>(
    server: &Arc<Server<H>>,
    command: IncomingCommand<H::Payload>,
    sink: OutputSink,
    slot: Slot,
    ending: &Ending,
) -> Running {
    let (tell, status) = oneshot::channel();
    let (cancel, abort) = (ending.cancel.clone(), ending.abort.clone());
    let ours = Arc::clone(server);
    let work = async move {
        // Dropped after the slot, also when the handler panics: the place is given
        // back before the client can hear of the end.
        let tell = tell;
        let slot = slot;
        let status = tokio::select! {
            status = ours.handler.handle(command, sink, cancel) => status,
            () = abort.cancelled() => EndStatus::Cancelled,
        };
        drop(slot);
        // Nobody may be left to hear it.
        let _heard = tell.send(status);
    };
    server.spawner.spawn_foreign(work);
    Running {
        status,
        stuck: ending.stuck.clone(),
        abort: ending.abort.clone(),
    }
}

/// Gives a command that was cancelled its time, then drops it, and reports it if
/// it does not go even then.
pub(super) async fn enforce<H: CommandHandler>(
    server: &Server<H>,
    ending: &Ending,
    id: u64,
) -> Infallible {
    ending.cancel.cancelled().await;
    tokio::select! {
        () = ending.hard.cancelled() => {}
        () = ending.abort.cancelled() => {}
        () = server.reactor.sleep(server.config.grace) => {}
    }
    ending.abort.cancel();
    server.reactor.sleep(server.config.stuck_after).await;
    server.report_stuck(id);
    ending.stuck.cancel();
    std::future::pending().await
}

/// A command that runs; dropping this drops it.
pub(super) struct Running {
    status: oneshot::Receiver<EndStatus>,
    stuck: CancellationToken,
    abort: CancellationToken,
}

impl Running {
    /// How it ended, if it has. Not to be called again after that.
    pub(super) fn try_ended(&mut self) -> Option<EndStatus> {
        match self.status.try_recv() {
            Ok(status) => Some(status),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(lost()),
        }
    }

    /// How it ended. Not to be called again after that.
    pub(super) async fn ended(&mut self) -> EndStatus {
        let status = tokio::select! {
            status = &mut self.status => status,
            () = self.stuck.cancelled() => return EndStatus::failed(
                "the command was cancelled, does not react, and may still be running",
            ),
        };
        status.unwrap_or_else(|_| lost())
    }
}

/// It ended without saying how.
fn lost() -> EndStatus {
    EndStatus::failed("the command panicked")
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}
