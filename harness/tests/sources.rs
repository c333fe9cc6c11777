//! Dependencies of every kind that cargo knows, built through the services: with a token, from git, patched, replaced, vendored, and beside the workspace.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::fs;
use std::path::{Path, PathBuf};

use harness::registry::hex;
use harness::user::{User, output};
use harness::{Project, Registry};

const SEVEN: &str = "pub fn seven() -> u32 { 7 }\n";

#[test]
fn an_alternative_registry_gets_the_users_token() {
    let registry = Registry::for_members();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    // Who comes without a token is not let in.
    let settings = "/index/config.json";
    let unknown = vx_testkit::HttpFault::Status(401);
    registry.server().fault_times(settings, 1, unknown);
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let manifest = "[dependencies]\nseven = { version = \"1\", registry = \"members\" }\n";
    let project = user.app(manifest);
    // cargo wants to be told where tokens for reading come from.
    let config = format!(
        "[registry]\nglobal-credential-providers = [\"cargo:token\"]\n[registries.members]\nindex = \"{}\"\n",
        registry.index()
    );
    user.write("config.toml", &config);
    let credentials = "[registries.members]\ntoken = \"let me in\"\n";
    user.write("credentials.toml", credentials);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    let requests = registry.server().requests();
    for request in requests.iter().filter(|request| request.status == 200) {
        assert_eq!(
            request.header("authorization"),
            Some("let me in"),
            "{request:?}"
        );
    }
    assert!(requests.len() >= 4, "{requests:#?}");
    // Nothing that is shared, and nothing of vx, has the secret.
    for directory in [user.cache, &user.env.dir("vx-home")] {
        assert_eq!(files_with("let me in", directory), Vec::<PathBuf>::new());
    }
    user.env.finish();
}

/// Files below `directory`, not those that links lead to, that contain `text`.
fn files_with(text: &str, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(text, &path));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            let mut windows = content.windows(text.len());
            if windows.any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// Runs git in a repository of a test; `None` where there is no git.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
        .args(["-c", "init.defaultBranch=main"])
        .args(["-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .current_dir(directory)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        other => other.unwrap(),
    };
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A repository with the packages `seven` and `one`, the first of which needs the second and a file beside both.
fn repository(directory: &Path) -> Option<String> {
    git(directory, &["init", "--quiet"])?;
    let write = |path: &str, content: &str| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"seven\", \"one\"]\nresolver = \"2\"\n",
    );
    write("words.txt", "from a repository");
    let manifest = |name: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n")
    };
    write(
        "seven/Cargo.toml",
        &(manifest("seven") + "[dependencies]\none = { path = \"../one\" }\n"),
    );
    write(
        "seven/src/lib.rs",
        "pub fn seven() -> String { format!(\"{} {}\", 6 + one::ONE, include_str!(\"../../words.txt\")) }\n",
    );
    write("one/Cargo.toml", &manifest("one"));
    write("one/src/lib.rs", "pub const ONE: u32 = 1;\n");
    git(directory, &["add", "--all"])?;
    git(directory, &["commit", "--quiet", "--message", "seven"])?;
    let revision = git(directory, &["rev-parse", "HEAD"])?;
    Some(revision.trim().to_owned())
}

#[test]
fn a_git_dependency_is_built_and_needs_its_repository_once() {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let Some(revision) = repository(source.path()) else {
        eprintln!(
            "SKIPPED: there is no git on this machine, so nothing was shown about git dependencies"
        );
        return;
    };
    let url = format!("file://{}", source.path().display());
    let manifest = format!("[dependencies]\nseven = {{ git = \"{url}\", rev = \"{revision}\" }}\n");
    let users: Vec<User<'_>> = (0..2).map(|_| User::of(cache.path())).collect();
    let projects: Vec<Project<'_>> = users.iter().map(|user| user.app(&manifest)).collect();
    users[0].build(&projects[0]).expect_success();
    assert_eq!(output(&projects[0]), "7 from a repository\n");
    // The repository is gone, and the second user has never seen it.
    drop(source);
    let lock = fs::read_to_string(projects[0].dir().join("Cargo.lock")).unwrap();
    assert!(
        lock.contains(&format!("git+{url}?rev={revision}#{revision}")),
        "{lock}"
    );
    projects[1].write("Cargo.lock", &lock);
    let run = users[1].vx(&projects[1], &["build", "--frozen", "--release"]);
    run.expect_success();
    users.into_iter().for_each(|user| user.env.finish());
}

#[test]
fn a_patched_dependency_is_the_one_of_the_patch() {
    let registry = Registry::start();
    registry.publish_seven();
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    user.write("config.toml", &registry.in_place_of_crates_io());
    let manifest =
        "[dependencies]\nseven = \"1\"\n[patch.crates-io]\none = { path = \"../patched\" }\n";
    let project = user.app(manifest);
    let patched = Project::new(&user.env, "patched");
    patched.write(
        "Cargo.toml",
        "[package]\nname = \"one\"\nversion = \"1.0.1\"\nedition = \"2021\"\n",
    );
    patched.write("src/lib.rs", "pub const ONE: u32 = 11;\n");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "17\n");
    registry
        .server()
        .assert_requests(&registry.archive("one", "1.0.0"), 0);
    // It is the user's, and may be edited.
    patched.edit("src/lib.rs", "11", "21");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "27\n");
    user.env.finish();
}

#[test]
fn a_source_replaced_by_a_directory_beside_the_users_home_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.app("[dependencies]\nseven = \"1\"\n");
    // Relative to the directory above CARGO_HOME, as for cargo.
    user.write(
        "config.toml",
        "[source.crates-io]\nreplace-with = \"mine\"\n[source.mine]\ndirectory = \"sources\"\n",
    );
    let manifest = "[package]\nname = \"seven\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    user.write("../sources/seven/Cargo.toml", manifest);
    user.write("../sources/seven/src/lib.rs", SEVEN);
    let list = format!(
        "{{\"files\":{{\"src/lib.rs\":\"{}\"}}}}",
        hex(SEVEN.as_bytes())
    );
    user.write("../sources/seven/.cargo-checksum.json", &list);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    user.env.finish();
}

#[test]
fn what_cargo_vendored_is_built_without_its_registry() {
    let registry = Registry::start();
    registry.publish("seven", "1.0.0", SEVEN, &[]);
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.locked_app(&registry);
    let vendored = user
        .env
        .command("cargo")
        .args(["vendor", "--locked", "--quiet", "--respect-source-config"])
        .env("CARGO_HOME", user.cargo_home())
        .current_dir(project.dir());
    vendored.run().expect_success();
    drop(registry);
    project.write(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n",
    );
    user.write("config.toml", "");
    user.vx(&project, &["build", "--frozen"]).expect_success();
    assert_eq!(output(&project), "7\n");
    user.env.finish();
}

#[test]
fn a_path_dependency_outside_of_the_workspace_is_built_and_may_be_edited() {
    let cache = tempfile::tempdir().unwrap();
    let user = User::of(cache.path());
    let project = user.app("[dependencies]\nseven = { path = \"../seven\" }\n");
    let seven = Project::new(&user.env, "seven");
    seven.write(
        "Cargo.toml",
        "[package]\nname = \"seven\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
    );
    seven.write("src/lib.rs", SEVEN);
    user.build(&project).expect_success();
    assert_eq!(output(&project), "7\n");
    seven.edit("src/lib.rs", "7", "77");
    user.build(&project).expect_success();
    assert_eq!(output(&project), "77\n");
    user.env.finish();
}
