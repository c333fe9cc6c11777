//! Which toolchain a user's environment selects.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// What decides the choice of a toolchain.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The directory in which the build was started; rustup reads `rust-toolchain.toml` from here upwards.
    pub directory: &'a Path,
    /// The user's environment.
    pub environment: &'a [(String, String)],
    /// The `+toolchain` of the command line, without the plus sign.
    pub channel: Option<&'a str>,
}

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
const OLDEST: u32 = 80;

/// Why no toolchain was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// `rustc` could not be started.
    #[error("cannot run `rustc`; is a Rust toolchain installed and on PATH?")]
    NoRustc(#[source] io::Error),
    /// `rustc` (or rustup in front of it) refused.
    #[error("`rustc {arguments}` failed: {message}")]
    Refused {
        /// The arguments it was called with.
        arguments: String,
        /// What it printed.
        message: String,
    },
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

/// Finds the toolchain that `request` selects, as `rustc` itself (or rustup's proxy) would.
///
/// # Errors
///
/// No `rustc`, a `rustc` that fails, or an installation that cannot be made an input.
pub fn find(request: &Request<'_>) -> Result<Toolchain, FindError> {
    let printed = run(&mut selected_rustc(request, &["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(printed.trim_end());
    let program = |program: &'static str| {
        let path = sysroot.join("bin").join(program);
        if path.is_file() {
            Ok(path)
        } else {
            Err(FindError::Incomplete {
                sysroot: sysroot.clone(),
                program,
            })
        }
    };
    let (cargo, rustc) = (program("cargo")?, program("rustc")?);
    let version = run(Command::new(&rustc).arg("-vV").stdin(Stdio::null()))?;
    let field = |name: &str| {
        let value = version.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    };
    let (host, release) = (field("host: "), field("release: "));
    if is_too_old(&release) {
        return Err(FindError::TooOld { sysroot, release });
    }
    Ok(Toolchain {
        cargo,
        rustc,
        version,
        host,
        sysroot,
    })
}

fn is_too_old(release: &str) -> bool {
    let minor = release
        .strip_prefix("1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor < OLDEST)
}

/// The `rustc` that the user's PATH, environment and directory select.
fn selected_rustc(request: &Request<'_>, arguments: &[&str]) -> Command {
    let variable = |name: &str| {
        request
            .environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    };
    let program = variable("RUSTC").unwrap_or("rustc");
    let mut command = Command::new(resolve(program, variable("PATH")));
    command
        .args(arguments)
        .env_clear()
        .envs(request.environment.iter().map(|(n, v)| (n, v)))
        .current_dir(request.directory)
        .stdin(Stdio::null());
    if let Some(channel) = request.channel {
        command.env("RUSTUP_TOOLCHAIN", channel);
    }
    command
}

fn run(command: &mut Command) -> Result<String, FindError> {
    let output = command.output().map_err(FindError::NoRustc)?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        return Err(FindError::Refused {
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Looks `program` up in the user's PATH, which is not the PATH of this process.
fn resolve(program: &str, path: Option<&str>) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    std::env::split_paths(OsStr::new(path.unwrap_or("/usr/local/bin:/usr/bin:/bin")))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| PathBuf::from(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Vec<(String, String)> {
        std::env::vars().collect()
    }

    #[test]
    fn the_toolchain_that_builds_this_test_is_found() {
        let environment = environment();
        let toolchain = find(&Request {
            directory: Path::new("."),
            environment: &environment,
            channel: None,
        })
        .unwrap();
        assert!(toolchain.version.contains("commit-hash"), "{toolchain:?}");
        assert!(toolchain.host.contains('-'), "{toolchain:?}");
        assert!(toolchain.sysroot.join("lib/rustlib").is_dir());
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
    fn without_rustc_the_error_says_what_to_do() {
        let environment = [("PATH".to_owned(), "/nonexistent".to_owned())];
        let error = find(&Request {
            directory: Path::new("."),
            environment: &environment,
            channel: None,
        })
        .unwrap_err();
        assert!(matches!(error, FindError::NoRustc(_)), "{error:?}");
    }
}
