//! Finding an HTTP daemon, or starting it and waiting until it is healthy.

use std::path::Path;
use std::time::{Duration, Instant};

use daemon_contract::{DaemonHandle, HealthStatus};

use super::{HttpDaemon, HttpDaemonError, HttpProbe, REQUEST};
use crate::lock::StartLock;
use crate::owned::OwnedDaemon;
use crate::spawn::ServiceSpec;

/// Pauses between two looks at a daemon that was just started, which tells nobody
/// when it is ready. Its end is noticed at once.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(100),
];

/// A daemon that was found or started.
#[derive(Debug)]
pub struct HttpEnsured {
    /// What others may know of it.
    pub handle: DaemonHandle,
    /// The right to end it, if it was started here.
    pub owned: Option<OwnedDaemon>,
}

impl HttpDaemon {
    /// Finds it healthy, or starts it and waits until it is.
    ///
    /// Of all who do so with the same `lock`, one starts it. A daemon that does not
    /// become healthy until `deadline` is ended again.
    ///
    /// # Errors
    /// Each obstacle has its own variant.
    pub fn ensure(
        &self,
        spec: &ServiceSpec,
        lock: &Path,
        deadline: Instant,
    ) -> Result<HttpEnsured, HttpDaemonError> {
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let _baton =
            StartLock::acquire(lock, deadline).map_err(|source| HttpDaemonError::Lock {
                name: self.name(),
                source,
            })?;
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let owned = OwnedDaemon::start(&self.config.daemon_name, spec).map_err(|source| {
            HttpDaemonError::Spawn {
                name: self.name(),
                source,
            }
        })?;
        self.await_healthy(owned, deadline)
    }

    fn find(&self) -> Result<Option<HttpEnsured>, HttpDaemonError> {
        match self.probe(None, REQUEST)? {
            HttpProbe::Absent => Ok(None),
            HttpProbe::Foreign(stranger) => Err(HttpDaemonError::Foreign {
                name: self.name(),
                address: self.address,
                stranger,
            }),
            HttpProbe::Running {
                health: HealthStatus::Healthy,
                ..
            } => Ok(Some(HttpEnsured {
                handle: DaemonHandle::already_running(self.name(), self.base_url()),
                owned: None,
            })),
            HttpProbe::Running { health, .. } => Err(HttpDaemonError::NotHealthy {
                name: self.name(),
                address: self.address,
                health,
            }),
        }
    }

    fn await_healthy(
        &self,
        mut owned: OwnedDaemon,
        deadline: Instant,
    ) -> Result<HttpEnsured, HttpDaemonError> {
        let last = PAUSES[PAUSES.len() - 1];
        for pause in PAUSES.into_iter().chain(std::iter::repeat(last)) {
            let died = owned
                .exited_within(pause)
                .map_err(|source| self.io(source))?;
            if let Some(died) = died {
                return Err(HttpDaemonError::Failed {
                    name: self.name(),
                    died: Box::new(died.clone()),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let timeout = left.min(REQUEST);
            if let HttpProbe::Running {
                health: HealthStatus::Healthy,
                ..
            } = self.probe(Some(owned.identity()), timeout)?
            {
                return Ok(HttpEnsured {
                    handle: owned.handle(self.base_url()),
                    owned: Some(owned),
                });
            }
        }
        let died = owned
            .stop(Duration::ZERO)
            .map_err(|source| self.io(source))?;
        Err(HttpDaemonError::NotInTime {
            name: self.name(),
            died: died.map(Box::new),
        })
    }
}
