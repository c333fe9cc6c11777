//! Each tier shuts off what it says, says which one is in force, and fails where
//! it is required and cannot be had.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::time::Duration;

use support::{command, runs, service};
use vx_testkit::{Flavour, Ready, SetupError, TestEnv, Tier, sealed, wait_until};

fn sealed_env() -> TestEnv {
    TestEnv::builder().require_sealed().build()
}

fn tries(env: &TestEnv, address: &str) -> String {
    let run = command(env, "connects").env("TO", address).run();
    run.expect_success().stdout().into_owned()
}

#[test]
fn a_sealed_command_reaches_nothing_of_the_machine_and_nothing_beyond() {
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = machine.local_addr().unwrap().to_string();
    let plain = TestEnv::builder().build();
    assert!(tries(&plain, &address).contains("connected"));
    plain.finish();
    let env = sealed_env();
    assert_eq!(env.tier(), Tier::Sealed);
    let refused = tries(&env, &address);
    assert!(refused.contains("Connection refused"), "{refused}");
    let unreachable = tries(&env, "192.0.2.1:9");
    assert!(
        unreachable.contains("Network is unreachable"),
        "{unreachable}"
    );
    env.finish();
}

#[test]
fn sealed_tests_use_the_same_port_at_once() {
    let start = || {
        let env = TestEnv::builder()
            .require_sealed()
            .endpoint("api", "PORT_ADDRESS", Flavour::Fixed(9001))
            .build();
        let api = service(&env, "api", "binds")
            .ready(Ready::listens("api"))
            .ready(Ready::answers_with_nonce("api", "who"))
            .start();
        (env, api)
    };
    let (first, second) = (start(), start());
    for (env, api) in [&first, &second] {
        assert_eq!(env.endpoint("api").to_string(), "127.0.0.1:9001");
        let mut stream = env.connect("api").unwrap();
        stream.write_all(b"who").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, api.nonce());
        assert!(tries(env, "127.0.0.1:9001").contains("connected"));
    }
    first.0.finish();
    second.0.finish();
}

#[test]
fn a_fixed_port_is_refused_where_it_may_be_somebody_elses() {
    let error = TestEnv::builder()
        .endpoint("api", "API", Flavour::Fixed(9001))
        .try_build()
        .unwrap_err();
    assert!(matches!(error, SetupError::Port { .. }), "{error}");
}

#[test]
fn a_socket_that_is_handed_over_is_in_the_sealed_network() {
    let env = TestEnv::builder()
        .require_sealed()
        .endpoint("api", "API", Flavour::Handed)
        .build();
    service(&env, "api", "handed")
        .listener("api")
        .ready(Ready::listens("api"))
        .ready(Ready::answers_with_nonce("api", "who"))
        .start();
    let address = env.endpoint("api").to_string();
    assert!(tries(&env, &address).contains("connected"));
    env.finish();
}

#[test]
fn processes_of_a_namespace_see_only_themselves() {
    let me = std::process::id().to_string();
    let see = |tier| {
        let env = TestEnv::builder().tier(tier).build();
        assert_eq!(env.tier(), tier);
        let run = env
            .command("sh")
            .args([
                "-c",
                "test -d /proc/$0/fd && echo seen; ls /proc | grep -c '^[0-9]'",
            ])
            .arg(&me)
            .run()
            .expect_success();
        env.finish();
        run.stdout().into_owned()
    };
    let plain = see(Tier::Plain);
    assert!(plain.contains("seen"), "{plain}");
    let inside = see(Tier::Processes);
    assert!(!inside.contains("seen"), "{inside}");
    let count: u32 = inside.lines().last().unwrap().parse().unwrap();
    assert!(count < 8, "{inside}");
}

#[test]
fn a_leak_in_a_namespace_is_told_by_its_id_on_the_machine_and_killed() {
    let env = TestEnv::builder()
        .require_sealed()
        .settle(Duration::from_millis(20))
        .build();
    env.command("sh")
        .args([
            "-c",
            "setsid env -i sleep 1234 </dev/null >/dev/null 2>&1 &",
        ])
        .run()
        .expect_success();
    let report = env.try_finish();
    assert_eq!(report.tier, Tier::Sealed);
    assert_eq!(report.processes.len(), 1, "{report}");
    assert_eq!(report.processes[0].command, "sleep 1234");
    assert!(!runs(report.processes[0].pid));
    let bundle = report.bundle.unwrap();
    let text = std::fs::read_to_string(bundle.join("report.txt")).unwrap();
    assert!(
        text.contains("tier of hermeticity: sealed network"),
        "{text}"
    );
    std::fs::remove_dir_all(bundle).unwrap();
}

/// Nobody cleans up in this case but the kernel.
#[test]
fn a_namespace_ends_with_its_helper_even_if_that_is_killed() {
    let env = TestEnv::builder().tier(Tier::Processes).build();
    assert_eq!(env.tier(), Tier::Processes);
    let stubborn = env
        .service("stubborn", "sh")
        .args(["-c", "trap '' TERM; setsid sleep 1234 & echo up; wait"])
        .ready(Ready::log_line("up"))
        .start();
    let pid = stubborn.pid();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let child: u32 = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let helper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    let root = env.home().parent().unwrap().to_owned();
    // SAFETY: it is the helper of this environment.
    unsafe { libc::kill(helper.parse().unwrap(), libc::SIGKILL) };
    wait_until("all are gone", Duration::from_secs(20), || {
        if runs(pid) || runs(child) {
            return Err("they run".to_owned());
        }
        Ok(())
    });
    let report = env.try_finish();
    assert!(report.teardown[0].contains("did not report"), "{report}");
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn with_landlock_only_the_ports_of_endpoints_can_be_reached() {
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = machine.local_addr().unwrap().to_string();
    let env = TestEnv::builder()
        .tier(Tier::Landlock)
        .endpoint("api", "API", Flavour::Handed)
        .build();
    assert_eq!(env.tier(), Tier::Landlock);
    let refused = tries(&env, &address);
    assert!(refused.contains("Permission denied"), "{refused}");
    let api = env.endpoint("api").to_string();
    assert!(tries(&env, &api).contains("connected"));
    env.finish();
}

#[test]
fn the_body_of_a_test_runs_inside() {
    sealed(|| {
        let error = TcpStream::connect("192.0.2.1:9").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
        let server = TcpListener::bind("127.0.0.1:9001").unwrap();
        let env = TestEnv::builder()
            .endpoint("api", "PORT_ADDRESS", Flavour::Fixed(9002))
            .build();
        service(&env, "api", "binds")
            .ready(Ready::answers_with_nonce("api", "who"))
            .start();
        assert!(tries(&env, "127.0.0.1:9001").contains("connected"));
        env.finish();
        drop(server);
    });
}

#[test]
fn a_body_that_panics_inside_fails_the_test_with_what_it_said() {
    let panic = catch_unwind(|| sealed(|| panic!("for this reason"))).unwrap_err();
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    if !text.contains("in the sealed network") {
        // This is the test inside.
        std::panic::resume_unwind(panic);
    }
    assert!(text.contains("for this reason"), "{text}");
}

/// It is no test, so the harness finds none of that name, and succeeds.
fn not_a_test() {}

#[test]
fn a_body_that_did_not_run_is_no_success() {
    let panic = catch_unwind(|| sealed(not_a_test)).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("0 passed"), "{text}");
}

/// What a machine does that forbids user namespaces.
fn forbid_namespaces() {
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    // SAFETY: it changes the rights of this thread and what it starts.
    let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) };
    assert_eq!(dropped, 0);
}

const CAP_SYS_ADMIN: libc::c_int = 21;

#[test]
fn without_namespaces_the_next_tier_is_in_force_and_required_ones_fail() {
    // Inside, limits are this test's own to set.
    sealed(|| {
        forbid_namespaces();
        let error = TestEnv::builder().require_sealed().try_build().unwrap_err();
        assert!(
            matches!(
                error,
                SetupError::Tier {
                    tier: Tier::Sealed,
                    ..
                }
            ),
            "{error}"
        );
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("enter a user namespace"), "{cause}");
        let env = TestEnv::builder()
            .tier(Tier::Sealed)
            .teardown("false", [""; 0])
            .build();
        assert_eq!(env.tier(), Tier::Landlock);
        let report = env.try_finish();
        let bundle = report.bundle.unwrap();
        let text = std::fs::read_to_string(bundle.join("report.txt")).unwrap();
        assert!(
            text.contains("(Landlock), since `sealed network` cannot be had: failed to enter"),
            "{text}"
        );
        std::fs::remove_dir_all(bundle).unwrap();
    });
}

const VICTIM: &str = "VICTIM_WRITES_TO";

/// Runs as a test of its own only in the role of the victim.
#[test]
fn victim_in_a_sealed_network() {
    let Ok(out) = std::env::var(VICTIM) else {
        return;
    };
    let env = sealed_env();
    let script = "trap '' TERM; setsid env -i sleep 1234 & echo up; wait";
    let service = env
        .service("stubborn", "sh")
        .args(["-c", script])
        .ready(Ready::log_line("up"))
        .start();
    std::fs::write(out, service.pid().to_string()).unwrap();
    // SAFETY: raising a signal touches no memory.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// As above; its copy, which is inside, is to end with it.
#[test]
fn victim_that_runs_inside() {
    let Ok(out) = std::env::var(VICTIM) else {
        return;
    };
    sealed(|| {
        std::fs::write(out, std::process::id().to_string()).unwrap();
        let parent = std::os::unix::process::parent_id();
        // SAFETY: it is the victim that started this copy.
        unsafe { libc::kill(parent.try_into().unwrap(), libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    });
}

#[test]
fn nothing_sealed_is_left_after_sigkill_of_the_test() {
    let dir = tempfile::tempdir().unwrap();
    let temporary = dir.path().join("t");
    std::fs::create_dir(&temporary).unwrap();
    for victim in ["victim_in_a_sealed_network", "victim_that_runs_inside"] {
        let out = dir.path().join(victim);
        // It ends when whoever has its outputs has ended.
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", victim, "--nocapture"])
            .env(VICTIM, &out)
            .env("VX_TESTKIT_BUNDLE_DIR", dir.path().join("bundles"))
            .env("TMPDIR", &temporary)
            .env_remove("NEXTEST")
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(libc::SIGKILL), "{victim}: {output:?}");
        let pid = support::pid_in(&out);
        wait_until(victim, Duration::from_secs(20), || {
            if runs(pid) {
                return Err(format!("process {pid} runs"));
            }
            Ok(())
        });
        let files = std::fs::read_dir(&temporary).unwrap().count();
        assert_eq!(files, 0, "{victim}");
    }
}
