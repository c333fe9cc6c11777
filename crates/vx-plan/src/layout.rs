//! File names of artefacts, and where the final ones are put for the user.
//!
//! It knows naming rules only; copying or linking is the daemon's work.

use std::path::PathBuf;

use crate::action::{ArtifactKind, OutputFile};
use crate::plan::{Mode, Package, Plan, SourceKind, Unit, UnitId, UnitKind};

/// Where one output is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its name among the unit's outputs.
    pub file_name: String,
    /// Where it goes, relative to [`crate::PlanInput::output_root`].
    pub path: PathBuf,
    /// What it is.
    pub kind: ArtifactKind,
    /// Whether it is a program the user can run (binary, example, test).
    pub is_executable: bool,
}

/// Directory of a profile: `debug` for dev and test, `release` for release and bench.
pub(crate) fn profile_directory(profile: &str) -> &str {
    match profile {
        "dev" | "test" => "debug",
        "release" | "bench" => "release",
        other => other,
    }
}

/// How one platform names the file of one crate type. The stem has no prefix and no suffix.
pub(crate) fn file_name(triple: &str, kind: ArtifactKind, stem: &str) -> String {
    let windows = triple.contains("-windows");
    let msvc = triple.ends_with("-msvc");
    let wasm = triple.starts_with("wasm32-") || triple.starts_with("wasm64-");
    let apple = triple.contains("-apple-");
    match kind {
        ArtifactKind::Rmeta => format!("lib{stem}.rmeta"),
        ArtifactKind::Rlib => format!("lib{stem}.rlib"),
        ArtifactKind::DepInfo => format!("{stem}.d"),
        ArtifactKind::DebugInfo => format!("{stem}.dwp"),
        ArtifactKind::Bin if windows => format!("{stem}.exe"),
        ArtifactKind::Bin if wasm => format!("{stem}.wasm"),
        ArtifactKind::Bin => stem.to_owned(),
        ArtifactKind::Staticlib if msvc => format!("{stem}.lib"),
        ArtifactKind::Staticlib => format!("lib{stem}.a"),
        ArtifactKind::Dylib | ArtifactKind::Cdylib | ArtifactKind::ProcMacro => {
            if windows {
                format!("{stem}.dll")
            } else if wasm {
                format!("{stem}.wasm")
            } else if apple {
                format!("lib{stem}.dylib")
            } else {
                format!("lib{stem}.so")
            }
        }
    }
}

/// Whether the file names of a unit carry its hash.
///
/// Dynamic libraries of path packages do not (examples aside): their file name is written into what links to them.
pub(crate) fn has_hash_in_name(unit: &Unit, package: &Package) -> bool {
    if unit.mode.is_any_test() || unit.mode.is_check() {
        return true;
    }
    let dynamic = unit.target.is_lib()
        && unit
            .target
            .crate_types
            .iter()
            .any(|kind| matches!(kind.as_str(), "dylib" | "cdylib"));
    !(dynamic && package.source == SourceKind::Path)
}

/// Whether compiling the unit needs the object code of what it depends on.
pub(crate) fn needs_objects(unit: &Unit) -> bool {
    unit.mode.is_any_test()
        || unit
            .target
            .crate_types
            .iter()
            .any(|kind| !matches!(kind.as_str(), "lib" | "rlib"))
}

/// The files that a compilation makes, in rustc's output directory.
pub(crate) fn outputs(unit: &Unit, package: &Package, triple: &str) -> Vec<OutputFile> {
    let crate_name = unit.target.crate_name();
    let stem = if has_hash_in_name(unit, package) {
        format!("{crate_name}-{}", unit.hash)
    } else {
        crate_name
    };
    let mut kinds = Vec::new();
    if unit.mode.is_check() {
        kinds.push(ArtifactKind::Rmeta);
    } else {
        if unit.mode == Mode::Test {
            kinds.push(ArtifactKind::Bin);
        } else {
            kinds.extend(
                unit.target
                    .crate_types
                    .iter()
                    .filter_map(|kind| artifact_kind(kind)),
            );
        }
        if !needs_objects(unit) {
            kinds.push(ArtifactKind::Rmeta);
        }
    }
    kinds.push(ArtifactKind::DepInfo);
    let mut files: Vec<OutputFile> = Vec::new();
    for kind in kinds {
        let name = file_name(triple, kind, &stem);
        if files.iter().all(|file| file.file_name != name) {
            files.push(OutputFile {
                file_name: name,
                kind,
                optional: false,
            });
        }
    }
    if unit.profile.debuginfo.is_on() && unit.profile.split_debuginfo.as_deref() == Some("packed") {
        let name = file_name(triple, ArtifactKind::DebugInfo, &stem);
        files.push(OutputFile {
            file_name: name,
            kind: ArtifactKind::DebugInfo,
            optional: true,
        });
    }
    files
}

fn artifact_kind(crate_type: &str) -> Option<ArtifactKind> {
    Some(match crate_type {
        "lib" | "rlib" => ArtifactKind::Rlib,
        "dylib" => ArtifactKind::Dylib,
        "cdylib" => ArtifactKind::Cdylib,
        "staticlib" => ArtifactKind::Staticlib,
        "proc-macro" => ArtifactKind::ProcMacro,
        "bin" => ArtifactKind::Bin,
        _ => return None,
    })
}

impl Plan {
    /// Directory of a unit's final artefacts, relative to the output root: `[triple/]profile`.
    pub(crate) fn artifact_directory(&self, unit: &Unit) -> PathBuf {
        let mut directory = PathBuf::new();
        if let Some(triple) = &unit.platform {
            directory.push(triple);
        }
        directory.push(profile_directory(&self.profile));
        directory
    }

    /// What a test or benchmark knows as `CARGO_TARGET_TMPDIR`, relative to the output root: `[triple/]tmp`.
    pub(crate) fn scratch_directory(&self, unit: &Unit) -> PathBuf {
        self.artifact_directory(unit).with_file_name("tmp")
    }

    /// The directory that a program expects to find when it runs, relative to the output root.
    pub fn expected_directory(&self, id: UnitId) -> Option<PathBuf> {
        let unit = self.unit(id)?;
        let is_told = unit.target.is_test() || unit.target.is_bench();
        (is_told && !unit.mode.is_check()).then(|| self.scratch_directory(unit))
    }

    /// Where programs that follow a build find the output directory of a build script run, relative to the output root: `[triple/]profile/build/name-hash/out`, as in cargo's target directory.
    pub fn out_directory(&self, run: UnitId) -> PathBuf {
        let unit = &self.units[run.0 as usize];
        let name = format!("{}-{}", self.package_of(unit).name, unit.hash);
        self.artifact_directory(unit)
            .join("build")
            .join(name)
            .join("out")
    }

    /// The files of a compilation, or nothing for a build script run.
    pub fn outputs(&self, id: UnitId) -> Vec<OutputFile> {
        match self.unit(id) {
            Some(unit) if unit.kind == UnitKind::Rustc => {
                outputs(unit, self.package_of(unit), self.triple_of(unit))
            }
            _ => Vec::new(),
        }
    }

    /// Which outputs of a unit are final, and where cargo would put them.
    ///
    /// Binaries always are (tests run them), tests and examples too; libraries if they were asked
    /// for, Rust dynamic libraries always.
    pub fn placements(&self, id: UnitId) -> Vec<Placement> {
        let Some(unit) = self.unit(id) else {
            return Vec::new();
        };
        if unit.kind != UnitKind::Rustc || unit.mode.is_check() || unit.target.is_build_script() {
            return Vec::new();
        }
        let directory = self.artifact_directory(unit);
        let triple = self.triple_of(unit);
        let mut placed = Vec::new();
        for file in self.outputs(id) {
            let is_executable = file.kind == ArtifactKind::Bin;
            let path = match file.kind {
                ArtifactKind::Rmeta | ArtifactKind::DepInfo => continue,
                _ if unit.mode == Mode::Test => directory.join("deps").join(&file.file_name),
                ArtifactKind::Dylib => directory.join(&file.file_name),
                _ if unit.target.is_bin() => {
                    directory.join(file_name(triple, file.kind, &unit.target.name))
                }
                _ if !unit.is_root => continue,
                ArtifactKind::Bin if unit.target.is_example() => directory
                    .join("examples")
                    .join(file_name(triple, file.kind, &unit.target.name)),
                kind => {
                    let name = file_name(triple, kind, &unit.target.crate_name());
                    let parent = if unit.target.is_example() {
                        directory.join("examples")
                    } else {
                        directory.clone()
                    };
                    parent.join(name)
                }
            };
            placed.push(Placement {
                file_name: file.file_name,
                path,
                kind: file.kind,
                is_executable,
            });
        }
        placed
    }

    /// The triple that a unit is compiled for.
    pub(crate) fn triple_of<'a>(&'a self, unit: &'a Unit) -> &'a str {
        unit.platform.as_deref().unwrap_or(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_name_their_files() {
        let linux = "x86_64-unknown-linux-gnu";
        assert_eq!(file_name(linux, ArtifactKind::Cdylib, "a"), "liba.so");
        assert_eq!(file_name(linux, ArtifactKind::Bin, "a"), "a");
        assert_eq!(
            file_name("aarch64-apple-darwin", ArtifactKind::ProcMacro, "a"),
            "liba.dylib"
        );
        assert_eq!(
            file_name("x86_64-pc-windows-msvc", ArtifactKind::Staticlib, "a"),
            "a.lib"
        );
        assert_eq!(file_name("wasm32-wasip1", ArtifactKind::Bin, "a"), "a.wasm");
    }

    #[test]
    fn profiles_share_two_directories() {
        assert_eq!(profile_directory("test"), "debug");
        assert_eq!(profile_directory("bench"), "release");
        assert_eq!(profile_directory("dist"), "dist");
    }
}
