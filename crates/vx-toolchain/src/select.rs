//! Which toolchain a user chose, and where.
//!
//! The order is that of rustup (<https://rust-lang.github.io/rustup/overrides.html>), with `RUSTC` and compilers that rustup does not know in the places where cargo respects them:
//!
//! 1. `+toolchain` on the command line
//! 2. `RUSTC`
//! 3. `RUSTUP_TOOLCHAIN`
//! 4. the nearest of rustup's directory overrides and `rust-toolchain` files, from the directory upwards
//! 5. a `rustc` on PATH that is no proxy of rustup
//! 6. rustup's default
//! 7. `stable`

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::name::{NameError, ToolchainName};
use crate::rustup::{self, Rustup, RustupError};
use crate::toolchain_file::{self, ToolchainFile, ToolchainFileError};

/// What decides the choice of a toolchain.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The directory in which the build was started; `rust-toolchain.toml` is looked for from here upwards.
    pub directory: &'a Path,
    /// The user's environment.
    pub environment: &'a [(String, String)],
    /// The `+toolchain` of the command line, without the plus sign.
    pub channel: Option<&'a str>,
}

impl Request<'_> {
    /// A variable of the user's environment; one that is empty counts as not set.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .iter()
            .find(|(n, value)| n == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// rustup's home as this environment shows it.
    ///
    /// # Errors
    ///
    /// Settings of rustup that cannot be understood.
    pub fn rustup(&self) -> Result<Rustup, RustupError> {
        Rustup::of(|name| self.variable(name).map(str::to_owned))
    }
}

/// The toolchain that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// By its name.
    Named(ToolchainName),
    /// By the path of its `rustc`.
    Program(PathBuf),
}

/// Who chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `+toolchain`.
    CommandLine,
    /// A variable of this name.
    Variable(&'static str),
    /// rustup's override for this directory.
    Override(PathBuf),
    /// This file of the project.
    File(PathBuf),
    /// A `rustc` on PATH.
    Path,
    /// rustup's default.
    RustupDefault,
    /// Nobody.
    Nothing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::CommandLine => f.write_str("it was asked for on the command line"),
            Reason::Variable(name) => write!(f, "the variable `{name}` says so"),
            Reason::Override(directory) => {
                write!(f, "rustup has an override for `{}`", directory.display())
            }
            Reason::File(path) => write!(f, "`{}` says so", path.display()),
            Reason::Path => f.write_str("its `rustc` is the first one on PATH"),
            Reason::RustupDefault => f.write_str("it is the default of rustup"),
            Reason::Nothing => f.write_str("nothing else was chosen, and no `rustc` is on PATH"),
        }
    }
}

/// A choice with what the project wants besides the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The toolchain.
    pub choice: Choice,
    /// Who chose it.
    pub reason: Reason,
    /// Components that the project's file lists.
    pub components: Vec<String>,
    /// Targets that the project's file lists.
    pub targets: Vec<String>,
    /// The profile that the project's file names.
    pub profile: Option<String>,
}

/// Why no choice could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A name that is none.
    #[error("no toolchain can be chosen: {reason}")]
    Name {
        /// Who gave it.
        reason: Reason,
        /// What is wrong with it.
        source: NameError,
    },
    /// The file of the project.
    #[error(transparent)]
    File(#[from] ToolchainFileError),
    /// The settings of rustup.
    #[error(transparent)]
    Rustup(#[from] RustupError),
}

/// The choice of `request`.
///
/// # Errors
///
/// A name, a file or settings that cannot be understood; nothing is looked up, so the toolchain may not exist.
pub fn select(request: &Request<'_>, rustup: &Rustup) -> Result<Selection, SelectError> {
    if let Some(channel) = request.channel {
        return named(channel, Reason::CommandLine);
    }
    let path = request.variable("PATH");
    if let Some(program) = request.variable("RUSTC")
        && let Some(rustc) = find_program(program, path, request.directory)
        && !rustup::is_proxy(&rustc)
    {
        return Ok(bare(Choice::Program(rustc), Reason::Variable("RUSTC")));
    }
    if let Some(name) = request.variable("RUSTUP_TOOLCHAIN") {
        return named(name, Reason::Variable("RUSTUP_TOOLCHAIN"));
    }
    let mut wanted = None;
    for directory in request.directory.ancestors() {
        if let Some(name) = rustup.override_of(directory) {
            return named(name, Reason::Override(directory.to_owned()));
        }
        if let Some((path, file)) = toolchain_file::in_directory(directory)? {
            match from_file(&path, &file)? {
                Some(selection) => return Ok(selection),
                // It lists components only, and leaves the choice to the default.
                None => wanted = Some(file),
            }
            break;
        }
    }
    let mut selection = default(request, rustup)?;
    if let Some(file) = wanted {
        selection.components = file.components;
        selection.targets = file.targets;
        selection.profile = file.profile;
    }
    Ok(selection)
}

/// What is used where neither the user nor the project chose.
fn default(request: &Request<'_>, rustup: &Rustup) -> Result<Selection, SelectError> {
    if let Some(rustc) = find_program("rustc", request.variable("PATH"), request.directory)
        && !rustup::is_proxy(&rustc)
    {
        return Ok(bare(Choice::Program(rustc), Reason::Path));
    }
    match rustup.default_toolchain() {
        Some(name) => named(name, Reason::RustupDefault),
        None => named("stable", Reason::Nothing),
    }
}

fn from_file(path: &Path, file: &ToolchainFile) -> Result<Option<Selection>, SelectError> {
    let reason = Reason::File(path.to_owned());
    if let (Some(sysroot), Some(directory)) = (&file.path, path.parent()) {
        let name = ToolchainName::Path(directory.join(sysroot));
        return Ok(Some(bare(Choice::Named(name), reason)));
    }
    let Some(channel) = &file.channel else {
        return Ok(None);
    };
    Ok(Some(Selection {
        components: file.components.clone(),
        targets: file.targets.clone(),
        profile: file.profile.clone(),
        ..named(channel, reason)?
    }))
}

fn named(name: &str, reason: Reason) -> Result<Selection, SelectError> {
    match name.parse() {
        Ok(name) => Ok(bare(Choice::Named(name), reason)),
        Err(source) => Err(SelectError::Name { reason, source }),
    }
}

fn bare(choice: Choice, reason: Reason) -> Selection {
    Selection {
        choice,
        reason,
        components: Vec::new(),
        targets: Vec::new(),
        profile: None,
    }
}

/// Looks `program` up in the user's PATH, which is not the PATH of this process.
fn find_program(program: &str, path: Option<&str>, directory: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(directory.join(program));
    }
    std::env::split_paths(OsStr::new(path.unwrap_or("/usr/local/bin:/usr/bin:/bin")))
        .map(|dir| directory.join(dir).join(program))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        environment: Vec<(String, String)>,
        channel: Option<&'static str>,
    }

    impl Scene {
        /// A project in `p/q`, proxies in `proxies`, a compiler in `usr`, rustup with a default.
        fn new() -> Scene {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["p/q", "proxies", "usr", "rustup"] {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            for file in ["proxies/rustup", "usr/rustc"] {
                fs::write(dir.path().join(file), "").unwrap();
            }
            std::os::unix::fs::symlink("rustup", dir.path().join("proxies/rustc")).unwrap();
            let mut scene = Scene {
                dir,
                environment: Vec::new(),
                channel: None,
            };
            scene.set("RUSTUP_HOME", "rustup");
            scene.set("PATH", "proxies");
            scene.settings("");
            scene
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn set(&mut self, name: &str, below: &str) {
            let value = self.at(below).to_str().unwrap().to_owned();
            self.environment.retain(|(n, _)| n != name);
            self.environment.push((name.to_owned(), value));
        }

        fn settings(&self, overrides: &str) {
            let text = format!("default_toolchain = \"beta\"\n[overrides]\n{overrides}");
            fs::write(self.at("rustup/settings.toml"), text).unwrap();
        }

        fn chosen(&self) -> Selection {
            let request = Request {
                directory: &self.at("p/q"),
                environment: &self.environment,
                channel: self.channel,
            };
            select(&request, &request.rustup().unwrap()).unwrap()
        }

        fn assert(&self, name: &str, reason: Reason) {
            let chosen = self.chosen();
            let text = match &chosen.choice {
                Choice::Named(name) => name.to_string(),
                Choice::Program(path) => path.display().to_string(),
            };
            assert_eq!((text.as_str(), chosen.reason), (name, reason));
        }
    }

    #[test]
    fn the_order_is_that_of_rustup() {
        let mut scene = Scene::new();
        scene.assert("beta", Reason::RustupDefault);
        scene.set("PATH", "usr");
        let rustc = scene.at("usr/rustc");
        scene.assert(rustc.to_str().unwrap(), Reason::Path);
        let file = scene.at("p/rust-toolchain.toml");
        fs::write(
            &file,
            "[toolchain]\nchannel = \"1.90.0\"\ntargets = [\"t\"]\n",
        )
        .unwrap();
        scene.assert("1.90.0", Reason::File(file));
        assert_eq!(scene.chosen().targets, ["t"]);
        let directory = scene.at("p");
        scene.settings(&format!("{:?} = \"nightly\"\n", directory));
        scene.assert("nightly", Reason::Override(directory));
        let nearer = scene.at("p/q/rust-toolchain");
        fs::write(&nearer, "1.89").unwrap();
        scene.assert("1.89", Reason::File(nearer));
        let variable = "RUSTUP_TOOLCHAIN";
        scene.environment.push((variable.into(), "1.88".into()));
        scene.assert("1.88", Reason::Variable(variable));
        scene.set("RUSTC", "usr/rustc");
        scene.assert(rustc.to_str().unwrap(), Reason::Variable("RUSTC"));
        scene.channel = Some("1.87");
        scene.assert("1.87", Reason::CommandLine);
    }

    #[test]
    fn a_file_may_leave_the_choice_open_or_name_a_sysroot() {
        let mut scene = Scene::new();
        let file = scene.at("p/q/rust-toolchain.toml");
        fs::write(&file, "[toolchain]\ncomponents = [\"rust-src\"]\n").unwrap();
        scene.assert("beta", Reason::RustupDefault);
        assert_eq!(scene.chosen().components, ["rust-src"]);
        fs::write(&file, "[toolchain]\npath = \"own\"\n").unwrap();
        let own = scene.at("p/q/own");
        scene.assert(own.to_str().unwrap(), Reason::File(file.clone()));
        fs::remove_file(file).unwrap();
        scene.set("PATH", "rustup");
        scene.set("RUSTUP_HOME", "usr");
        scene.assert("stable", Reason::Nothing);
    }

    #[test]
    fn a_name_that_is_none_is_told_with_who_gave_it() {
        let mut scene = Scene::new();
        scene.channel = Some("a/b");
        let request = Request {
            directory: &scene.at("p"),
            environment: &scene.environment,
            channel: scene.channel,
        };
        let error = select(&request, &Rustup::default()).unwrap_err();
        assert!(error.to_string().contains("command line"), "{error}");
    }
}
