//! Commands of clients: each is decoded, worked on, and ended with an exit code.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon_contract::ServiceVersion;
use daemon_rpc::{CommandHandler, EndStatus, IncomingCommand, OutputSink};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vx_proto::causes;
use vx_proto::command::{BuildEvent, Command, ServiceStatus, StatusReport};

use crate::build::{self, BuildError, Verdict};
use crate::cargo::CargoError;
use crate::clean;
use crate::hints;
use crate::packages::PackageError;
use crate::project::ProjectError;
use crate::report::{Report, Reporter};
use crate::state::State;
use crate::toolchain_command;

/// The exit code of a command that did all that was asked.
const FINE: i32 = 0;
/// The exit code of a command that could not be attempted; the last event says why.
const REFUSED: i32 = 1;
/// The exit code of a build without a store or an executor.
const NO_SERVICE: i32 = 3;
/// The exit code of a build whose store or executor did not do its part.
const BROKEN: i32 = 4;
/// The exit code of a build that failed, as cargo has it.
const FAILED: i32 = 101;

/// Serves commands from the state of the daemon.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) state: Arc<State>,
    pub(crate) version: ServiceVersion,
    /// Commands end, since the services that they use are about to.
    pub(crate) ending: CancellationToken,
    /// Ends the daemon.
    pub(crate) shutdown: CancellationToken,
}

impl CommandHandler for Service {
    type Payload = Command;

    async fn handle(
        &self,
        command: IncomingCommand<Command>,
        out: OutputSink,
        cancel: CancellationToken,
    ) -> EndStatus {
        let command = command.payload;
        self.state.active.fetch_add(1, Ordering::Relaxed);
        let (reporter, reports) = Reporter::new();
        let working = async {
            let code = self.work(&command, &reporter).await;
            drop(reporter);
            code
        };
        let ended = tokio::select! {
            (code, ()) = async { tokio::join!(working, forward(reports, &out)) } => EndStatus::Exit(code),
            // Dropping the work ends its actions. The client did not ask for it if the daemon ends.
            () = cancel.cancelled() => {
                if self.shutdown.is_cancelled() { ended_by_us() } else { EndStatus::Cancelled }
            }
            () = self.ending.cancelled(), if !matches!(command, Command::Shutdown) => ended_by_us(),
        };
        if self.state.active.fetch_sub(1, Ordering::Relaxed) == 1 {
            // After the client has its answer: nobody waits for this.
            let state = self.state.clone();
            tokio::task::spawn_blocking(move || {
                // What the command used was noted as used.
                state.toolchains.collect_daily();
                daemon_lifecycle::give_back();
            });
        }
        if matches!(command, Command::Shutdown) {
            self.shutdown.cancel();
        }
        ended
    }
}

impl Service {
    async fn work(&self, command: &Command, reporter: &Reporter) -> i32 {
        match command {
            Command::Build(request) => match build::build(&self.state, request, reporter).await {
                Ok(Verdict::Complete) => FINE,
                Ok(Verdict::Failed) => FAILED,
                Ok(Verdict::Unserved) => BROKEN,
                // Cargo has said itself what is wrong with the project.
                Err(BuildError::Project(ProjectError::Cargo(CargoError::Refused { .. }))) => FAILED,
                Err(error) => {
                    let code = refuse(reporter, &error, build_hints(&error)).await;
                    if matches!(error, BuildError::Backend(_)) {
                        NO_SERVICE
                    } else {
                        code
                    }
                }
            },
            Command::Explain(request) => {
                let (state, request) = (self.state.clone(), request.clone());
                let found =
                    tokio::task::spawn_blocking(move || state.history.explain(&request)).await;
                for explanation in found.unwrap_or_default() {
                    reporter.event(BuildEvent::Explained(explanation)).await;
                }
                FINE
            }
            Command::Status => {
                reporter
                    .event(BuildEvent::Status(self.status().await))
                    .await;
                FINE
            }
            Command::Clean(request) => match clean::clean(&self.state, request, reporter).await {
                Ok(()) => FINE,
                Err(error) => refuse(reporter, &error, Vec::new()).await,
            },
            Command::Toolchain(request) => {
                match toolchain_command::run(&self.state, request, reporter).await {
                    Ok(()) => FINE,
                    Err(error) => refuse(reporter, &error, hints::of_toolchain(&error)).await,
                }
            }
            Command::Shutdown => {
                self.ending.cancel();
                let state = self.state.clone();
                let ended = tokio::task::spawn_blocking(move || state.backends.end()).await;
                if ended.is_ok() { FINE } else { REFUSED }
            }
        }
    }

    async fn status(&self) -> StatusReport {
        let settings = &self.state.settings;
        let mut services = vec![ServiceStatus {
            service: self.version.service.clone(),
            endpoint: settings.daemon.to_string(),
            version: Some(self.version.clone()),
            problem: None,
            started_by_daemon: false,
        }];
        services.extend(self.state.backends.status().await);
        StatusReport {
            services,
            home: settings.home.clone(),
            uptime_secs: self.state.since.elapsed().as_secs(),
            active_commands: self.state.active.load(Ordering::Relaxed).saturating_sub(1),
        }
    }
}

/// The end of a command whose daemon ends before it.
fn ended_by_us() -> EndStatus {
    EndStatus::Failed {
        message: "it was told to end".to_owned(),
    }
}

async fn refuse(
    reporter: &Reporter,
    error: &(dyn std::error::Error + Sync + 'static),
    hints: Vec<String>,
) -> i32 {
    let message = causes(error);
    reporter.event(BuildEvent::Error { message, hints }).await;
    REFUSED
}

fn build_hints(error: &BuildError) -> Vec<String> {
    use crate::backends::BackendError;
    match error {
        BuildError::Toolchain(error) => hints::of_toolchain(error),
        BuildError::Backend(BackendError::Remote {
            service, endpoint, ..
        }) => vec![format!(
            "start it there, with the same VX_HOME/token: `{} {service}`",
            match *service {
                "vx-casd" => format!("VX_CAS={endpoint}"),
                _ => format!("VX_EXEC={endpoint}"),
            }
        )],
        BuildError::Backend(_) => {
            vec![
                "`vx doctor` shows who listens where; VX_CAS and VX_EXEC choose other endpoints"
                    .to_owned(),
            ]
        }
        BuildError::Package(PackageError::Verify(error)) => error.hints(),
        BuildError::Package(PackageError::Discarded(_)) => vec![hints::of_discarded()],
        BuildError::Package(_) => vec!["`cargo fetch` unpacks missing packages again".to_owned()],
        _ => Vec::new(),
    }
}

/// Sends reports to the client until there are no more.
async fn forward(mut reports: mpsc::Receiver<Report>, out: &OutputSink) {
    while let Some(report) = reports.recv().await {
        let sent = match report {
            Report::Stderr(words) => out.stderr(words).await,
            Report::Event(event) => match postcard::to_stdvec(&event) {
                Ok(bytes) => out.event(bytes).await,
                // An event of ours always has an encoding; one that had none could not be shown either.
                Err(_) => Ok(()),
            },
        };
        if sent.is_err() {
            // The client is gone; the command is being cancelled.
            reports.close();
        }
    }
}
