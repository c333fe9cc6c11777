//! One unit on its way: look up, run, find out what it read, look up again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use vx_plan::{ActionSpec, ArtifactKind, BuildOutput, Unit, UnitKind};
use vx_proto::Digest;
use vx_proto::cas::CasClient;
use vx_proto::command::How;
use vx_proto::exec::find_messages;
use vx_proto::ext::{NextInputs, ObservedInputs};
use vx_proto::reapi::ActionResult;
use vx_tree::names_digest;

use crate::diagnostics::{self, Diagnostics};
use crate::draft::{Draft, SourceInput};
use crate::ended::{Early, Ended, Failure, RunError, Success};
use crate::executor::Ran;
use crate::inputs;
use crate::lookup::{self, Found, Position, World};
use crate::names::unit_name;
use crate::runner::Runner;
use crate::unit::{output_file, outputs_of};

/// Runs of one unit until it asks for nothing new; each one discovers variables that the one before did not know of.
const ROUNDS: usize = 8;
/// What is kept in memory of the words of an action.
const WORDS_LIMIT: u64 = 64 << 20;

/// One unit on its way.
pub(crate) struct Attempt<'a> {
    pub(crate) runner: &'a Runner,
    pub(crate) unit: &'a Unit,
    pub(crate) spec: ActionSpec,
    pub(crate) draft: Draft,
    pub(crate) early: &'a mpsc::UnboundedSender<Early>,
}

impl Attempt<'_> {
    fn cas(&self) -> &CasClient {
        &self.runner.executor.cas
    }

    /// Gets the outputs.
    pub(crate) async fn run(&self) -> Ended {
        let start = Position::start(self.draft.key()?);
        let mut found = lookup::walk(self.cas(), start, self).await?;
        for _ in 0..ROUNDS {
            let position = match found {
                Found::Result(result, position) => {
                    return self.success(&result, &position, How::Hit).await.map(Ok);
                }
                Found::Nothing(position) => position,
            };
            let draft = self.with_variables(&position);
            let ran = self.execute(&draft).await?;
            if ran.result.exit_code != 0 {
                let failure = self.failure(&draft, &ran).await?;
                let asked = NextInputs {
                    env_names: self.unknown(&failure.diagnostics.missing_variables, &position),
                    paths: Vec::new(),
                };
                if asked.env_names.is_empty() {
                    return Ok(Err(failure));
                }
                found = lookup::record_read(self.cas(), position, &asked, self).await?;
                continue;
            }
            let script = match self.script_output(&ran.result).await? {
                Ok(script) => script,
                Err(complaint) => return Ok(Err(self.refused(&draft, complaint))),
            };
            let read = self.what_it_read(&ran.result, script.as_ref()).await?;
            let incomplete = !self.unknown(&read.env_names, &position).is_empty();
            found = lookup::record_read(self.cas(), position, &read, self).await?;
            if incomplete {
                continue;
            }
            let position = match found {
                Found::Nothing(position) => {
                    lookup::record_result(self.cas(), &position, &ran.result).await?;
                    position
                }
                // Somebody was faster; what ran here may have been announced already, so it is what this build goes on with.
                Found::Result(_, position) => position,
            };
            let how = if ran.cached { How::Hit } else { How::Ran };
            return self.success(&ran.result, &position, how).await.map(Ok);
        }
        Err(RunError::Restless)
    }

    /// The draft with those variables of the user's environment that runs are known to ask for.
    fn with_variables(&self, position: &Position) -> Draft {
        let mut draft = self.draft.clone();
        for name in &position.variables {
            if let Some(value) = self.variable(name) {
                draft
                    .environment
                    .entry(name.clone())
                    .or_insert_with(|| value.to_owned());
            }
        }
        draft
    }

    /// Those of `names` that the user has set, and that a run which started at `position` did not get.
    fn unknown(&self, names: &[String], position: &Position) -> Vec<String> {
        names
            .iter()
            .filter(|name| {
                !position.variables.contains(*name)
                    && !self.draft.environment.contains_key(*name)
                    && self.variable(name).is_some()
            })
            .cloned()
            .collect()
    }

    async fn execute(&self, draft: &Draft) -> Result<Ran, RunError> {
        let runner = self.runner;
        let action = draft.prepare()?;
        runner.executor.upload(&action).await?;
        let _slot = runner.slots.take(self.unit.priority).await;
        let name = unit_name(&runner.inputs.plan, self.unit);
        runner
            .reporter
            .started(self.unit.id.0 as usize, &name)
            .await;
        if runner.verbose {
            runner.reporter.command(&name, &draft.arguments).await;
        }
        let running = runner.executor.run(&action, |file| {
            if let Ok(file) = output_file(&file) {
                // The scheduler outlives its units; without it nobody waits for this.
                let _gone = self.early.send((self.unit.id, BTreeMap::from([file])));
            }
        });
        match runner.time_limit {
            None => Ok(running.await?),
            Some(limit) => tokio::time::timeout(limit, running)
                .await
                .map_err(|_| RunError::TimedOut(limit))?
                .map_err(RunError::from),
        }
    }

    /// What a run turned out to depend on: files and directories that the executor saw it read, and variables that it told about.
    async fn what_it_read(
        &self,
        result: &ActionResult,
        script: Option<&BuildOutput>,
    ) -> Result<NextInputs, RunError> {
        let mut read = NextInputs::default();
        let metadata = result.execution_metadata.iter();
        let observed =
            metadata.flat_map(|m| find_messages::<ObservedInputs>(&m.auxiliary_metadata));
        for observed in observed.flatten() {
            read.paths.extend(observed.read_files);
            read.paths.extend(
                observed
                    .listed_directories
                    .iter()
                    .map(|path| format!("{path}/")),
            );
        }
        let mut names = match script {
            Some(script) => script.rerun_if_env_changed.clone(),
            None => self.variables_compiled_in(result).await?,
        };
        names.retain(|name| !self.draft.environment.contains_key(name));
        names.sort_unstable();
        names.dedup();
        read.env_names = names;
        Ok(read)
    }

    /// The variables that `env!` and `option_env!` looked at, which rustc notes in its dep-info.
    async fn variables_compiled_in(&self, result: &ActionResult) -> Result<Vec<String>, RunError> {
        let dep_info = self
            .spec
            .outputs
            .iter()
            .find(|f| f.kind == ArtifactKind::DepInfo);
        let Some(dep_info) = dep_info else {
            return Ok(Vec::new());
        };
        let file = result
            .output_files
            .iter()
            .find(|file| file.path.rsplit('/').next() == Some(dep_info.file_name.as_str()));
        let Some(file) = file else {
            return Ok(Vec::new());
        };
        let (_, (digest, _)) = output_file(file)?;
        let text = self.cas().read(&digest, WORDS_LIMIT).await?;
        let info = vx_plan::parse_dep_info(&String::from_utf8_lossy(&text));
        Ok(info.env.into_iter().map(|(name, _)| name).collect())
    }

    /// What a build script said, for units that run one; the inner error is what cargo would complain about.
    async fn script_output(
        &self,
        result: &ActionResult,
    ) -> Result<Result<Option<BuildOutput>, Complaint>, RunError> {
        if !self.spec.stdout_is_directives {
            return Ok(Ok(None));
        }
        let stdout = self
            .words(&result.stdout_raw, result.stdout_digest.as_ref())
            .await?;
        let parsed = self
            .runner
            .inputs
            .plan
            .parse_build_output(self.unit.id, &stdout);
        Ok(match parsed {
            Ok(output) if output.errors.is_empty() => Ok(Some(output)),
            Ok(output) => Err(Complaint {
                message: output.errors.join("\n"),
                warnings: output.warnings,
            }),
            Err(error) => Err(Complaint {
                message: error.to_string(),
                warnings: Vec::new(),
            }),
        })
    }

    fn refused(&self, draft: &Draft, complaint: Complaint) -> Failure {
        Failure {
            diagnostics: Diagnostics::default(),
            message: Some(complaint.message),
            warnings: complaint.warnings,
            command: draft.arguments.clone(),
        }
    }

    async fn words(
        &self,
        raw: &[u8],
        digest: Option<&vx_proto::reapi::Digest>,
    ) -> Result<Bytes, RunError> {
        match digest.map(Digest::try_from) {
            Some(Ok(digest)) if raw.is_empty() && !digest.is_empty() => {
                Ok(self.cas().read(&digest, WORDS_LIMIT).await?)
            }
            _ => Ok(Bytes::copy_from_slice(raw)),
        }
    }
}
impl Attempt<'_> {
    async fn success(
        &self,
        result: &ActionResult,
        position: &Position,
        how: How,
    ) -> Result<Success, RunError> {
        let mut outputs = outputs_of(&self.spec, result)?;
        let stderr = self
            .words(&result.stderr_raw, result.stderr_digest.as_ref())
            .await?;
        let mut diagnostics = Diagnostics::default();
        if self.spec.stdout_is_directives {
            // A stored result was accepted once, so there is nothing to complain about.
            outputs.script = self
                .script_output(result)
                .await?
                .ok()
                .flatten()
                .map(Arc::new);
        } else {
            diagnostics =
                diagnostics::read(&stderr, &self.runner.inputs.plan.path_map(self.unit.id));
        }
        Ok(Success {
            outputs,
            diagnostics,
            how,
            inputs: inputs::by_name(&self.draft, position, self),
            variables: position.variables.iter().cloned().collect(),
        })
    }

    async fn failure(&self, draft: &Draft, ran: &Ran) -> Result<Failure, RunError> {
        let result = &ran.result;
        let stdout = self
            .words(&result.stdout_raw, result.stdout_digest.as_ref())
            .await?;
        let stderr = self
            .words(&result.stderr_raw, result.stderr_digest.as_ref())
            .await?;
        let paths = self.runner.inputs.plan.path_map(self.unit.id);
        if self.unit.kind == UnitKind::Rustc {
            let diagnostics = diagnostics::read(&stderr, &paths);
            let message = (diagnostics.errors == 0).then(|| ended_badly(draft, ran));
            return Ok(Failure {
                diagnostics,
                message,
                warnings: Vec::new(),
                command: draft.arguments.clone(),
            });
        }
        let mut message = ended_badly(draft, ran);
        for (name, words) in [("stdout", &stdout), ("stderr", &stderr)] {
            if !words.is_empty() {
                let words = paths.to_real(&String::from_utf8_lossy(words));
                message.push_str(&format!("\n--- {name}\n{}", words.trim_end()));
            }
        }
        let said = self
            .runner
            .inputs
            .plan
            .parse_build_output(self.unit.id, &stdout);
        Ok(Failure {
            diagnostics: Diagnostics::default(),
            message: Some(message),
            // What it said may end in the middle of a line.
            warnings: said.map(|output| output.warnings).unwrap_or_default(),
            command: draft.arguments.clone(),
        })
    }
}

impl World for Attempt<'_> {
    fn content(&self, path: &str) -> Option<Digest> {
        let inside = |source: &SourceInput| {
            let rest = path.strip_prefix(source.at.as_str())?;
            rest.strip_prefix('/').map(str::to_owned)
        };
        let observed = self
            .draft
            .sources
            .iter()
            .filter(|source| source.names.is_some());
        let (source, rest) = observed
            .filter_map(|source| Some((source, inside(source)?)))
            .next()?;
        match rest.strip_suffix('/') {
            Some(directory) => Some(names_digest(source.tree.listing(directory))),
            None if rest.is_empty() => Some(names_digest(source.tree.listing(""))),
            None => source.tree.file(&rest),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        // The executor sets these for each action; the user's have no meaning there.
        if name.ends_with("MAKEFLAGS") || matches!(name, "MFLAGS" | "NUM_JOBS" | "LD_LIBRARY_PATH")
        {
            return None;
        }
        self.runner.environment.get(name).map(String::as_str)
    }
}

/// What cargo would complain about in the words of a build script that ended well.
struct Complaint {
    message: String,
    warnings: Vec<String>,
}

fn ended_badly(draft: &Draft, ran: &Ran) -> String {
    let program = draft
        .arguments
        .first()
        .map_or("the program", String::as_str);
    let code = ran.result.exit_code;
    let how = match code {
        // What shells and executors make of a signal.
        129..=192 => format!("signal: {}", code - 128),
        _ => format!("exit status: {code}"),
    };
    let mut message = format!("process didn't exit successfully: `{program}` ({how})");
    if !ran.message.is_empty() {
        message.push_str(&format!("\n{}", ran.message));
    }
    message
}
