//! Builds whose units can be asserted on.

use std::time::Duration;

use vx_testkit::Run;

use crate::project::Project;

/// Guards against a build that hangs, on a machine where many others run.
const LIMIT: Duration = Duration::from_secs(600);

/// A build that ended, and the units that it ran.
#[derive(Debug)]
pub struct Build {
    /// The run of `vx`.
    pub run: Run,
    /// Units that were built rather than taken from the store, as `package mode kind`, sorted.
    pub ran: Vec<String>,
}

impl Build {
    /// The last status line, which counts units.
    pub fn summary(&self) -> String {
        let stderr = self.run.stderr();
        let line = stderr.lines().rev().find(|line| line.contains("Finished"));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Whether nothing at all had to be done.
    pub fn is_up_to_date(&self) -> bool {
        self.summary().contains("all up to date")
    }
}

/// Runs `vx build ARGUMENTS` in a project, which must succeed.
///
/// # Panics
///
/// If the build fails; the message has all that it printed.
pub fn build(project: &Project<'_>, arguments: &[&str]) -> Build {
    let vx = |arguments: &[&str]| {
        project
            .env()
            .command("vx")
            .args(arguments.iter().copied())
            .current_dir(project.dir())
            .timeout(LIMIT)
            .run()
    };
    let run = vx(&[&["build"], arguments].concat()).expect_success();
    let explained = vx(&["explain"]).expect_success();
    let mut ran: Vec<String> = explained
        .stdout()
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.strip_suffix(": built").map(name_of))
        .collect();
    ran.sort();
    // A build that had nothing to do leaves the explanation of the one before.
    let mut build = Build { run, ran };
    if build.is_up_to_date() {
        build.ran.clear();
    }
    build
}

/// `base 0.1.0 (build lib `base`)` as `base build lib`.
fn name_of(title: &str) -> String {
    let package = title.split(' ').next().unwrap_or_default();
    let what = title
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(" `"))
        .map_or("", |(what, _)| what);
    format!("{package} {what}")
}
