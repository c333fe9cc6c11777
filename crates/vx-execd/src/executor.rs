//! The life of one action: from its digest to its result.

use std::sync::Arc;
use std::time::SystemTime;

use prost_types::Any;
use tokio_util::sync::CancellationToken;
use vx_proto::Digest;
use vx_proto::causes;
use vx_proto::ext::ObservedInputs;
use vx_proto::reapi::execution_stage::Value as Stage;
use vx_proto::reapi::{Action, ActionResult, Command, ExecuteResponse, ExecutedActionMetadata};
use vx_sandbox::{Ending, Launcher, Report};

use crate::cache::Cache;
use crate::disk::Home;
use crate::early;
use crate::failure::{Failure, blocking};
use crate::host_tools::HostTools;
use crate::layout::{Job, Wanted};
use crate::outputs::{Collected, Source};
use crate::prepare::{Ready, prepare};
use crate::progress::Progress;
use crate::provided::Provided;
use crate::run::{self, Ended};
use crate::slots::Slots;
use crate::trees::Trees;

/// What actions run with.
pub(crate) struct Executor {
    pub(crate) cache: Cache,
    pub(crate) trees: Trees,
    pub(crate) provided: Provided,
    pub(crate) slots: Slots,
    pub(crate) launcher: Launcher,
    pub(crate) home: Home,
    pub(crate) host_tools: HostTools,
    /// The name of this machine in results.
    pub(crate) worker: String,
}

/// An action somebody wants to have run.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) digest: Digest,
    pub(crate) action: Action,
    pub(crate) skip_cache: bool,
    pub(crate) queued: SystemTime,
}

impl Executor {
    /// Runs an action to its end, whatever that is. Ends early, and quickly, when `cancel` is.
    pub(crate) async fn run(
        self: &Arc<Self>,
        order: Order,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> ExecuteResponse {
        match self.try_run(order, progress, cancel).await {
            Ok(response) => response,
            Err(failure) => ExecuteResponse {
                status: Some(failure.message()),
                ..ExecuteResponse::default()
            },
        }
    }

    async fn try_run(
        self: &Arc<Self>,
        order: Order,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<ExecuteResponse, Failure> {
        let mut metadata = ExecutedActionMetadata {
            worker: self.worker.clone(),
            queued_timestamp: Some(order.queued.into()),
            worker_start_timestamp: now(),
            ..ExecutedActionMetadata::default()
        };
        let preparation = async {
            if let Some(result) = self.look_up(&order, progress).await? {
                return Ok(Err(result));
            }
            progress.stage(Stage::Queued);
            metadata.input_fetch_start_timestamp = now();
            let command = vx_proto::digest::required(order.action.command_digest.as_ref())
                .map_err(|error| Failure::Invalid(format!("command: {error}")))?;
            let command: Command = self.cache.message(command).await?;
            let job = Job::of(order.action.clone(), command)?;
            self.check_host(&job).await?;
            let ready = prepare(self, &job).await?;
            metadata.input_fetch_completed_timestamp = now();
            let slot = self
                .slots
                .take()
                .await
                .map_err(Failure::local("take", "a slot"))?;
            Ok(Ok((job, ready, slot)))
        };
        let prepared: Result<_, Failure> = tokio::select! {
            prepared = preparation => prepared,
            () = cancel.cancelled() => Err(Failure::Cancelled),
        };
        let (job, ready, slot) = match prepared? {
            Ok(prepared) => prepared,
            Err(result) => {
                return Ok(ExecuteResponse {
                    result: Some(result),
                    cached_result: true,
                    ..ExecuteResponse::default()
                });
            }
        };
        progress.stage(Stage::Executing);
        metadata.execution_start_timestamp = now();
        let ended = run::run(self, &job, &ready, progress, cancel).await?;
        metadata.execution_completed_timestamp = now();
        // The outputs are somebody else's work.
        drop(slot);
        self.conclude(&order, &job, &ready, ended, metadata, progress)
            .await
    }

    async fn look_up(
        &self,
        order: &Order,
        progress: &Progress,
    ) -> Result<Option<ActionResult>, Failure> {
        if order.skip_cache || order.action.do_not_cache {
            return Ok(None);
        }
        progress.stage(Stage::CacheCheck);
        match self.cache.cas().get_action_result(&order.digest).await {
            Ok(result) => Ok(result.filter(|result| result.exit_code == 0)),
            Err(error) if error.is_unavailable() => {
                Err(Failure::store("look up the result")(error))
            }
            // A store without an action cache is no reason not to run.
            Err(error) => {
                crate::log(&format!(
                    "cannot look up `{}`: {}",
                    order.digest,
                    causes(&error)
                ));
                Ok(None)
            }
        }
    }

    async fn check_host(self: &Arc<Self>, job: &Job) -> Result<(), Failure> {
        let Some(wanted) = job.host_tools.clone() else {
            return Ok(());
        };
        let executor = Arc::clone(self);
        let ours = blocking(move || Ok(executor.host_tools.fingerprint())).await?;
        if ours == wanted {
            return Ok(());
        }
        Err(Failure::WrongHost(format!(
            "the action is for host tools `{wanted}`, this machine has `{ours}`"
        )))
    }

    async fn conclude(
        &self,
        order: &Order,
        job: &Job,
        ready: &Ready,
        ended: Ended,
        mut metadata: ExecutedActionMetadata,
        progress: &Progress,
    ) -> Result<ExecuteResponse, Failure> {
        metadata.output_upload_start_timestamp = now();
        let Ended {
            report,
            stdout,
            stderr,
        } = ended;
        let mut notes: Vec<String> = [stdout.note("stdout"), stderr.note("stderr")]
            .into_iter()
            .flatten()
            .collect();
        let exit_code = match report.ending {
            Ending::Exited(code) => code,
            Ending::Signaled(signal) => {
                notes.push(format!("the command was ended by signal {signal}"));
                128 + signal
            }
        };
        let mut collected = Collected::of(&self.cache, sources(job, ready)?).await?;
        let stdout = stdout.into_stream(&self.cache).await?;
        let stderr = stderr.into_stream(&self.cache).await?;
        for blob in [stdout.blob, stderr.blob].into_iter().flatten() {
            collected.also(blob);
        }
        let announced = progress.announced();
        if exit_code == 0 {
            early::check(&announced, |name| collected.digest_of(name))?;
        }
        collected.upload(&self.cache).await?;
        metadata.output_upload_completed_timestamp = now();
        metadata.worker_completed_timestamp = now();
        if !job.observed.is_empty() {
            metadata
                .auxiliary_metadata
                .extend(Any::from_msg(&observed(job, &report)).ok());
        }
        let mut result = ActionResult {
            exit_code,
            stdout_raw: stdout.raw,
            stdout_digest: stdout.blob.map(Into::into),
            stderr_raw: stderr.raw,
            stderr_digest: stderr.blob.map(Into::into),
            execution_metadata: Some(metadata),
            ..ActionResult::default()
        };
        collected.fill(&mut result);
        if exit_code == 0 && job.may_be_cached {
            result = self
                .publish(order.digest, result, &announced, &mut notes)
                .await;
        }
        Ok(ExecuteResponse {
            result: Some(result),
            message: notes.join("; "),
            ..ExecuteResponse::default()
        })
    }

    /// Enters the result into the action cache; the answer is the one to use.
    async fn publish(
        &self,
        action: Digest,
        result: ActionResult,
        announced: &[vx_proto::reapi::OutputFile],
        notes: &mut Vec<String>,
    ) -> ActionResult {
        match self
            .cache
            .cas()
            .update_action_result(&action, result.clone())
            .await
        {
            Ok(winner) => {
                let digest_of = |name: &str| {
                    let file = winner.output_files.iter().find(|file| file.path == name)?;
                    vx_proto::digest::required(file.digest.as_ref()).ok()
                };
                // Dependents may have started with what we announced; what they get now must fit that.
                if early::check(announced, digest_of).is_ok() {
                    return winner;
                }
                notes.push("another result was stored first, and differs".to_owned());
                result
            }
            Err(error) => {
                let why = format!(
                    "the result could not be entered into the cache: {}",
                    causes(&error)
                );
                crate::log(&why);
                notes.push(why);
                result
            }
        }
    }
}

fn sources(job: &Job, ready: &Ready) -> Result<Vec<Source>, Failure> {
    let mut wanted: Vec<&Wanted> = job.outputs.iter().chain(&job.early).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let found = wanted.into_iter().map(|wanted| ready.source(job, wanted));
    Ok(found
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

fn observed(job: &Job, report: &Report) -> ObservedInputs {
    let mut all = ObservedInputs::default();
    for seen in &report.observed {
        let Some(place) = job
            .observed
            .iter()
            .find(|place| job.inside(place) == seen.at)
        else {
            continue;
        };
        let join = |path: &String| match (place.as_str(), path.as_str()) {
            ("", path) | (path, "") => path.to_owned(),
            (place, path) => format!("{place}/{path}"),
        };
        all.read_files.extend(seen.read_files.iter().map(join));
        all.listed_directories
            .extend(seen.listed_directories.iter().map(join));
    }
    all.read_files.sort_unstable();
    all.listed_directories.sort_unstable();
    all
}

fn now() -> Option<prost_types::Timestamp> {
    Some(SystemTime::now().into())
}
