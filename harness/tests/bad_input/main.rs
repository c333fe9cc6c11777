//! Projects that cannot be built: what is said names the unit and the cause, the daemon goes on, and the next build works.

mod build_scripts;
mod projects;

use harness::processes::{descendants, service, services, wait_for_end_of};
use harness::{Project, build};
use vx_testkit::Command;

fn vx_build(project: &Project<'_>, arguments: &[&str]) -> Command {
    project
        .env()
        .command("vx")
        .arg("build")
        .args(arguments.iter().copied())
        .current_dir(project.dir())
}

/// What a build says that fails; the services stay, run nothing, and build the same project once it is mended.
fn failure(project: &Project<'_>, arguments: &[&str], mend: impl FnOnce()) -> String {
    let env = project.env();
    // Another project, so that all services run before.
    let hello = Project::hello(env, "before", "before");
    build(&hello, &[]);
    let before = services(env);
    // All tests share the crates that cargo has unpacked, so it may wait for that of another test.
    let snapshot: String = vx_build(project, arguments)
        .snapshot()
        .split_inclusive('\n')
        .filter(|line| !line.contains("Blocking waiting for file lock"))
        .collect();
    assert_eq!(services(env), before, "{snapshot}");
    wait_for_end_of(&descendants(&service(env, "vx-execd")));
    mend();
    build(project, &[]);
    snapshot
}
