//! What cargo and the compiler say about a project, asked again only when something they read has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use vx_plan::{Plan, PlanError, PlanInput, PlatformFacts};
use vx_proto::Digest;
use vx_proto::command::{BuildKind, BuildRequest};
use vx_toolchain::Toolchain;
use vx_tree::{SourceTree, Stamp};

use crate::cargo::{Answers, Cargo, CargoError, print_cfg};
use crate::cargo_home::CargoHome;
use crate::report::Reporter;

/// Why a project cannot be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    /// Cargo gave no answer.
    #[error(transparent)]
    Cargo(#[from] CargoError),
    /// The answers of cargo make no plan.
    #[error("cannot plan the build")]
    Plan(#[from] PlanError),
    /// A task of the daemon failed.
    #[error("a task of the daemon ended early")]
    Task(#[from] tokio::task::JoinError),
    /// `cargo metadata` printed something unexpected.
    #[error("cannot read the output of `cargo metadata`")]
    Metadata(#[source] serde_json::Error),
    /// `cargo build --unit-graph` printed something unexpected.
    #[error("cannot read the unit graph of cargo")]
    UnitGraph(#[source] serde_json::Error),
    /// A manifest cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is needed of `cargo metadata` before there is a plan.
#[derive(Clone, Debug, Deserialize)]
struct Outline {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<OutlinePackage>,
}

#[derive(Clone, Debug, Deserialize)]
struct OutlinePackage {
    source: Option<String>,
    manifest_path: PathBuf,
}

/// A project as one request sees it.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The toolchain that was selected for it.
    pub(crate) toolchain: Toolchain,
    /// Stamps of the toolchain's programs when cargo was asked.
    pub(crate) toolchain_stamps: Vec<Option<Stamp>>,
    /// The root of its workspace.
    pub(crate) workspace_root: PathBuf,
    /// The target directory as cargo sees it.
    pub(crate) target_directory: PathBuf,
    /// The directories that the user may change: the workspace first, then path packages outside of it.
    pub(crate) roots: Vec<PathBuf>,
    answers: Answers,
    manifests: BTreeMap<PathBuf, String>,
    lock: Option<String>,
    platforms: BTreeMap<String, PlatformFacts>,
}

impl Project {
    /// Asks cargo and the compiler.
    pub(crate) async fn ask(
        toolchain: Toolchain,
        request: &BuildRequest,
        home: &CargoHome,
        reporter: &Reporter,
    ) -> Result<Project, ProjectError> {
        let cargo = Cargo {
            toolchain: &toolchain,
            request,
            home,
        };
        let stamped = toolchain.clone();
        let stamps = tokio::task::spawn_blocking(move || toolchain_stamps(&stamped)).await?;
        let answers = cargo.answers(reporter).await?;
        let outline: Outline =
            serde_json::from_str(&answers.metadata).map_err(ProjectError::Metadata)?;
        let mut roots = vec![outline.workspace_root.clone()];
        let mut manifests = BTreeMap::new();
        read_into(&mut manifests, &outline.workspace_root.join("Cargo.toml")).await?;
        for package in &outline.packages {
            read_into(&mut manifests, &package.manifest_path).await?;
            if package.source.is_none()
                && let Some(directory) = package.manifest_path.parent()
                && !directory.starts_with(&outline.workspace_root)
            {
                roots.push(directory.to_owned());
            }
        }
        let lock = tokio::fs::read_to_string(outline.workspace_root.join("Cargo.lock"))
            .await
            .ok();
        let environment: BTreeMap<String, String> = request.env.iter().cloned().collect();
        let mut platforms = BTreeMap::new();
        let targets = graph_targets(&answers.unit_graph)?;
        let targets_given = !targets.is_empty();
        let host_only = !targets.contains(&toolchain.host);
        let host = host_only.then(|| toolchain.host.clone());
        for triple in targets.into_iter().chain(host) {
            let for_host = host_only && triple == toolchain.host;
            // The flags may depend on the cfg values, and the values on the flags; cargo asks twice as well.
            let plain = print_cfg(&toolchain, &triple, &[], &request.cwd).await?;
            let flags = vx_plan::rustflags_of(
                &answers.config,
                &environment,
                &triple,
                for_host,
                targets_given,
                &plain,
            )?;
            let cfg = match flags.as_slice() {
                [] => plain,
                flags => print_cfg(&toolchain, &triple, flags, &request.cwd).await?,
            };
            platforms.insert(triple, PlatformFacts { cfg });
        }
        Ok(Project {
            workspace_root: outline.workspace_root,
            target_directory: outline.target_directory,
            roots,
            answers,
            manifests,
            lock,
            platforms,
            toolchain_stamps: stamps,
            toolchain,
        })
    }

    /// Whether the toolchain is still what it was when cargo was asked.
    pub(crate) async fn has_its_toolchain(&self) -> bool {
        let toolchain = self.toolchain.clone();
        let now = tokio::task::spawn_blocking(move || toolchain_stamps(&toolchain)).await;
        now.is_ok_and(|now| now == self.toolchain_stamps)
    }

    /// Variables that the configuration sets; where the user sets them too, it matters who wins.
    pub(crate) fn configured_variables(&self) -> Vec<String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Config {
            env: BTreeMap<String, serde::de::IgnoredAny>,
        }
        // The plan was made from the same text, so it can be read.
        let config: Config = serde_json::from_str(&self.answers.config).unwrap_or_default();
        config.env.into_keys().collect()
    }

    /// Where results are laid out.
    pub(crate) fn output_root(&self) -> PathBuf {
        self.target_directory.join("vx")
    }

    /// The plan of `request`.
    pub(crate) fn plan(&self, request: &BuildRequest) -> Result<Plan, ProjectError> {
        let selection = &request.selection;
        let tests = selection.tests || selection.all_targets || !selection.test.is_empty();
        let plan = Plan::new(&PlanInput {
            unit_graph: &self.answers.unit_graph,
            metadata: &self.answers.metadata,
            manifests: &self.manifests,
            lock: self.lock.as_deref(),
            config: &self.answers.config,
            env: &request.env.iter().cloned().collect(),
            rustc_version: &self.toolchain.version,
            platforms: &self.platforms,
            output_root: self.output_root(),
            check_tests: tests && request.kind == BuildKind::Check,
        })?;
        Ok(plan)
    }
}

/// Stamps that change when a toolchain is updated in its place. Blocks.
pub(crate) fn toolchain_stamps(toolchain: &Toolchain) -> Vec<Option<Stamp>> {
    [
        &toolchain.rustc,
        &toolchain.cargo,
        &toolchain.sysroot.join("lib"),
        &toolchain.sysroot.join("lib/rustlib"),
    ]
    .map(|path| fs::metadata(path).ok().map(|meta| Stamp::of(&meta)))
    .into()
}

/// A digest over everything in `trees` that cargo reads to make its answers: manifests, lock files, configuration, and the names of the files in which it finds targets.
pub(crate) fn manifest_digest(trees: &[Arc<SourceTree>]) -> Digest {
    let mut text = blake3::Hasher::new_derive_key("vx files that cargo reads, format 1");
    for tree in trees {
        text.update(tree.root.as_os_str().as_encoded_bytes())
            .update(b"\0");
        for file in &tree.files {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let read = matches!(
                name,
                "Cargo.toml" | "Cargo.lock" | "rust-toolchain" | "rust-toolchain.toml"
            ) || file.path.contains(".cargo/config");
            if read {
                text.update(file.path.as_bytes()).update(&file.digest.hash);
            } else if name.ends_with(".rs") {
                text.update(file.path.as_bytes()).update(b"\0");
            }
        }
    }
    Digest {
        hash: *text.finalize().as_bytes(),
        size: 1,
    }
}

/// Every target of the graph; none when all is built for the host without `--target`.
fn graph_targets(unit_graph: &str) -> Result<BTreeSet<String>, ProjectError> {
    #[derive(Deserialize)]
    struct Graph {
        units: Vec<Unit>,
    }
    #[derive(Deserialize)]
    struct Unit {
        platform: Option<String>,
    }
    let graph: Graph = serde_json::from_str(unit_graph).map_err(ProjectError::UnitGraph)?;
    Ok(graph.units.into_iter().filter_map(|u| u.platform).collect())
}

async fn read_into(
    manifests: &mut BTreeMap<PathBuf, String>,
    path: &Path,
) -> Result<(), ProjectError> {
    if manifests.contains_key(path) {
        return Ok(());
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| ProjectError::Read {
            path: path.to_owned(),
            source,
        })?;
    manifests.insert(path.to_owned(), text);
    Ok(())
}
