//! The action of one unit: program, arguments, environment, inputs, outputs.

use std::collections::BTreeSet;

use crate::action::{ActionSpec, ArtifactKind, Input};
use crate::build_script::{self, BuildOutput, PackageShape};
use crate::diagnostics::PathMap;
use crate::error::{ActionError, OutputError};
use crate::libraries;
use crate::paths;
use crate::plan::{BuildOutputs, Mode, Package, Plan, SourceKind, Unit, UnitId, UnitKind};
use crate::rustc_args::{artifacts_for, rustc_args, without_kind};
use crate::rustc_env::{Env, rustc_env};

impl Plan {
    /// How to run a unit.
    ///
    /// `outputs` must hold all build script runs among the unit's [`Unit::waits`].
    /// `passed` are variables of the client that this unit is known to read; everything else of the
    /// client's environment stays outside.
    ///
    /// All paths are virtual, except that test binaries of the workspace see it at its real path.
    ///
    /// # Errors
    /// If the unit or a needed output is unknown.
    pub fn action(
        &self,
        id: UnitId,
        outputs: &BuildOutputs,
        passed: &Env,
    ) -> Result<ActionSpec, ActionError> {
        let unit = self.unit(id).ok_or(ActionError::UnknownUnit(id.0))?;
        match unit.kind {
            UnitKind::BuildScriptRun => build_script::run_action(self, unit, outputs, passed),
            UnitKind::Rustc => self.rustc_action(unit, outputs, passed),
        }
    }

    fn rustc_action(
        &self,
        unit: &Unit,
        outputs: &BuildOutputs,
        passed: &Env,
    ) -> Result<ActionSpec, ActionError> {
        let site = self.site(unit);
        let native = &self.native[unit.id.0 as usize];
        let scripts = self.known_outputs(native.to_link.iter(), outputs)?;
        let plugins = self.known_outputs(native.of_plugins.iter(), outputs)?;

        let own = libraries::own_build_script(&self.units, unit);
        let own_output = own
            .map(|run| self.known_outputs([run].iter(), outputs))
            .transpose()?
            .and_then(|found| found.first().copied());
        let own_dir = own.map(|run| self.out_dir(run));
        let own_env = own_dir.as_deref().zip(own_output.map(|(_, output)| output));

        let mut inputs = BTreeSet::from([Input::Toolchain, site.tree.clone()]);
        for dependency in &unit.dependencies {
            for id in &libraries::closure(&self.units, dependency.unit) {
                let other = &self.units[id.0 as usize];
                for file_name in artifacts_for(self, unit, other) {
                    let at = format!("{}/{file_name}", paths::DEPS);
                    inputs.insert(Input::Artifact {
                        unit: *id,
                        file_name,
                        at,
                    });
                }
            }
        }
        if let Some((run, at)) = own.zip(own_dir.clone()) {
            inputs.insert(Input::OutDir { unit: run, at });
        }
        self.add_native_inputs(&mut inputs, &scripts);
        self.add_native_inputs(&mut inputs, &plugins);

        let files = self.outputs(unit.id);
        let early = unit.mode == Mode::Build;
        let early_outputs = files
            .iter()
            .filter(|file| early && file.kind == ArtifactKind::Rmeta)
            .map(|file| file.file_name.clone())
            .collect();
        let search = library_path(&plugins, Some(paths::DEPS));
        Ok(ActionSpec {
            program: paths::RUSTC.to_owned(),
            args: rustc_args(self, unit, &site, &scripts),
            env: rustc_env(self, unit, &site, passed, &search, own_env),
            cwd: site.rustc_cwd,
            inputs: inputs.into_iter().collect(),
            outputs: files,
            out_dir: None,
            early_outputs,
            writable: vec![paths::OUT.to_owned()],
            wants_jobserver: true,
            wants_num_jobs: false,
            stdout_is_directives: false,
        })
    }

    /// The parsed outputs of these runs.
    pub(crate) fn known_outputs<'a, 'b>(
        &self,
        runs: impl Iterator<Item = &'b UnitId>,
        outputs: &'a BuildOutputs,
    ) -> Result<Vec<(UnitId, &'a BuildOutput)>, ActionError> {
        runs.map(|run| match outputs.get(run) {
            Some(output) => Ok((*run, output.as_ref())),
            None => {
                let unit = &self.units[run.0 as usize];
                Err(ActionError::MissingBuildOutput(
                    self.package_of(unit).name.clone(),
                ))
            }
        })
        .collect()
    }

    /// Trees that search paths and linker arguments of build scripts point into.
    pub(crate) fn add_native_inputs(
        &self,
        inputs: &mut BTreeSet<Input>,
        scripts: &[(UnitId, &BuildOutput)],
    ) {
        for (run, output) in scripts {
            let unit = &self.units[run.0 as usize];
            let mentions = |prefix: &str| {
                output
                    .library_paths
                    .iter()
                    .any(|path| path.contains(prefix))
                    || output
                        .link_args
                        .iter()
                        .any(|(_, argument)| argument.contains(prefix))
            };
            let at = self.out_dir(*run);
            if mentions(&at) {
                inputs.insert(Input::OutDir { unit: *run, at });
            }
            let site = self.site(unit);
            if mentions(&site.package) {
                inputs.insert(site.tree);
            }
        }
    }

    /// `OUT_DIR` of a build script run.
    pub fn out_dir(&self, run: UnitId) -> String {
        format!("{}/out", self.build_directory(run))
    }

    /// Directory of a build script: that of its compilation holds the program, that of its run `out`.
    pub(crate) fn build_directory(&self, id: UnitId) -> String {
        let unit = &self.units[id.0 as usize];
        format!(
            "{}/{}-{}",
            paths::BUILD,
            self.package_of(unit).name,
            unit.hash
        )
    }

    /// Parses what a build script run printed.
    ///
    /// # Errors
    /// If cargo would refuse it, in cargo's words.
    pub fn parse_build_output(
        &self,
        run: UnitId,
        stdout: &[u8],
    ) -> Result<BuildOutput, OutputError> {
        let shape = match self.unit(run) {
            Some(unit) => self.shape(self.package_of(unit), unit),
            None => PackageShape::default(),
        };
        build_script::parse_build_output(stdout, &shape)
    }

    fn shape(&self, package: &Package, unit: &Unit) -> PackageShape {
        let allowed = self
            .settings
            .client_env
            .get("RUSTC_BOOTSTRAP")
            .is_some_and(|value| {
                let library = package
                    .facts
                    .targets
                    .first()
                    .map(|target| target.name.replace('-', "_"));
                value == "1"
                    || library.is_some_and(|name| value.split(',').any(|allowed| allowed == name))
            });
        PackageShape {
            description: self.describe(unit),
            targets: package
                .facts
                .targets
                .iter()
                .map(|target| (target.name.clone(), target.kind.clone()))
                .collect(),
            bootstrap_allowed: allowed,
        }
    }

    /// A unit's package as cargo names it: `name v1.2.3`, with its place unless it is from crates.io.
    pub fn describe(&self, unit: &Unit) -> String {
        let package = self.package_of(unit);
        let name = format!("{} v{}", package.name, package.version);
        match package.source {
            SourceKind::Path => {
                let directory = package
                    .manifest_path
                    .parent()
                    .map(|path| path.display().to_string());
                format!("{name} ({})", directory.unwrap_or_default())
            }
            SourceKind::Git => {
                let source = package.id.strip_prefix("git+").unwrap_or(&package.id);
                format!("{name} ({})", source.split('#').next().unwrap_or(source))
            }
            SourceKind::Registry => name,
        }
    }

    /// Virtual paths that may stand in messages of this unit, and what they really are.
    pub fn path_map(&self, id: UnitId) -> PathMap {
        let mut pairs = vec![(
            paths::WORKSPACE.to_owned(),
            self.workspace_root.to_string_lossy().into_owned(),
        )];
        if self.unit(id).is_some() {
            pairs.extend(self.packages.iter().map(|package| {
                (
                    package.virtual_root.clone(),
                    package.source_root.to_string_lossy().into_owned(),
                )
            }));
        }
        PathMap::new(pairs)
    }
}

/// `LD_LIBRARY_PATH`: native directories made by build scripts, then the sysroot's.
pub(crate) fn library_path(plugins: &[(UnitId, &BuildOutput)], first: Option<&str>) -> String {
    let own = plugins
        .iter()
        .flat_map(|(_, output)| &output.library_paths)
        .map(|path| without_kind(path))
        .filter(|path| path.starts_with(paths::BUILD));
    let toolchain = format!("{}/lib", paths::TOOLCHAIN);
    own.chain(first)
        .chain([toolchain.as_str()])
        .collect::<Vec<_>>()
        .join(":")
}
