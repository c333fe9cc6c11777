//! What became of the units of a build, told as it happens and summed up at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vx_plan::{Unit, UnitId};
use vx_proto::causes;
use vx_proto::command::{BuildEvent, How};
use vx_tree::Stamp;

use crate::deliver::{DeliverError, Delivery};
use crate::diagnostics::Diagnostics;
use crate::ended::{Ended, Failure, Success};
use crate::hints;
use crate::names::{artifact_profile, unit_name};
use crate::out_dir;
use crate::report::{index, quoted};
use crate::runner::Runner;
use crate::schedule::{Listener, Successes};
use crate::state::State;

/// The course of one build.
pub(crate) struct Outcome {
    state: Arc<State>,
    pub(crate) runner: Arc<Runner>,
    /// Whether programs read along, and want to know of every unit.
    for_programs: bool,
    output_root: PathBuf,
    started: Instant,
    hits: u32,
    ran: u32,
    /// Units that could not be built.
    pub(crate) failed: u32,
    /// Whether one of them failed because of a service.
    pub(crate) unserved: bool,
    /// The units that succeeded, once all is over.
    pub(crate) successes: Successes,
    delivered: Vec<PathBuf>,
    repeat: Vec<BuildEvent>,
    /// Warnings shown so far: a library and its tests have most of theirs in common.
    shown: BTreeSet<(String, String)>,
}

impl Outcome {
    /// A build that is about to begin.
    pub(crate) fn new(
        state: Arc<State>,
        runner: Arc<Runner>,
        output_root: PathBuf,
        for_programs: bool,
    ) -> Outcome {
        Outcome {
            state,
            runner,
            for_programs,
            output_root,
            started: Instant::now(),
            hits: 0,
            ran: 0,
            failed: 0,
            unserved: false,
            successes: Successes::new(),
            delivered: Vec::new(),
            repeat: Vec::new(),
            shown: BTreeSet::new(),
        }
    }

    /// Takes over the results of the units.
    pub(crate) fn conclude(&mut self, successes: Successes) {
        self.successes = successes;
    }

    /// The last event of the build.
    pub(crate) fn summary(&self, took: Duration) -> BuildEvent {
        let plan = &self.runner.inputs.plan;
        BuildEvent::Summary {
            success: self.failed == 0,
            units: index(plan.units.len()),
            hits: self.hits,
            ran: self.ran,
            up_to_date: false,
            millis: millis(took),
            profile: plan.profile.clone(),
            opt_desc: plan.profile_description(),
        }
    }

    /// Tells the last event of the build.
    pub(crate) async fn summarise(&self, reporter: &crate::report::Reporter, took: Duration) {
        reporter.event(self.summary(took)).await;
    }

    /// The files that were delivered, with their stamps; `None` if one is unknown.
    pub(crate) fn delivered_stamps(&self) -> Option<Vec<(PathBuf, Stamp)>> {
        self.delivered
            .iter()
            .map(|path| Some((path.clone(), self.state.deliverer.stamp(path)?)))
            .collect()
    }

    /// Variables that the units depend on, and those of `others`, with their values in this build.
    pub(crate) fn variables(&self, others: Vec<String>) -> HashMap<String, Option<String>> {
        let units = self.successes.values();
        let names = units.flat_map(|success| success.variables.iter().cloned());
        names
            .chain(others)
            .map(|name| {
                let value = self.runner.environment.get(&name).cloned();
                (name, value)
            })
            .collect()
    }

    /// Events that a build tells again when it has nothing to do.
    pub(crate) fn events_to_repeat(&self) -> Vec<BuildEvent> {
        self.repeat.clone()
    }

    async fn succeeded(&mut self, unit: &Unit, success: &Success) -> Result<(), DeliverError> {
        match success.how {
            How::Ran => self.ran += 1,
            How::Hit | How::UpToDate => self.hits += 1,
        }
        self.tell_diagnostics(unit, &success.diagnostics, success.how != How::Ran)
            .await;
        self.tell_script(unit, success).await?;
        self.deliver(unit, success).await?;
        let took = self.started.elapsed();
        self.runner
            .reporter
            .finished(unit.id.0 as usize, success.how, millis(took))
            .await;
        Ok(())
    }

    async fn failed(&mut self, unit: &Unit, failure: &Failure) {
        self.tell_diagnostics(unit, &failure.diagnostics, false)
            .await;
        let name = unit_name(&self.runner.inputs.plan, unit);
        for warning in &failure.warnings {
            // Of any package, since they may say why it failed.
            let text = format!("{}@{}: {warning}", name.package, name.version);
            self.runner.reporter.warning(text).await;
        }
        let hints = hints::of_failure(unit, failure);
        self.tell_failure(
            unit,
            failure.diagnostics.errors,
            failure.message.clone(),
            hints,
            Some(&failure.command),
        )
        .await;
    }

    async fn tell_failure(
        &mut self,
        unit: &Unit,
        errors: u32,
        message: Option<String>,
        hints: Vec<String>,
        command: Option<&[String]>,
    ) {
        self.failed += 1;
        let command = command.filter(|_| self.runner.verbose).map(|words| {
            words
                .iter()
                .map(|w| quoted(w))
                .collect::<Vec<_>>()
                .join(" ")
        });
        self.runner
            .reporter
            .event(BuildEvent::Failed {
                unit: index(unit.id.0 as usize),
                name: unit_name(&self.runner.inputs.plan, unit),
                errors,
                message,
                hints,
                command,
            })
            .await;
    }

    async fn tell_diagnostics(&mut self, unit: &Unit, found: &Diagnostics, replayed: bool) {
        let name = unit_name(&self.runner.inputs.plan, unit);
        let mut duplicates = 0;
        for message in &found.messages {
            let seen = !self
                .shown
                .insert((name.package_id.clone(), message.rendered.clone()));
            if seen && message.level == "warning" {
                duplicates += 1;
            }
            if seen && !self.for_programs {
                continue;
            }
            let event = |replayed| BuildEvent::Diagnostic {
                name: name.clone(),
                level: message.level.clone(),
                rendered: message.rendered.clone(),
                json: message.json.clone(),
                replayed,
            };
            self.runner.reporter.event(event(replayed)).await;
            self.repeat.push(event(true));
        }
        if found.warnings > 0 {
            let event = BuildEvent::UnitWarnings {
                name,
                count: found.warnings,
                duplicates,
            };
            self.repeat.push(event.clone());
            self.runner.reporter.event(event).await;
        }
    }

    async fn tell_script(&mut self, unit: &Unit, success: &Success) -> Result<(), DeliverError> {
        let Some(script) = &success.outputs.script else {
            return Ok(());
        };
        let plan = &self.runner.inputs.plan;
        let name = unit_name(plan, unit);
        if plan.package_of(unit).is_mutable() {
            for warning in &script.warnings {
                let text = format!("{}@{}: {warning}", name.package, name.version);
                let event = BuildEvent::Warning(text);
                self.repeat.push(event.clone());
                self.runner.reporter.event(event).await;
            }
        }
        if !self.for_programs {
            return Ok(());
        }
        let out_dir = self.output_root.join(plan.out_directory(unit.id));
        if let Some(root) = success.outputs.out_dir {
            let (deliverer, cas) = (&self.state.deliverer, &self.runner.executor.cas);
            let files = out_dir::deliver(deliverer, cas, root, &out_dir).await?;
            self.delivered.extend(files);
        }
        // What the script says names the places of its sandbox.
        let (inside, outside) = (plan.out_dir(unit.id), out_dir.to_string_lossy());
        let paths = plan.path_map(unit.id);
        let real = |text: &String| paths.to_real(&text.replace(&inside, &outside));
        let event = BuildEvent::BuildScript {
            name,
            linked_libs: script.library_links.clone(),
            linked_paths: script.library_paths.iter().map(real).collect(),
            cfgs: script.cfgs.clone(),
            env: script
                .env
                .iter()
                .map(|(name, value)| (name.clone(), real(value)))
                .collect(),
            out_dir: out_dir.clone(),
        };
        self.repeat.push(event.clone());
        self.runner.reporter.event(event).await;
        Ok(())
    }

    async fn deliver(&mut self, unit: &Unit, success: &Success) -> Result<(), DeliverError> {
        let plan = &self.runner.inputs.plan;
        let placements = plan.placements(unit.id);
        if let Some(directory) = plan.expected_directory(unit.id) {
            let path = self.output_root.join(directory);
            self.state.deliverer.make_directory(path).await?;
        }
        let mut filenames = Vec::new();
        let mut executable = None;
        for placement in &placements {
            let Some((digest, _)) = success.outputs.files.get(&placement.file_name) else {
                continue;
            };
            let path = self.output_root.join(&placement.path);
            let delivery = Delivery {
                path: path.clone(),
                digest: *digest,
                executable: placement.kind.is_executable(),
            };
            self.state
                .deliverer
                .deliver(&self.runner.executor.cas, &delivery)
                .await?;
            self.delivered.push(path.clone());
            if placement.is_executable {
                executable = Some(path.clone());
            }
            filenames.push(path);
        }
        if filenames.is_empty() && !(self.for_programs && unit.kind == vx_plan::UnitKind::Rustc) {
            return Ok(());
        }
        let event = |fresh| BuildEvent::Artifact {
            name: unit_name(plan, unit),
            profile: artifact_profile(unit),
            features: unit.features.clone(),
            filenames: filenames.clone(),
            executable: executable.clone(),
            fresh,
        };
        self.runner
            .reporter
            .event(event(success.how != How::Ran))
            .await;
        self.repeat.push(event(true));
        Ok(())
    }
}

impl Listener for Outcome {
    async fn ended(&mut self, id: UnitId, ended: &Ended) -> bool {
        let runner = self.runner.clone();
        let Some(unit) = runner.inputs.plan.unit(id) else {
            return false;
        };
        match ended {
            Ok(Ok(success)) => match self.succeeded(unit, success).await {
                Ok(()) => true,
                Err(error) => {
                    let message = causes(&error);
                    self.tell_failure(unit, 0, Some(message), hints::of_delivery(&error), None)
                        .await;
                    false
                }
            },
            Ok(Err(failure)) => {
                self.failed(unit, failure).await;
                false
            }
            Err(error) => {
                if error.is_changed_source() {
                    // An edit during the build, or a package of a registry that somebody edited: read them again next time.
                    let state = self.state.clone();
                    let _forgotten =
                        tokio::task::spawn_blocking(move || state.packages.distrust()).await;
                }
                let mut hints = hints::of_run(error);
                if error.is_of_service() {
                    self.unserved = true;
                    let gone = self.state.backends.silent().await;
                    hints.splice(0..0, gone.iter().map(|name| hints::of_silence(name)));
                }
                self.tell_failure(unit, 0, Some(causes(error)), hints, None)
                    .await;
                false
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The units that succeeded by the name that `vx explain` uses.
pub(crate) fn labelled(outcome: &Outcome) -> BTreeMap<String, (&Unit, &Success)> {
    let inputs = &outcome.runner.inputs;
    outcome
        .successes
        .iter()
        .filter_map(|(id, success)| {
            let unit = inputs.plan.unit(*id)?;
            Some((
                format!("{} {}", inputs.label(unit), unit.mode.as_str()),
                (unit, success),
            ))
        })
        .collect()
}
