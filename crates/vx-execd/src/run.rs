//! The time between a slot and the end of the command.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vx_sandbox::{Io, Killer, Report};

use crate::capture::{Captured, capture};
use crate::early::Watch;
use crate::executor::Executor;
use crate::failure::Failure;
use crate::layout::Job;
use crate::prepare::Ready;
use crate::progress::Progress;

/// A command that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) report: Report,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
}

/// Runs the command, publishing early outputs meanwhile.
///
/// When `cancel` comes, the time is up or something else goes wrong, everything of the command is gone on return.
pub(crate) async fn run(
    executor: &Arc<Executor>,
    job: &Job,
    ready: &Ready,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Ended, Failure> {
    let sources = job.early.iter().map(|wanted| ready.source(job, wanted));
    let sources: Vec<_> = sources
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    let mut watch = Watch::start(&sources)?;
    let pipe = Failure::local("make a pipe for", "the command");
    let (stdout, reading_stdout) = capture(ready.work.path().join("stdout")).map_err(pipe)?;
    let pipe = Failure::local("make a pipe for", "the command");
    let (stderr, reading_stderr) = capture(ready.work.path().join("stderr")).map_err(pipe)?;
    let inherited = if job.jobserver_variables.is_empty() {
        Vec::new()
    } else {
        executor
            .slots
            .pipe()
            .map_err(Failure::local("share", "the jobserver"))?
    };
    let io = Io {
        stdout,
        stderr,
        inherited,
    };
    let (hold, mut running) = start(executor, ready, io).await?;
    let streams = async { tokio::try_join!(reading_stdout, reading_stderr) };
    let publishing = async {
        match &mut watch {
            Some(watch) => {
                let published = watch
                    .publish(&executor.cache, |file| progress.early(file))
                    .await;
                match published {
                    Ok(()) => std::future::pending().await,
                    Err(failure) => failure,
                }
            }
            None => std::future::pending().await,
        }
    };
    let ending = async {
        // Both pipes end when the last process is gone, so nothing is lost by waiting for them first.
        let streams = streams
            .await
            .map_err(Failure::local("read the output of", "the command"))?;
        let report = (&mut running).await.map_err(Failure::Task)??;
        Ok((streams, report))
    };
    let failure = tokio::select! {
        ended = ending => {
            let ((stdout, stderr), report) = ended?;
            return Ok(Ended { report, stdout, stderr });
        }
        failure = publishing => failure,
        () = cancel.cancelled() => Failure::Cancelled,
        failure = time_is_up(job.timeout) => failure,
    };
    drop(hold);
    // How it ended does not matter any more, only that it did.
    drop(running.await);
    Err(failure)
}

async fn time_is_up(limit: Option<Duration>) -> Failure {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            Failure::Timeout(limit)
        }
        None => std::future::pending().await,
    }
}

type Run = JoinHandle<Result<Report, Failure>>;

/// Ends the command when it is dropped, whoever lets go of it: a runtime that shuts down drops its tasks, and would then wait for the thread that waits for the command.
struct Hold(Killer);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.kill();
    }
}

async fn start(executor: &Arc<Executor>, ready: &Ready, io: Io) -> Result<(Hold, Run), Failure> {
    let (sender, receiver) = oneshot::channel();
    let (executor, spec) = (Arc::clone(executor), ready.spec.clone());
    let running = tokio::task::spawn_blocking(move || {
        let running = executor.launcher.spawn(&spec, io).map_err(Failure::Spawn)?;
        // Nobody there means that this run is to end, which dropping it does.
        match sender.send(Hold(running.killer())) {
            Ok(()) => running.wait().map_err(Failure::Sandbox),
            Err(_) => Err(Failure::Cancelled),
        }
    });
    match receiver.await {
        Ok(hold) => Ok((hold, running)),
        Err(_) => match running.await.map_err(Failure::Task)? {
            Err(failure) => Err(failure),
            // Cannot be: a command that ran has sent its killer.
            Ok(_) => Err(Failure::Cancelled),
        },
    }
}
