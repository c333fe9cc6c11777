//! `vx run`: build one program, then become it.
//!
//! The program replaces this process, so that its terminal, its signals and its
//! exit code are its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vx_proto::command::{BuildEvent, BuildKind, Command, UnitName};

use super::build::request;
use crate::cli::RunArgs;
use crate::context::Context;
use crate::exit::{Failure, Kind};
use crate::options::{PackageOptions, TargetOptions, selection};
use crate::render::{Format, Verbosity};
use crate::session;
use crate::terminal::{GOOD, status_line};

/// A program that was built.
#[derive(Clone, Debug)]
struct Program {
    name: UnitName,
    path: PathBuf,
}

/// Builds and runs.
pub(super) fn run(context: &Context, args: &RunArgs) -> Result<u8, Failure> {
    let format = Format::of(&args.compile.message_format);
    let packages = PackageOptions {
        package: args.target.package.iter().cloned().collect(),
        ..PackageOptions::default()
    };
    let targets = TargetOptions {
        // Libraries that no program needs are not built.
        bins: args.target.bin.is_none() && args.target.example.is_none(),
        bin: args.target.bin.iter().cloned().collect(),
        example: args.target.example.iter().cloned().collect(),
        ..TargetOptions::default()
    };
    let selection = selection(&packages, &targets, &args.compile);
    let mut request = request(context, &args.compile, selection, BuildKind::Build)?;
    // The programs are wanted although nothing had to be done for them.
    request.fresh_json = true;

    let wanted = if args.target.example.is_some() {
        "example"
    } else {
        "bin"
    };
    let mut programs: Vec<Program> = Vec::new();
    let code = session::run(
        context,
        &Command::Build(Box::new(request)),
        format,
        &mut |event| {
            if let BuildEvent::Artifact {
                name,
                executable: Some(path),
                ..
            } = event
                && name.target_kind.iter().any(|kind| kind == wanted)
                && name.mode != "test"
            {
                programs.push(Program {
                    name: name.clone(),
                    path: path.clone(),
                });
            }
        },
    )?;
    if code != 0 {
        return Ok(code);
    }
    let program = choose(programs)?;
    Err(execute(context, &program, &args.args))
}

/// The only program, or the one that the manifest calls the default.
fn choose(programs: Vec<Program>) -> Result<Program, Failure> {
    match <[Program; 1]>::try_from(programs) {
        Ok([program]) => Ok(program),
        Err(programs) if programs.is_empty() => Err(Failure::new(
            Kind::Request,
            "a bin target must be available for `vx run`",
        )),
        Err(programs) => {
            let mut defaults = programs.iter().filter(|program| {
                default_run(&program.name.manifest_path).as_deref() == Some(&program.name.target)
            });
            if let (Some(program), None) = (defaults.next(), defaults.next()) {
                return Ok(program.clone());
            }
            let mut names: Vec<&str> = programs.iter().map(|p| p.name.target.as_str()).collect();
            names.sort_unstable();
            Err(Failure::new(
                Kind::Request,
                "`vx run` could not determine which binary to run",
            )
            .because(format!("available binaries: {}", names.join(", ")))
            .hint("use the `--bin` option to specify a binary, or the `default-run` manifest key"))
        }
    }
}

/// The key `default-run` of a manifest. A manifest that cannot be read here has
/// just been read by cargo, so that it has no such key is the best guess.
fn default_run(manifest: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Option<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        #[serde(rename = "default-run")]
        default_run: Option<String>,
    }
    let text = fs::read_to_string(manifest).ok()?;
    toml::from_str::<Manifest>(&text).ok()?.package?.default_run
}

/// Becomes the program; returns only when that fails.
fn execute(context: &Context, program: &Program, args: &[OsString]) -> Failure {
    let name = &program.name;
    let mut command = std::process::Command::new(&program.path);
    command
        .args(args)
        .env("CARGO_PKG_NAME", &name.package)
        .env("CARGO_PKG_VERSION", &name.version)
        .env("CARGO_MANIFEST_PATH", &name.manifest_path);
    if let Some(directory) = name.manifest_path.parent() {
        command.env("CARGO_MANIFEST_DIR", directory);
    }
    if let Some(paths) = library_paths(&program.path) {
        command.env(LIBRARY_PATH, paths);
    }
    if context.verbosity > Verbosity::Quiet {
        let mut line = format!("`{}", program.path.display());
        for arg in args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line.push('`');
        let mut out = context.colors.stderr();
        let _gone =
            std::io::Write::write_all(&mut out, status_line(GOOD, "Running", &line).as_bytes());
    }
    let error = command.exec();
    Failure::new(
        Kind::Request,
        format!("cannot run `{}`", program.path.display()),
    )
    .because(error.to_string())
}

/// Where the system looks for dynamic libraries.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") {
    "DYLD_FALLBACK_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// The directories of the build before those of the user, as cargo has them.
fn library_paths(program: &Path) -> Option<OsString> {
    let directory = program.parent()?;
    let mut paths = vec![directory.join("deps"), directory.to_owned()];
    if let Some(theirs) = std::env::var_os(LIBRARY_PATH) {
        paths.extend(std::env::split_paths(&theirs));
    }
    std::env::join_paths(paths).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(manifest: &Path, target: &str) -> Program {
        Program {
            name: UnitName {
                target: target.to_owned(),
                manifest_path: manifest.to_owned(),
                ..UnitName::default()
            },
            path: PathBuf::from(target),
        }
    }

    #[test]
    fn the_default_is_chosen_among_several() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = directory.path().join("Cargo.toml");
        fs::write(&manifest, "[package]\nname = 'x'\ndefault-run = 'b'\n").unwrap();
        let all = || vec![program(&manifest, "a"), program(&manifest, "b")];
        assert_eq!(choose(all()).unwrap().name.target, "b");

        fs::write(&manifest, "[package]\nname = 'x'\n").unwrap();
        let failure = choose(all()).unwrap_err();
        assert_eq!(failure.causes, ["available binaries: a, b"]);
    }

    #[test]
    fn one_program_needs_no_default_and_none_is_an_error() {
        let nowhere = Path::new("nowhere/Cargo.toml");
        assert_eq!(
            choose(vec![program(nowhere, "a")]).unwrap().name.target,
            "a"
        );
        assert_eq!(choose(Vec::new()).unwrap_err().kind, Kind::Request);
    }
}
