//! One build, from the request to the summary.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vx_plan::{Plan, SourceKind};
use vx_proto::command::{BuildEvent, BuildRequest};
use vx_tree::SourceTree;

use crate::backends::{BackendError, Ready};
use crate::cargo_home::CargoHomeError;
use crate::changed;
use crate::memory::{Memory, RequestKey, Standing};
use crate::outcome::Outcome;
use crate::packages::PackageError;
use crate::project::{Project, ProjectError, manifest_digest, toolchain_stamps};
use crate::report::Reporter;
use crate::runner::Runner;
use crate::schedule;
use crate::slots::Slots;
use crate::state::State;
use crate::toolchains::ToolchainError;
use crate::unit::BuildInputs;
use crate::verify::Immutable;
use crate::workspace::{Sources, SourcesError, Surroundings};

/// Actions that are sent to the executor beyond what it runs at a time.
const AHEAD: usize = 2;

/// Why a build could not be attempted at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// No toolchain, or one that cannot be an input.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// Nowhere to fetch dependencies to.
    #[error(transparent)]
    CargoHome(#[from] CargoHomeError),
    /// No plan.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// Sources that cannot be read.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A package that cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// No store or no executor.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The executor runs on another kind of machine than the toolchain.
    #[error("the executor runs on `{executor}`, but the toolchain is for `{toolchain}`")]
    OtherMachine {
        /// Its host triple.
        executor: String,
        /// That of the toolchain.
        toolchain: String,
    },
    /// A task of the daemon failed.
    #[error("a task of the daemon ended early")]
    Task(#[from] tokio::task::JoinError),
}

/// A project with its sources as they are now.
struct Prospect {
    project: Arc<Project>,
    sources: Sources,
    trees: Vec<Arc<SourceTree>>,
    surroundings: Surroundings,
}

/// What became of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that was asked for is there.
    Complete,
    /// Something of it could not be built.
    Failed,
    /// The store or the executor did not do its part, so that nobody knows whether it could be built.
    Unserved,
}

/// Builds what `request` asks for.
///
/// # Errors
///
/// What keeps the build from being attempted; failures of the code that is built are told to `reporter`.
pub(crate) async fn build(
    state: &Arc<State>,
    request: &BuildRequest,
    reporter: &Reporter,
) -> Result<Verdict, BuildError> {
    let started = Instant::now();
    let key = RequestKey::of(request);
    let _turn = state.turns.take(key, reporter).await;
    let known = state.memory.get(&key);
    if let Some(memory) = &known
        && let Some(standing) = &memory.standing
        && is_up_to_date(state, request, memory, standing).await?
    {
        standing.replay(reporter, started.elapsed()).await;
        return Ok(Verdict::Complete);
    }
    let prospect = survey(state, request, reporter, known.as_deref()).await?;
    let sysroot = &prospect.project.toolchain.sysroot;
    let _lease = state.toolchains.lease(sysroot).await?;
    let plan = prospect.project.plan(request)?;
    reporter
        .event(BuildEvent::Planned {
            units: crate::report::index(plan.units.len()),
            profile: plan.profile.clone(),
        })
        .await;
    let (ready, inputs) = gather(state, &prospect, plan, reporter).await?;
    let output_root = prospect.project.output_root();
    let outcome = execute(state, request, reporter, &ready, inputs, output_root).await;
    let verdict = match outcome.failed {
        0 => Verdict::Complete,
        _ if outcome.unserved => Verdict::Unserved,
        _ => Verdict::Failed,
    };
    outcome.summarise(reporter, started.elapsed()).await;
    let outcome = Arc::new(outcome);
    tokio::task::spawn_blocking({
        let (state, outcome) = (state.clone(), outcome.clone());
        let root = prospect.project.workspace_root.clone();
        move || state.history.record(&root, &outcome)
    })
    .await?;
    let standing = if verdict == Verdict::Complete {
        Standing::after(
            &prospect.sources,
            &outcome,
            &ready.host_tools,
            prospect.project.configured_variables(),
        )
    } else {
        None
    };
    state.memory.insert(
        key,
        Memory {
            manifests: manifest_digest(&prospect.trees),
            surroundings: prospect.surroundings,
            project: prospect.project,
            standing,
        },
    );
    Ok(verdict)
}

/// Whether nothing has changed since the last build of the same request.
async fn is_up_to_date(
    state: &State,
    request: &BuildRequest,
    memory: &Memory,
    standing: &Standing,
) -> Result<bool, BuildError> {
    let environment: HashMap<&str, &str> = request
        .env
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    if !standing.variables_hold(&environment) {
        return Ok(false);
    }
    let (cwd, env) = (request.cwd.clone(), request.env.clone());
    let (project, expected) = (memory.project.clone(), memory.surroundings.clone());
    let (then, outputs) = (standing.sources.clone(), standing.outputs.clone());
    let channels = state.toolchains.store.channels();
    let holds = tokio::task::spawn_blocking(move || {
        Ok::<_, SourcesError>(
            Surroundings::of(&cwd, &env, channels) == expected
                && toolchain_stamps(&project.toolchain) == project.toolchain_stamps
                && outputs
                    .iter()
                    .all(|(path, stamp)| crate::memory::has_stamp(path, stamp))
                && Sources::list(&project.roots, &project.target_directory)? == then,
        )
    });
    // A directory that cannot be listed any more is for the real build to complain about.
    if !holds.await?.unwrap_or(false) {
        return Ok(false);
    }
    // An executor that is not running has no tools that could have changed under us.
    let tools = state.backends.host_tools_now().await;
    Ok(tools.is_none_or(|tools| tools == standing.host_tools))
}

/// Finds out what the project is, from memory where nothing that cargo reads has changed.
async fn survey(
    state: &State,
    request: &BuildRequest,
    reporter: &Reporter,
    known: Option<&Memory>,
) -> Result<Prospect, BuildError> {
    let surroundings = surroundings_of(state, request).await?;
    if let Some(memory) = known
        && memory.surroundings == surroundings
        && memory.project.has_its_toolchain().await
        && let Ok((sources, trees)) = read_sources(state, &memory.project).await
        && manifest_digest(&trees) == memory.manifests
    {
        return Ok(Prospect {
            project: memory.project.clone(),
            sources,
            trees,
            surroundings,
        });
    }
    let toolchain = state.toolchains.of_build(request, reporter).await?;
    let home = tokio::task::spawn_blocking({
        let (homes, request) = (state.cargo_homes.clone(), request.clone());
        move || homes.prepare(&request)
    });
    let home = home.await??;
    let asked = Project::ask(toolchain, request, &home, reporter).await;
    if let Err(ProjectError::Cargo(error)) = &asked {
        changed::explain(state, request, &home, error, reporter).await;
    }
    let project = Arc::new(asked?);
    let (sources, trees) = read_sources(state, &project).await?;
    // Cargo may have written a lock file.
    let surroundings = surroundings_of(state, request).await?;
    for path in sources.unusable() {
        let text = format!(
            "`{}` is not visible to the build: it is no file, or its name is not UTF-8",
            path.display()
        );
        reporter.warning(text).await;
    }
    Ok(Prospect {
        project,
        sources,
        trees,
        surroundings,
    })
}

async fn surroundings_of(
    state: &State,
    request: &BuildRequest,
) -> Result<Surroundings, BuildError> {
    let (cwd, env) = (request.cwd.clone(), request.env.clone());
    let channels = state.toolchains.store.channels();
    let look = move || Surroundings::of(&cwd, &env, channels);
    Ok(tokio::task::spawn_blocking(look).await?)
}

async fn read_sources(
    state: &State,
    project: &Arc<Project>,
) -> Result<(Sources, Vec<Arc<SourceTree>>), BuildError> {
    let (project, digests) = (project.clone(), state.digests.clone());
    let read = tokio::task::spawn_blocking(move || {
        let sources = Sources::list(&project.roots, &project.target_directory)?;
        let trees = sources.hash(&digests)?;
        Ok::<_, SourcesError>((sources, trees))
    });
    Ok(read.await??)
}

/// Everything that the units' actions are made from, and the services that run them.
async fn gather(
    state: &Arc<State>,
    prospect: &Prospect,
    plan: Plan,
    reporter: &Reporter,
) -> Result<(Ready, BuildInputs), BuildError> {
    let toolchain = prospect.project.toolchain.clone();
    // An executor of this machine can use a toolchain in place if the folders hold nothing else.
    let directories = match toolchain.has_own_folder() {
        true => toolchain.directories().to_vec(),
        false => Vec::new(),
    };
    let host = toolchain.host.clone();
    let trees = tokio::task::spawn_blocking({
        let state = state.clone();
        move || {
            let records = state.trees();
            state.toolchains.trees(&toolchain, &records)
        }
    });
    let packages = tokio::task::spawn_blocking({
        let state = state.clone();
        let (immutable, vendored) = packages_of_others(&plan);
        move || {
            let mut packages = state.packages.trees(&immutable)?;
            for package in &vendored {
                let tree = state.packages.vendored(package, &state.digests)?;
                let root = package.root.to_string_lossy().into_owned();
                packages.trees.insert(root, tree);
            }
            Ok::<_, PackageError>(packages)
        }
    });
    let ready = state.backends.ready(&directories).await?;
    if ready.host_triple != host {
        return Err(BuildError::OtherMachine {
            executor: ready.host_triple,
            toolchain: host,
        });
    }
    let packages = packages.await??;
    if !packages.unchecked.is_empty() {
        let text = format!(
            "there is no archive to compare the sources of {} with; they are used as they are",
            packages.unchecked.join(", ")
        );
        reporter.warning(text).await;
    }
    let toolchain: Vec<_> = trees
        .await??
        .into_iter()
        .map(|part| (part.name, Arc::new(part.tree)))
        .collect();
    // The executor knows the toolchain that it was started for; this may be another one.
    if state.settings.exec.is_local() {
        for (directory, (_, tree)) in directories.iter().zip(&toolchain) {
            ready.executor.offer(directory, tree.digest).await;
        }
    }
    let inputs = BuildInputs {
        plan,
        sources: prospect.trees.clone(),
        packages: packages.trees,
        toolchain,
        host_tools: ready.host_tools.clone(),
        names: Default::default(),
    };
    Ok((ready, inputs))
}

/// Packages that do not change by themselves: those outside of the workspace, and those that are vendored in it.
fn packages_of_others(plan: &Plan) -> (Vec<Immutable>, Vec<Immutable>) {
    let mut roots = BTreeSet::new();
    let others = plan
        .packages
        .iter()
        .filter(|package| package.source != SourceKind::Path)
        // Packages of one repository have one checkout.
        .filter(|package| roots.insert(&package.source_root));
    let (vendored, outside): (Vec<_>, Vec<_>) = others.partition(|package| package.is_mutable());
    let immutable = |package: &vx_plan::Package| {
        let checksum = package.checksum.as_deref().unwrap_or("-");
        Immutable {
            name: package.name.clone(),
            version: package.version.clone(),
            identity: format!("{} {checksum}", package.id),
            root: package.source_root.clone(),
            checksum: package.checksum.clone(),
        }
    };
    (
        outside.into_iter().map(immutable).collect(),
        vendored.into_iter().map(immutable).collect(),
    )
}

async fn execute(
    state: &Arc<State>,
    request: &BuildRequest,
    reporter: &Reporter,
    ready: &Ready,
    inputs: BuildInputs,
    output_root: PathBuf,
) -> Outcome {
    // The executor has slots of its own; a few actions that wait there keep it busy while results travel.
    let jobs = request
        .jobs
        .map_or(ready.slots + AHEAD, |jobs| jobs as usize);
    let runner = Arc::new(Runner {
        inputs,
        executor: ready.executor.clone(),
        slots: Slots::new(jobs),
        reporter: reporter.clone(),
        environment: request.env.iter().cloned().collect(),
        time_limit: request.action_timeout_secs.map(Duration::from_secs),
        verbose: request.verbose,
    });
    let mut outcome = Outcome::new(
        state.clone(),
        runner.clone(),
        output_root,
        request.fresh_json,
    );
    let successes = schedule::run(runner, request.keep_going, &mut outcome).await;
    outcome.conclude(successes);
    outcome
}
