//! A toolchain on this machine: where it is, what it says of itself, and whether it can be used.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::ToolchainName;
use crate::rustup::{self, Rustup};
use crate::select::{Choice, Request, Selection};

/// An installed toolchain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Where the toolchain is installed: `rustc --print sysroot`.
    pub sysroot: PathBuf,
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its rustc.
    pub rustc: PathBuf,
    /// The text of `rustc -vV`.
    pub version: String,
    /// The triple of the machine that it runs on.
    pub host: String,
}

/// The first minor release of Rust 1 that takes all flags which today's cargo passes; `--check-cfg` came last.
pub(crate) const OLDEST: u32 = 80;

/// Components that a build may use; what else a project lists is for people and editors.
const USED_BY_BUILDS: [&str; 4] = ["rust-src", "rustc-dev", "llvm-tools", "rust-std"];

/// How often a program that is being written is tried again, and after which pause.
const BUSY: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Why a toolchain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// A program could not be started.
    #[error("cannot run `{}`", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{} {arguments}` failed: {message}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// The arguments it was called with.
        arguments: String,
        /// What it printed.
        message: String,
    },
    /// There is no toolchain of this name, and none can be fetched.
    #[error("there is no toolchain `{0}` on this machine, and no release has this name")]
    Unknown(String),
    /// The sysroot lacks a program.
    #[error("the toolchain at `{}` has no `{program}`", sysroot.display())]
    Incomplete {
        /// The sysroot.
        sysroot: PathBuf,
        /// The program that is missing.
        program: &'static str,
    },
    /// The compiler is too old.
    #[error("the toolchain at `{}` is Rust {release}, at least 1.{OLDEST} is needed", sysroot.display())]
    TooOld {
        /// The sysroot.
        sysroot: PathBuf,
        /// Its release.
        release: String,
    },
}

/// What was found on this machine without any network.
#[derive(Debug)]
pub enum Found {
    /// A toolchain that was installed by others, and who has it: `rustup` or `system`.
    Here(Box<Toolchain>, &'static str),
    /// A release that has to come from a distribution server; `lacks` says what the installed one does not have.
    Absent {
        /// What the installed toolchain of this name lacks, in words; empty when there is none.
        lacks: Vec<String>,
    },
}

/// The triple of this machine, as distribution servers name it.
pub fn host_triple() -> String {
    let libc = if cfg!(target_os = "macos") {
        "apple-darwin"
    } else {
        "unknown-linux-gnu"
    };
    format!("{}-{libc}", std::env::consts::ARCH)
}

/// Looks for `selection` where rustup and the system have their toolchains; starts `rustc`, and no proxy. Blocks.
///
/// # Errors
///
/// A toolchain that is there and cannot be used, or a name that nobody knows.
pub fn find(
    request: &Request<'_>,
    rustup: &Rustup,
    selection: &Selection,
) -> Result<Found, FindError> {
    let name = match &selection.choice {
        Choice::Program(rustc) => {
            let printed = run(program(rustc, request).args(["--print", "sysroot"]))?;
            let toolchain = Toolchain::at(Path::new(printed.trim_end()))?;
            return Ok(Found::Here(Box::new(toolchain), "system"));
        }
        Choice::Named(ToolchainName::Path(sysroot)) => {
            return Ok(Found::Here(Box::new(Toolchain::at(sysroot)?), "system"));
        }
        Choice::Named(name) => name,
    };
    let sysroot = rustup.installed(name, &host_triple());
    match (sysroot, name) {
        (Some(sysroot), ToolchainName::Custom(_)) => {
            Ok(Found::Here(Box::new(Toolchain::at(&sysroot)?), "rustup"))
        }
        (Some(sysroot), _) => {
            let lacks = lacks(&sysroot, selection);
            if lacks.is_empty() {
                let toolchain = Box::new(Toolchain::at(&sysroot)?);
                return Ok(Found::Here(toolchain, "rustup"));
            }
            Ok(Found::Absent { lacks })
        }
        (None, ToolchainName::Channel(_)) => Ok(Found::Absent { lacks: Vec::new() }),
        (None, name) => Err(FindError::Unknown(name.to_string())),
    }
}

/// What of `selection` a build needs and the toolchain does not have.
fn lacks(sysroot: &Path, selection: &Selection) -> Vec<String> {
    let mut lacks = Vec::new();
    for target in &selection.targets {
        if !sysroot
            .join("lib/rustlib")
            .join(target)
            .join("lib")
            .is_dir()
        {
            lacks.push(format!("target `{target}`"));
        }
    }
    if let Some(installed) = rustup::components(sysroot) {
        for wanted in &selection.components {
            let used = USED_BY_BUILDS.iter().any(|name| wanted.starts_with(name));
            let is_there = |have: &String| {
                let rest = have.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            };
            if used && !installed.iter().any(is_there) {
                lacks.push(format!("component `{wanted}`"));
            }
        }
    }
    lacks
}

impl Toolchain {
    /// The toolchain at `sysroot`, asked for its version. Blocks.
    ///
    /// # Errors
    ///
    /// A sysroot without compiler or cargo, or a compiler that does not run or is too old.
    pub fn at(sysroot: &Path) -> Result<Toolchain, FindError> {
        let program = |program: &'static str| {
            let path = sysroot.join("bin").join(program);
            if path.is_file() {
                Ok(path)
            } else {
                Err(FindError::Incomplete {
                    sysroot: sysroot.to_owned(),
                    program,
                })
            }
        };
        let (cargo, rustc) = (program("cargo")?, program("rustc")?);
        let version = run(plain(&rustc).arg("-vV"))?;
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_default().to_owned()
        };
        let (host, release) = (field("host: "), field("release: "));
        if is_too_old(&release) {
            return Err(FindError::TooOld {
                sysroot: sysroot.to_owned(),
                release,
            });
        }
        Ok(Toolchain {
            cargo,
            rustc,
            version,
            host,
            sysroot: sysroot.to_owned(),
        })
    }

    /// The first line of `rustc -vV`, e.g. `rustc 1.90.0 (1159e78c4 2025-09-14)`.
    pub fn release(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// What `cargo -V` prints. Blocks.
    ///
    /// # Errors
    ///
    /// A cargo that does not run.
    pub fn cargo_release(&self) -> Result<String, FindError> {
        Ok(run(plain(&self.cargo).arg("-V"))?.trim_end().to_owned())
    }
}

pub(crate) fn is_too_old(release: &str) -> bool {
    let minor = release
        .strip_prefix("1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor < OLDEST)
}

/// A program of a toolchain that is asked about itself, which depends on nothing of the user.
fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    if let Some(folder) = program.parent() {
        // Cargo tells nothing without a home, which users without an entry in the system's list have not.
        command.env("CARGO_HOME", folder);
    }
    command
}

/// A program that the user chose; it may be a script that needs the user's environment.
fn program(program: &Path, request: &Request<'_>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env_clear()
        .envs(request.environment.iter().map(|(n, v)| (n, v)))
        .current_dir(request.directory);
    command
}

fn run(command: &mut Command) -> Result<String, FindError> {
    let program = PathBuf::from(command.get_program());
    let mut tries = 0;
    let output = loop {
        match command.output() {
            Ok(output) => break output,
            // A program that was just written: another thread has forked meanwhile, and its child holds the file until it executes.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY => {
                tries += 1;
                std::thread::park_timeout(BUSY_PAUSE);
            }
            Err(source) => return Err(FindError::Run { program, source }),
        }
    };
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        return Err(FindError::Refused {
            program,
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{Reason, select};

    fn here(environment: &[(String, String)]) -> Toolchain {
        let request = Request {
            directory: Path::new("/"),
            environment,
            channel: None,
        };
        let rustup = request.rustup().unwrap();
        let selection = select(&request, &rustup).unwrap();
        match find(&request, &rustup, &selection).unwrap() {
            Found::Here(toolchain, _) => *toolchain,
            Found::Absent { lacks } => panic!("{selection:?} is absent: {lacks:?}"),
        }
    }

    #[test]
    fn the_toolchain_that_builds_this_test_is_found() {
        let environment: Vec<_> = std::env::vars().collect();
        let toolchain = here(&environment);
        assert!(toolchain.version.contains("commit-hash"), "{toolchain:?}");
        assert!(toolchain.release().starts_with("rustc 1."));
        assert!(toolchain.cargo_release().unwrap().starts_with("cargo 1."));
        assert_eq!(toolchain.host, host_triple());
        assert!(toolchain.sysroot.join("lib/rustlib").is_dir());
        // By the path of its compiler it is the same one.
        let by_path = [
            ("RUSTC".to_owned(), toolchain.rustc.display().to_string()),
            ("PATH".to_owned(), String::new()),
        ];
        assert_eq!(here(&by_path), toolchain);
    }

    #[test]
    fn old_releases_are_told_from_new_ones() {
        for (release, old) in [
            ("1.63.0", true),
            ("1.80.0", false),
            ("1.97.0-nightly", false),
            ("2.0.0", false),
        ] {
            assert_eq!(is_too_old(release), old, "{release}");
        }
    }

    #[test]
    fn only_what_builds_use_makes_an_installed_toolchain_insufficient() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("lib/rustlib");
        std::fs::create_dir_all(list.join("t-a-b/lib")).unwrap();
        std::fs::write(list.join("components"), "rustc-h-o-s\nrust-src\n").unwrap();
        let mut selection = Selection {
            choice: Choice::Named("stable".parse().unwrap()),
            reason: Reason::Nothing,
            components: vec!["rust-src".to_owned(), "rust-analyzer".to_owned()],
            targets: vec!["t-a-b".to_owned()],
            profile: None,
        };
        assert_eq!(lacks(dir.path(), &selection), Vec::<String>::new());
        selection.targets.push("t-c-d".to_owned());
        selection.components.push("llvm-tools".to_owned());
        assert_eq!(
            lacks(dir.path(), &selection),
            ["target `t-c-d`", "component `llvm-tools`"]
        );
    }
}
