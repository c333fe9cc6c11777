//! Ending an HTTP daemon: by its endpoint, by a signal, by force.

use std::time::{Duration, Instant};

use daemon_contract::ShutdownConfig;
use serde::Serialize;

use super::url::request;
use super::{HttpDaemon, HttpDaemonError, REQUEST};
use crate::Ended;
use crate::connection::tcp_owner;
use crate::holders;
use crate::owned::OwnedDaemon;
use crate::report::Died;

/// What the daemon is told when it is asked to end.
#[derive(Serialize)]
struct ShutdownRequest<'a> {
    #[serde(flatten)]
    config: &'a ShutdownConfig,
    reason: &'a str,
}

impl HttpDaemon {
    /// Ends a daemon that was started here: by its endpoint if it has one, is what
    /// listens there and accepts; else with SIGTERM; and with SIGKILL when the time of
    /// `config` is over.
    ///
    /// The endpoint gets a POST with `config` and `reason` as JSON.
    ///
    /// # Errors
    /// If `config` means another process, or the system refuses.
    pub fn shutdown(
        &self,
        mut owned: OwnedDaemon,
        config: &ShutdownConfig,
        reason: &str,
    ) -> Result<(Ended, Option<Died>), HttpDaemonError> {
        owned.check(config)?;
        let deadline = Instant::now().checked_add(config.graceful_timeout());
        let left = || {
            deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            })
        };
        let failed = |source| self.io(source);
        let asked = self.ask_to_end(&owned, config, reason, left().min(REQUEST))?;
        if asked {
            let died = owned.exited_within(left()).map_err(failed)?.cloned();
            if died.is_some() {
                return Ok((Ended::Itself, died));
            }
        }
        let (how, died) = owned.end(left()).map_err(failed)?;
        Ok((how, died))
    }

    /// Whether its endpoint took the request.
    fn ask_to_end(
        &self,
        owned: &OwnedDaemon,
        config: &ShutdownConfig,
        reason: &str,
        timeout: Duration,
    ) -> Result<bool, HttpDaemonError> {
        let Some(url) = &self.shutdown else {
            return Ok(false);
        };
        let host = self.address.ip().to_string();
        let owner = tcp_owner(&host, self.address.port()).map_err(|source| self.io(source))?;
        let Some(owner) = owner else {
            return Ok(false);
        };
        let processes = holders::of_socket(owner.inode).map_err(|source| self.io(source))?;
        if !processes.contains(owned.identity()) {
            return Ok(false);
        }
        let Ok(body) = serde_json::to_string(&ShutdownRequest { config, reason }) else {
            return Ok(false);
        };
        let answer = request(timeout)
            .post(url)
            .header("content-type", "application/json")
            .send(body);
        Ok(answer.is_ok_and(|answer| answer.status().is_success()))
    }
}
