//! How an instance is, as a [`StatusResponse`]; starts nothing, asks it nothing.

use std::time::Instant;

use daemon_contract::{HealthStatus, StatusRequest, StatusResponse};
use serde_json::{Map, Value};

use crate::Instance;
use crate::probe::{Probe, ProbeError, RunningDaemon, probe};
use crate::process::is_stopped;

/// How `instance` is, in answer to `request`.
///
/// `metadata` has, as far as they are known: `pid`, `endpoint`, `build` and `version`
/// of a daemon that runs; `stopped` if its process was stopped by a signal;
/// `foreign`, who listens in its place; `last_stop` and `last_stop_reason` if none
/// runs and somebody ended it.
///
/// # Errors
/// If the places are not this user's, or the system does not tell.
pub fn status(
    instance: &Instance,
    request: &StatusRequest,
    deadline: Instant,
) -> Result<StatusResponse, ProbeError> {
    let mut metadata = Map::new();
    metadata.insert("endpoint".into(), instance.endpoint().to_string().into());
    let (is_running, health) = match probe(instance, deadline)? {
        Probe::Absent => {
            last_stop(instance, &mut metadata);
            (false, None)
        }
        Probe::Foreign(stranger) => {
            metadata.insert("foreign".into(), stranger.to_string().into());
            (false, None)
        }
        Probe::Starting => (true, Some(HealthStatus::Starting)),
        Probe::Hidden => (true, None),
        Probe::Running(daemon) => (true, Some(health(&daemon, &mut metadata))),
    };
    let mut response = StatusResponse::new(&request.id, is_running);
    response.health_status = health;
    response.metadata = Some(metadata);
    Ok(response)
}

fn last_stop(instance: &Instance, metadata: &mut Map<String, Value>) {
    if let Some(record) = instance.last_stop() {
        metadata.insert("last_stop".into(), record.time.as_secs().into());
        metadata.insert("last_stop_reason".into(), record.reason.into());
    }
}

fn health(daemon: &RunningDaemon, metadata: &mut Map<String, Value>) -> HealthStatus {
    metadata.insert("pid".into(), daemon.identity().pid.into());
    if let Some(record) = daemon.record() {
        metadata.insert("endpoint".into(), record.endpoint.to_string().into());
        if let Some(build) = &record.build {
            metadata.insert("build".into(), build.id.clone().into());
            metadata.insert("version".into(), build.version.clone().into());
        }
    }
    if is_stopped(daemon.identity()) {
        metadata.insert("stopped".into(), true.into());
        return HealthStatus::Unresponsive;
    }
    match daemon.record().map(|record| &record.health_status) {
        Some(HealthStatus::Healthy) if !daemon.listens() => HealthStatus::Unresponsive,
        Some(health) => health.clone(),
        None => HealthStatus::Starting,
    }
}
