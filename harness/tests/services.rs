//! The services behind `vx build`: who starts them, how often, and what is left of them.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use harness::processes::{
    descendants, names, service, services, services_of, wait_for_action, wait_for_end_of,
};
use harness::{Project, build};
use vx_testkit::{Address, Ready, Run, TestEnv};

const ALL: [&str; 3] = ["vx-casd", "vx-daemon", "vx-execd"];

/// A crate whose build script waits for ever, without using the processor.
fn endless<'a>(env: &'a TestEnv, name: &str) -> Project<'a> {
    let project = Project::hello(env, name, "never");
    project.write(
        "build.rs",
        "fn main() {\n    loop {\n        std::thread::park();\n    }\n}\n",
    );
    project
}

fn vx(project: &Project<'_>, arguments: &[&str]) -> Run {
    project
        .env()
        .command("vx")
        .args(arguments.iter().copied())
        .current_dir(project.dir())
        .run()
}

/// Whether anybody accepts connections there.
fn is_served(address: &Address) -> bool {
    match address {
        Address::Unix(path) => UnixStream::connect(path).is_ok(),
        Address::Tcp(address) => TcpStream::connect(address).is_ok(),
    }
}

fn each_flavour(test: impl Fn(TestEnv)) {
    test(TestEnv::vx());
    test(TestEnv::vx_tcp());
}

#[test]
fn the_first_build_starts_each_service_and_the_next_ones_use_it() {
    each_flavour(|env| {
        let hello = Project::hello(&env, "hello", "hello");
        assert_eq!(services(&env), []);
        build(&hello, &[]);
        let first = services(&env);
        assert_eq!(names(&first), ALL);
        hello.edit("src/main.rs", "hello", "again");
        build(&hello, &[]);
        assert_eq!(services(&env), first);
        let status = env.command("vx").arg("status").run().expect_success();
        for service in &first {
            assert!(
                status.stdout().contains(&format!("(pid {}", service.pid)),
                "{status}"
            );
        }
        env.finish();
    });
}

#[test]
fn fifty_builds_at_once_start_each_service_once() {
    let env = TestEnv::vx_tcp();
    let hello = Project::hello(&env, "hello", "hello");
    // A lock file that is there keeps fifty cargos from writing one.
    hello.write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n",
    );
    let runs: Vec<Run> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..50)
            .map(|_| scope.spawn(|| vx(&hello, &["build"])))
            .collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap())
            .collect()
    });
    for run in &runs {
        assert!(run.success(), "{run}");
    }
    let running = services(&env);
    assert_eq!(names(&running), ALL);
    for service in &running {
        // None was started beside it either: each says so in its log as its first word.
        let log = env.dir("vx-home").join(format!("log/{}.log", service.name));
        let log = fs::read_to_string(log).unwrap();
        let starts = log
            .lines()
            .filter(|line| line.contains("(version "))
            .count();
        assert!(
            starts == 1 || (starts == 0 && service.name != "vx-daemon"),
            "{log}"
        );
    }
    let program = std::process::Command::new(hello.output("debug/hello"))
        .output()
        .unwrap();
    assert_eq!(program.stdout, b"hello\n");
    env.finish();
}

#[test]
fn kill_ends_what_the_daemon_started_and_nothing_else() {
    each_flavour(|env| {
        let casd = env
            .service("casd", "vx-casd")
            .ready(Ready::listens("cas"))
            .start();
        let hello = Project::hello(&env, "hello", "hello");
        build(&hello, &[]);
        let before = services(&env);
        assert_eq!(names(&before), ALL);
        assert_eq!(service(&env, "vx-casd").pid, casd.pid());
        let status = env.command("vx").arg("status").run().expect_success();
        assert_eq!(
            status.stdout().matches("started by vx-daemon").count(),
            1,
            "{status}"
        );

        let _killed = env.command("vx").arg("kill").run().expect_success();
        assert_eq!(names(&services(&env)), ["vx-casd"]);
        assert!(casd.is_running());
        assert!(!is_served(&env.endpoint("daemon")));
        assert!(!is_served(&env.endpoint("exec")));
        assert!(is_served(&env.endpoint("cas")));

        // The next build takes the one that is there, with what it knows.
        let copy = hello.copy("copy");
        assert!(build(&copy, &[]).ran.is_empty());
        assert_eq!(service(&env, "vx-casd").pid, casd.pid());
        env.finish();
    });
}

#[test]
fn kill_leaves_no_listener_and_says_when_there_is_nothing_to_end() {
    each_flavour(|env| {
        let project = endless(&env, "endless");
        let mut running = env
            .command("vx")
            .arg("build")
            .current_dir(project.dir())
            .spawn();
        assert!(running.wait_for_output("Compiling endless").unwrap());
        let action = wait_for_action(&env, "build-script-build");
        let _killed = env.command("vx").arg("kill").run().expect_success();
        let interrupted = running.wait();
        assert_eq!(interrupted.code(), Some(4), "{interrupted}");
        wait_for_end_of(&[action]);
        assert_eq!(services(&env), []);
        for endpoint in ["daemon", "cas", "exec"] {
            assert!(!is_served(&env.endpoint(endpoint)), "{endpoint}");
        }
        let again = env.command("vx").arg("kill").run().expect_success();
        assert!(
            again.stderr().contains("not running") || again.stdout().contains("not running"),
            "{again}"
        );
        env.finish();
    });
}

#[test]
fn nothing_survives_the_death_of_the_daemon() {
    let env = TestEnv::vx();
    let project = endless(&env, "endless");
    let mut running = env
        .command("vx")
        .arg("build")
        .current_dir(project.dir())
        .spawn();
    assert!(running.wait_for_output("Compiling endless").unwrap());
    wait_for_action(&env, "build-script-build");
    let daemon = service(&env, "vx-daemon");
    let below = descendants(&daemon);
    assert!(below.len() >= 3, "{below:?}");
    daemon.kill();
    wait_for_end_of(&below);
    let run = running.wait();
    assert_eq!(run.code(), Some(4), "{run}");
    for endpoint in ["daemon", "cas", "exec"] {
        assert!(!is_served(&env.endpoint(endpoint)), "{endpoint}");
    }
    env.finish();
}

#[test]
fn two_homes_side_by_side_do_not_disturb_each_other() {
    let (ours, theirs) = (TestEnv::vx_tcp(), TestEnv::vx_tcp());
    let our_hello = Project::hello(&ours, "hello", "hello");
    let their_hello = Project::hello(&theirs, "hello", "hello");
    // Each has its own store, and makes the same of the same sources.
    assert_eq!(build(&our_hello, &[]).ran.len(), 1);
    assert_eq!(build(&their_hello, &[]).ran.len(), 1);
    let program = |project: &Project<'_>| fs::read(project.output("debug/hello")).unwrap();
    assert_eq!(program(&our_hello), program(&their_hello));
    let before = services(&theirs);
    let _killed = ours.command("vx").arg("kill").run().expect_success();
    assert_eq!(services(&ours), []);
    assert_eq!(services(&theirs), before);
    their_hello.edit("src/main.rs", "hello", "still here");
    build(&their_hello, &[]);
    theirs.finish();
    ours.finish();
}

#[test]
fn services_of_another_home_let_nobody_in() {
    let env = TestEnv::vx_tcp();
    let hello = Project::hello(&env, "hello", "hello");
    build(&hello, &[]);
    let stranger = env.temp_dir().join("stranger");
    let build_as_stranger = |variables: &[(&str, String)]| {
        let mut command = env
            .command("vx")
            .arg("build")
            .env("VX_HOME", &stranger)
            .current_dir(hello.dir());
        for (name, value) in variables {
            command = command.env(name, value);
        }
        command.run()
    };
    // Their daemon is not ours.
    let run = build_as_stranger(&[]);
    assert_eq!(run.code(), Some(3), "{run}");
    assert!(run.stderr().contains("another VX_HOME"), "{run}");
    assert_eq!(services_of(&stranger), []);

    // A daemon of our own, and their store.
    let socket = |name: &str| format!("unix://{}", env.runtime_dir().join(name).display());
    let own = [
        ("VX_DAEMON", socket("own-daemon")),
        ("VX_EXEC", socket("own-exec")),
    ];
    let run = build_as_stranger(&own);
    assert_eq!(run.code(), Some(3), "{run}");
    assert!(run.stderr().contains("another VX_HOME"), "{run}");
    let mut kill = env.command("vx").arg("kill").env("VX_HOME", &stranger);
    for (name, value) in &own {
        kill = kill.env(name, value);
    }
    let _killed = kill.run().expect_success();
    assert_eq!(services_of(&stranger), []);
    assert_eq!(names(&services(&env)), ALL);
    env.finish();
}
