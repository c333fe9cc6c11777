//! The store and the executor: found at their endpoints, or started there.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon_contract::{Endpoint, ServiceVersion};
use daemon_lifecycle::{ChildInfo, Died, Listener, ServiceSpec, SpawnTracker, StartLock};
use tonic::transport::Channel;
use vx_proto::cas::CasClient;
use vx_proto::command::ServiceStatus;
use vx_proto::connect::{self, VERIFY_TIMEOUT, VerifyError};
use vx_proto::env::Settings;
use vx_proto::exec::ExecClient;
use vx_proto::ext::VersionInfo;
use vx_proto::token::Token;
use vx_proto::{Digest, DigestFunction};

use crate::executor::Executor;

/// How long a service that was just started may take to answer; ours need milliseconds, a loaded machine more.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a service that is told to end may take before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no store or no executor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// Somebody is there who is not the service.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Nobody is there, and starting it is not our business.
    #[error("nothing answers at {endpoint}, and {service} is only started on this machine")]
    Remote {
        /// Who is expected.
        service: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: VerifyError,
    },
    /// It could not be started.
    #[error("cannot start {service} at {endpoint}")]
    Start {
        /// Who.
        service: &'static str,
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was started and ended at once.
    #[error("{service} ended right after its start: {end}")]
    Died {
        /// Who.
        service: &'static str,
        /// How, with the end of its log.
        end: Died,
    },
    /// The executor is another machine, and nobody said which kind.
    #[error("VX_EXEC is {0}, another machine; set VX_EXEC_HOST_TRIPLE to its host triple")]
    NoTriple(Endpoint),
}

/// One service that the daemon uses.
#[derive(Clone, Copy, Debug)]
struct Service {
    name: &'static str,
    endpoint: fn(&Settings) -> &Endpoint,
}

const CASD: Service = Service {
    name: "vx-casd",
    endpoint: |settings| &settings.cas,
};
const EXECD: Service = Service {
    name: "vx-execd",
    endpoint: |settings| &settings.exec,
};

/// A store and an executor that answered.
#[derive(Clone)]
pub(crate) struct Ready {
    /// Both, with what is known of their content.
    pub(crate) executor: Arc<Executor>,
    /// Fingerprint of the executor's tools.
    pub(crate) host_tools: String,
    /// The executor's host triple.
    pub(crate) host_triple: String,
    /// Actions that it runs at a time.
    pub(crate) slots: usize,
    cas_pid: u32,
    exec_pid: u32,
}

/// Keeps the services at hand, and owns those that it started.
pub(crate) struct Backends {
    settings: Settings,
    token: Token,
    children: Arc<SpawnTracker>,
    ready: tokio::sync::Mutex<Option<Ready>>,
}

impl Backends {
    /// Backends of one `VX_HOME`; nothing is started yet.
    pub(crate) fn new(settings: Settings, token: Token) -> Backends {
        Backends {
            settings,
            token,
            children: Arc::default(),
            ready: tokio::sync::Mutex::new(None),
        }
    }

    /// Both services, verified just now; started where nobody answers and the endpoint is on this machine.
    ///
    /// `trees` are directories of this machine that an executor started here may use in place of the store.
    pub(crate) async fn ready(&self, trees: &[PathBuf]) -> Result<Ready, BackendError> {
        let mut known = self.ready.lock().await;
        let remote = !self.settings.exec.is_local();
        if remote && self.settings.exec_host_triple.is_none() {
            return Err(BackendError::NoTriple(self.settings.exec.clone()));
        }
        let (cas, exec) = tokio::join!(self.ensure(CASD, trees), self.ensure(EXECD, trees));
        let ((cas_channel, cas), (exec_channel, exec)) = (cas?, exec?);
        let property = |name: &str| exec.properties.get(name).cloned().unwrap_or_default();
        let provided: HashSet<Digest> = property("provided-trees")
            .split(',')
            .filter_map(|digest| digest.parse().ok())
            .collect();
        let executor = match known.take() {
            // What is known of the content of a store holds as long as it is the same process.
            Some(ready)
                if ready.cas_pid == cas.pid
                    && ready.exec_pid == exec.pid
                    && ready.executor.provides(&provided) =>
            {
                ready.executor
            }
            _ => {
                let function = DigestFunction::Blake3;
                let cas = CasClient::new(cas_channel, Some(&self.token), function);
                let exec = ExecClient::new(exec_channel, Some(&self.token), function);
                Arc::new(Executor::new(cas, exec, provided))
            }
        };
        let ready = Ready {
            executor,
            host_tools: property("host-tools"),
            host_triple: self
                .settings
                .exec_host_triple
                .clone()
                .unwrap_or_else(|| property("host-triple")),
            slots: property("slots").parse().unwrap_or(1),
            cas_pid: cas.pid,
            exec_pid: exec.pid,
        };
        *known = Some(ready.clone());
        Ok(ready)
    }

    /// The fingerprint of the executor's tools as it is now, if an executor is running.
    pub(crate) async fn host_tools_now(&self) -> Option<String> {
        let timeout = Duration::from_secs(1);
        let version = connect::verify(&self.settings.exec, Some(&self.token), EXECD.name, timeout)
            .await
            .ok()?;
        version.properties.get("host-tools").cloned()
    }

    /// Names of services that do not answer at the moment.
    pub(crate) async fn silent(&self) -> Vec<&'static str> {
        let mut silent = Vec::new();
        for service in [CASD, EXECD] {
            let endpoint = (service.endpoint)(&self.settings);
            let answer =
                connect::verify(endpoint, Some(&self.token), service.name, VERIFY_TIMEOUT).await;
            if answer.is_err() {
                silent.push(service.name);
            }
        }
        silent
    }

    /// How both services are; starts nothing.
    pub(crate) async fn status(&self) -> Vec<ServiceStatus> {
        let mut statuses = Vec::new();
        for service in [CASD, EXECD] {
            let endpoint = (service.endpoint)(&self.settings);
            let answer =
                connect::verify(endpoint, Some(&self.token), service.name, VERIFY_TIMEOUT).await;
            let ours = self.children.alive();
            statuses.push(match answer {
                Ok(version) => ServiceStatus {
                    service: service.name.to_owned(),
                    endpoint: endpoint.to_string(),
                    started_by_daemon: ours.iter().any(|child| child.pid == version.pid),
                    version: Some(ServiceVersion::from(version)),
                    problem: None,
                },
                Err(error) => ServiceStatus {
                    service: service.name.to_owned(),
                    endpoint: endpoint.to_string(),
                    started_by_daemon: false,
                    version: None,
                    problem: Some(error.to_string()),
                },
            });
        }
        statuses
    }

    /// Ends the services that were started here, and no others. Blocks.
    pub(crate) fn end(&self) {
        self.children.kill_all(END_TIMEOUT);
    }

    async fn ensure(
        &self,
        service: Service,
        trees: &[PathBuf],
    ) -> Result<(Channel, VersionInfo), BackendError> {
        let endpoint = (service.endpoint)(&self.settings).clone();
        let open = |timeout| connect::open(&endpoint, Some(&self.token), service.name, timeout);
        // One that was started here is ours, however slow the machine is at the moment.
        let ours = !self.children.alive().is_empty();
        let patience = if ours { START_TIMEOUT } else { VERIFY_TIMEOUT };
        match open(patience).await {
            Err(source @ VerifyError::Unreachable { .. }) if !endpoint.is_local() => {
                return Err(BackendError::Remote {
                    service: service.name,
                    endpoint: endpoint.clone(),
                    source,
                });
            }
            Err(VerifyError::Unreachable { .. }) => {}
            other => return Ok(other?),
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| BackendError::Start {
            service: service.name,
            endpoint: endpoint.clone(),
            source,
        };
        // Another daemon on the same endpoints may be starting the service at this moment; the bind decides.
        let place = self.settings.home.join("run").join(format!(
            "{}-{}.lock",
            service.name,
            &Digest::of(endpoint.to_string().as_bytes()).hex()[..16]
        ));
        let (at, children) = (endpoint.clone(), self.children.clone());
        let spec = self.spec(service, trees);
        let started = tokio::task::spawn_blocking(move || start(&place, &at, &children, &spec));
        let child = match started.await.map_err(|e| failed(e.into()))? {
            Ok(Some(child)) => child,
            Ok(None) => return Ok(open(START_TIMEOUT).await?),
            Err(error) => return Err(failed(error)),
        };
        // The kernel queues the connection until the service takes it; if the service ends instead, it is reset.
        let opened = open(START_TIMEOUT).await;
        if opened.is_err()
            && let Ok(ended) = self.children.try_wait()
            && let Some(end) = ended.into_iter().find(|end| end.pid == child.pid)
        {
            return Err(BackendError::Died {
                service: service.name,
                end,
            });
        }
        Ok(opened?)
    }

    fn spec(&self, service: Service, trees: &[PathBuf]) -> ServiceSpec {
        let mut settings = self.settings.clone();
        settings.exec_trees.extend_from_slice(trees);
        let mut env = settings.to_env();
        for name in ["PATH", "HOME", "TMPDIR", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                env.push((name.into(), value));
            }
        }
        ServiceSpec {
            program: program(service.name),
            args: Vec::<OsString>::new(),
            env,
            log: self
                .settings
                .home
                .join("log")
                .join(format!("{}.log", service.name)),
            lifeline: true,
        }
    }
}

/// Starts a service unless somebody listens at its endpoint by now. Blocks.
fn start(
    lock: &Path,
    endpoint: &Endpoint,
    children: &SpawnTracker,
    spec: &ServiceSpec,
) -> Result<Option<ChildInfo>, Box<dyn std::error::Error + Send + Sync>> {
    let _lock = StartLock::acquire(lock, Instant::now() + START_TIMEOUT)?;
    match Listener::bind(endpoint) {
        Ok(listener) => Ok(Some(children.spawn(spec, listener)?)),
        Err(error) if error.is_in_use() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The program beside this one, as it is built and installed; else the one on PATH.
fn program(name: &str) -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(name)))
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
