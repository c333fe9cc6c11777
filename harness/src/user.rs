//! Somebody whose projects have dependencies: with an own `VX_HOME` and an own CARGO_HOME, and a download cache that others share.

use std::path::{Path, PathBuf};

use vx_testkit::{Command, Run, TestEnv};

use crate::project::Project;
use crate::registry::{CRATES_IO, Registry};

/// A user who has nothing yet.
#[derive(Debug)]
pub struct User<'a> {
    /// The environment with the user's homes.
    pub env: TestEnv,
    /// The download cache.
    pub cache: &'a Path,
}

impl User<'_> {
    /// A user of the download cache in a directory.
    pub fn of(cache: &Path) -> User<'_> {
        User {
            env: TestEnv::vx(),
            cache,
        }
    }

    /// The user's CARGO_HOME.
    pub fn cargo_home(&self) -> PathBuf {
        self.env.home().join("cargo")
    }

    /// Writes a file of the user's CARGO_HOME.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.cargo_home().join(path);
        let directory = path.parent().unwrap_or(&path);
        let written =
            std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, content));
        if let Err(error) = written {
            panic!("cannot write `{}`: {error}", path.display());
        }
    }

    /// `vx` in a project.
    pub fn command(&self, project: &Project<'_>, arguments: &[&str]) -> Command {
        self.env
            .command("vx")
            .args(arguments.iter().copied())
            .env("CARGO_HOME", self.cargo_home())
            .env("VX_DOWNLOAD_CACHE_DIR", self.cache)
            .current_dir(project.dir())
    }

    /// Runs `vx` in a project.
    pub fn vx(&self, project: &Project<'_>, arguments: &[&str]) -> Run {
        self.command(project, arguments).run()
    }

    /// Runs `vx build` in a project.
    pub fn build(&self, project: &Project<'_>) -> Run {
        self.vx(project, &["build"])
    }

    /// A program called `app` that prints what the function `seven` of the package `seven` returns, with these lines in its manifest.
    pub fn app(&self, manifest: &str) -> Project<'_> {
        let project = Project::hello(&self.env, "app", "");
        project.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{manifest}"
            ),
        );
        project.write(
            "src/main.rs",
            "fn main() { println!(\"{}\", seven::seven()); }\n",
        );
        project
    }

    /// As [`app`](Self::app), with `seven` from crates.io, for which `registry` stands in, and a lock file with all that was published there.
    pub fn locked_app(&self, registry: &Registry) -> Project<'_> {
        self.write("config.toml", &registry.in_place_of_crates_io());
        let project = self.app("[dependencies]\nseven = \"1\"\n");
        project.write("Cargo.lock", &registry.lock_of("app", CRATES_IO));
        project
    }
}

/// What the program of an [`app`](User::app) prints.
///
/// # Panics
///
/// If it was not built, or fails.
pub fn output(project: &Project<'_>) -> String {
    let program = project.output("debug/app");
    let program = program.to_string_lossy();
    let run = project.env().command(&program).run().expect_success();
    run.stdout().into_owned()
}
