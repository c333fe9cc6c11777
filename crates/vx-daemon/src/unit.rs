//! One unit of a plan: from what the plan says to an action, and from an action's result to what dependents need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use vx_plan::{
    ActionSpec, BuildOutput, Input, Package, PackageIndex, PackageLocation, Plan, Unit, UnitId,
    paths,
};
use vx_proto::Digest;
use vx_proto::reapi::{ActionResult, OutputFile};
use vx_tree::{SourceTree, names_digest};

use crate::draft::{Draft, SourceInput};

/// Why a unit's action cannot be formed, or its result not be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// A dependency did not leave the file.
    #[error("dependency `{unit}` left no `{file}`")]
    MissingArtifact {
        /// The dependency.
        unit: String,
        /// The file.
        file: String,
    },
    /// The action did not leave a file that it must leave.
    #[error("the action ended well but left no `{0}`")]
    MissingOutput(String),
    /// The executor named an output without a usable digest.
    #[error("the executor returned no usable digest for `{0}`")]
    NoDigest(String),
}

/// What is known of a finished unit, or of one whose metadata is there already.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitOutputs {
    /// Files by name, with whether they are executable.
    pub(crate) files: BTreeMap<String, (Digest, bool)>,
    /// The `OUT_DIR` of a build script run.
    pub(crate) out_dir: Option<Digest>,
    /// What the build script said.
    pub(crate) script: Option<Arc<BuildOutput>>,
}

/// Everything that is the same for all units of a build.
pub(crate) struct BuildInputs {
    /// The plan.
    pub(crate) plan: Plan,
    /// Trees of the directories that the user may change, in the order of the project's roots.
    pub(crate) sources: Vec<Arc<SourceTree>>,
    /// Trees of packages that do not change, by their root.
    pub(crate) packages: BTreeMap<String, Arc<SourceTree>>,
    /// The parts of the toolchain by name, shared by all units.
    pub(crate) toolchain: Vec<(String, Arc<SourceTree>)>,
    /// Fingerprint of the executor's tools.
    pub(crate) host_tools: String,
    /// Digests over the names of packages' files, as far as they were needed.
    pub(crate) names: Mutex<BTreeMap<PackageIndex, Digest>>,
}

impl BuildInputs {
    /// The action of `unit` as a draft; `outputs` has the outputs of all units it waits for.
    pub(crate) fn draft(
        &self,
        unit: &Unit,
        spec: &ActionSpec,
        outputs: &BTreeMap<UnitId, UnitOutputs>,
    ) -> Result<Draft, UnitError> {
        let mut draft = Draft {
            environment: spec.env.clone(),
            working_directory: relative(&spec.cwd),
            writable: spec.writable.iter().map(|path| relative(path)).collect(),
            jobserver: spec.wants_jobserver,
            jobs_variable: spec.wants_num_jobs.then(|| "NUM_JOBS".to_owned()),
            host_tools: self.host_tools.clone(),
            early: spec
                .early_outputs
                .iter()
                .map(|name| output_path(name))
                .collect(),
            ..Draft::default()
        };
        // It says which packages the user selected: true of a request, not of a unit, and only wrappers of compilers read it.
        draft.environment.remove("CARGO_PRIMARY_PACKAGE");
        draft.arguments.push(spec.program.clone());
        draft.arguments.extend(spec.args.iter().cloned());
        draft
            .outputs
            .extend(spec.outputs.iter().map(|file| output_path(&file.file_name)));
        draft.outputs.extend(spec.out_dir.iter().cloned());
        for input in &spec.inputs {
            self.add(&mut draft, unit, input, outputs)?;
        }
        Ok(draft)
    }

    fn add(
        &self,
        draft: &mut Draft,
        unit: &Unit,
        input: &Input,
        outputs: &BTreeMap<UnitId, UnitOutputs>,
    ) -> Result<(), UnitError> {
        let missing = |dependency: &UnitId, file: &str| UnitError::MissingArtifact {
            unit: self
                .plan
                .unit(*dependency)
                .map(|u| self.label(u))
                .unwrap_or_default(),
            file: file.to_owned(),
        };
        match input {
            Input::Toolchain => draft
                .sources
                .extend(self.toolchain.iter().map(|(name, tree)| SourceInput {
                    at: format!("{}/{name}", relative(paths::TOOLCHAIN)),
                    tree: tree.clone(),
                    names: None,
                })),
            Input::WorkspaceTree { at } => {
                let tree = self
                    .sources
                    .first()
                    .cloned()
                    .unwrap_or_else(|| Arc::new(empty()));
                let names = self.package_names(unit, &tree);
                draft.sources.push(SourceInput {
                    at: relative(at),
                    names: Some(names),
                    tree,
                });
            }
            Input::PackageTree { package, at } => {
                let package = &self.plan.packages[package.0 as usize];
                let root = package.source_root.to_string_lossy();
                let (tree, names) = match self.packages.get(root.as_ref()) {
                    Some(tree) => (tree.clone(), None),
                    None => {
                        let tree = self
                            .sources
                            .iter()
                            .find(|tree| tree.root == package.source_root)
                            .cloned()
                            .unwrap_or_else(|| Arc::new(empty()));
                        let names = names_digest(tree.names.iter().map(String::as_str));
                        (tree, Some(names))
                    }
                };
                draft.sources.push(SourceInput {
                    at: relative(at),
                    tree,
                    names,
                });
            }
            Input::Artifact {
                unit,
                file_name,
                at,
            } => {
                let (digest, executable) = outputs
                    .get(unit)
                    .and_then(|outputs| outputs.files.get(file_name))
                    .ok_or_else(|| missing(unit, file_name))?;
                draft.files.push((relative(at), *digest, *executable));
            }
            Input::OutDir { unit, at } => {
                let digest = outputs
                    .get(unit)
                    .and_then(|outputs| outputs.out_dir)
                    .ok_or_else(|| missing(unit, "OUT_DIR"))?;
                draft.directories.push((relative(at), digest));
            }
        }
        Ok(())
    }

    fn package_names(&self, unit: &Unit, tree: &SourceTree) -> Digest {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        *known
            .entry(unit.package)
            .or_insert_with(|| package_names(tree, self.plan.package_of(unit)))
    }

    /// How a unit is called in messages: package, version and target.
    pub(crate) fn label(&self, unit: &Unit) -> String {
        let package = self.plan.package_of(unit);
        format!(
            "{} v{} ({})",
            package.name,
            package.version,
            target_label(unit)
        )
    }
}

/// `lib`, `bin "rg"`, `build script`, …, as cargo words it.
pub(crate) fn target_label(unit: &Unit) -> String {
    let target = &unit.target;
    let kind = if target.is_build_script() {
        return match unit.kind {
            vx_plan::UnitKind::BuildScriptRun => "build script run".to_owned(),
            vx_plan::UnitKind::Rustc => "build script".to_owned(),
        };
    } else if target.is_bin() {
        format!("bin \"{}\"", target.name)
    } else if target.is_test() {
        format!("test \"{}\"", target.name)
    } else if target.is_bench() {
        format!("bench \"{}\"", target.name)
    } else if target.is_example() {
        format!("example \"{}\"", target.name)
    } else {
        "lib".to_owned()
    };
    if unit.mode.is_any_test() && !target.is_test() {
        format!("{kind} test")
    } else {
        kind
    }
}

/// The outputs that `result` holds, checked against what the action must leave.
pub(crate) fn outputs_of(
    spec: &ActionSpec,
    result: &ActionResult,
) -> Result<UnitOutputs, UnitError> {
    let mut outputs = UnitOutputs::default();
    for file in &result.output_files {
        let (name, entry) = output_file(file)?;
        outputs.files.insert(name, entry);
    }
    for expected in spec.outputs.iter().filter(|file| !file.optional) {
        if !outputs.files.contains_key(&expected.file_name) {
            return Err(UnitError::MissingOutput(expected.file_name.clone()));
        }
    }
    if let Some(out_dir) = &spec.out_dir {
        let directory = result
            .output_directories
            .iter()
            .find(|directory| directory.path == *out_dir)
            .ok_or_else(|| UnitError::MissingOutput(out_dir.clone()))?;
        let digest = vx_proto::digest::required(directory.root_directory_digest.as_ref())
            .map_err(|_| UnitError::NoDigest(out_dir.clone()))?;
        outputs.out_dir = Some(digest);
    }
    Ok(outputs)
}

/// Name, digest and mode of one output file.
pub(crate) fn output_file(file: &OutputFile) -> Result<(String, (Digest, bool)), UnitError> {
    let digest = vx_proto::digest::required(file.digest.as_ref())
        .map_err(|_| UnitError::NoDigest(file.path.clone()))?;
    let name = file.path.rsplit('/').next().unwrap_or_default();
    Ok((name.to_owned(), (digest, file.is_executable)))
}

/// A digest over the names of the package's own files: a file that appears or goes may change what a compiler finds, though it read nothing of it.
fn package_names(tree: &SourceTree, package: &Package) -> Digest {
    let directory = match (package.location, package.manifest_path.parent()) {
        (PackageLocation::Workspace, Some(directory)) => directory,
        _ => return names_digest(tree.names.iter().map(String::as_str)),
    };
    let prefix = match directory.strip_prefix(&tree.root) {
        Ok(inside) if inside.as_os_str().is_empty() => String::new(),
        Ok(inside) => format!("{}/", inside.to_string_lossy()),
        Err(_) => return names_digest(tree.names.iter().map(String::as_str)),
    };
    // Packages further down have names of their own.
    let others: Vec<&str> = tree
        .names
        .iter()
        .filter_map(|name| name.strip_suffix("Cargo.toml"))
        .filter(|other| other.len() > prefix.len() && other.starts_with(&prefix))
        .collect();
    names_digest(
        tree.names
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with(&prefix))
            .filter(|name| !others.iter().any(|other| name.starts_with(other))),
    )
}

/// Outputs are named by absolute paths: relative ones would start at the working directory.
fn output_path(name: &str) -> String {
    format!("{}/{name}", paths::OUT)
}

/// The input root is the root of the file system, so a path in it is an absolute one without its first character.
pub(crate) fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn empty() -> SourceTree {
    SourceTree {
        root: std::path::PathBuf::new(),
        digest: Digest::EMPTY,
        directories: vec![(Digest::EMPTY, Vec::new())],
        files: Vec::new(),
        names: Vec::new(),
    }
}
