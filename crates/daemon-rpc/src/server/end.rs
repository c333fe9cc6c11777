//! How a service ends: nothing new begins, what runs gets its time, and what does
//! not react is left behind and told of.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{CommandHandler, Server};
use crate::failpoint;

/// How long a service waits for its first client at least: on a loaded machine the
/// one who started it takes longer to connect than others are idle.
const FIRST_CLIENT: Duration = Duration::from_secs(10);

/// Waits for a reason to end, and returns when no command runs any more that
/// could be made to end.
///
/// The states, each left in this order only: serving, draining (nothing begins),
/// cancelled (commands are asked to end), aborted (their futures are dropped).
pub(super) async fn conduct<H: CommandHandler>(server: &Server<H>, shutdown: &CancellationToken) {
    let registry = &server.registry;
    let (drain, grace) = (server.config.drain, server.config.grace);
    let is_retired = tokio::select! {
        () = shutdown.cancelled() => false,
        () = server.retire.cancelled() => true,
        () = idle(server) => true,
    };
    registry.drain();
    failpoint::hit("server-drain");
    server.draining.cancel();
    if is_retired {
        tokio::select! {
            () = registry.quiet() => return,
            () = shutdown.cancelled() => {}
        }
    }
    let steps = [
        (drain, Some(&server.cancel)),
        (grace, Some(&server.abort)),
        (server.config.stuck_after, None),
    ];
    for (patience, then) in steps {
        if timeout(patience, registry.quiet()).await.is_ok() {
            return;
        }
        if let Some(then) = then {
            then.cancel();
        }
    }
    for id in registry.running() {
        server.report_stuck(id);
    }
}

/// Returns when nobody has wanted anything for long enough, and nothing begins any
/// more.
async fn idle<H: CommandHandler>(server: &Server<H>) {
    let Some(patience) = server.config.idle_exit else {
        return std::future::pending().await;
    };
    let mut activity = server.registry.activity();
    loop {
        let before = *activity.borrow_and_update();
        let change = activity.wait_for(|now| *now != before);
        let at_least = match before.changes {
            0 => FIRST_CLIENT,
            _ => Duration::from_millis(1),
        };
        if before.running > 0 || before.connections > 0 {
            let _changed = change.await;
        } else if timeout(patience.max(at_least), change).await.is_err() {
            // Who waits in the queue already is accepted and counted first.
            tokio::task::yield_now().await;
            if server.registry.drain_if_idle() {
                return;
            }
        }
    }
}
