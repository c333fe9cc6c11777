//! Services are ready when they are who they should be, get their sockets
//! without a race, and are reported at once when they die.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::service;
use vx_testkit::{Address, Flavour, Ready, ServiceError, TestEnv};

fn ask(env: &TestEnv, endpoint: &str) -> String {
    let Address::Tcp(address) = env.endpoint(endpoint) else {
        panic!("a TCP endpoint");
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"who").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn port_in_log(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on port ")?;
    rest.split_once('\n')?.0.parse().ok()
}

#[test]
fn a_handed_socket_serves_clients_that_came_before_the_service() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Handed)
        .build();
    let Address::Tcp(address) = env.endpoint("api") else {
        panic!("a TCP endpoint");
    };
    let mut early = TcpStream::connect(address).unwrap();
    early.write_all(b"who").unwrap();
    let api = service(&env, "api", "handed").listener("api").start();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, api.nonce());
    env.finish();
}

#[test]
fn a_killed_service_comes_back_on_the_same_port_under_a_new_nonce() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Handed)
        .build();
    let mut api = service(&env, "api", "handed")
        .listener("api")
        .ready(Ready::answers_with_nonce("api", "who"))
        .start();
    let (port, nonce) = (env.endpoint("api").port(), api.nonce().to_owned());
    assert_eq!(ask(&env, "api"), nonce);
    api.kill();
    assert!(!api.is_running());
    api.restart();
    assert_eq!(env.endpoint("api").port(), port);
    assert_ne!(api.nonce(), nonce);
    assert_eq!(ask(&env, "api"), api.nonce());
    env.finish();
}

#[test]
fn a_service_that_chooses_its_port_reports_it() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Reported)
        .build();
    assert_eq!(env.var("API"), None);
    let api = service(&env, "api", "reports")
        .ready(Ready::reports("api", port_in_log))
        .start();
    assert_eq!(ask(&env, "api"), api.nonce());
    let run = env.command("sh").args(["-c", "echo $API"]).run();
    assert_eq!(run.stdout().trim(), env.endpoint("api").to_string());
    env.finish();
}

#[test]
fn a_leased_port_is_bound_by_the_service() {
    let env = TestEnv::builder()
        .endpoint("api", "PORT_ADDRESS", Flavour::Leased)
        .build();
    let api = service(&env, "api", "binds")
        .ready(Ready::listens("api"))
        .start();
    assert_eq!(ask(&env, "api"), api.nonce());
    env.finish();
}

#[test]
fn somebody_else_on_the_port_is_not_taken_for_the_service() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Leased)
        .build();
    let Address::Tcp(address) = env.endpoint("api") else {
        panic!("a TCP endpoint");
    };
    // It accepts connections and even answers.
    let stranger = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in stranger.incoming() {
            let mut stream = stream.unwrap();
            if stream.read(&mut [0; 16]).is_ok_and(|length| length > 0) {
                stream.write_all(b"hello from next door").ok();
            }
        }
    });
    for (ready, why) in [
        (Ready::listens("api"), "it does not listen on"),
        (
            Ready::answers_with_nonce("api", "who"),
            "but not with our nonce",
        ),
    ] {
        let error = env
            .service("api", "sleep")
            .arg("1000")
            .ready(ready)
            .ready_within(Duration::from_millis(100))
            .try_start()
            .unwrap_err();
        assert!(matches!(error, ServiceError::NotReady { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    env.finish();
}

#[test]
fn a_service_that_dies_is_reported_at_once_with_its_log() {
    let env = TestEnv::builder().build();
    let started = Instant::now();
    let error = service(&env, "api", "dies")
        .ready(Ready::log_line("never said"))
        .ready_within(Duration::from_secs(600))
        .try_start()
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(matches!(error, ServiceError::Died { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("exit status: 7"), "{text}");
    assert!(text.contains("the configuration is wrong"), "{text}");
    env.finish();
}

#[test]
fn a_service_is_stopped_in_its_own_way_before_it_is_killed() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Reported)
        .build();
    let told = env.temp_dir().parent().unwrap().with_extension("told");
    service(&env, "api", "reports")
        .ready(Ready::reports("api", port_in_log))
        .teardown(
            env.command("sh")
                .args(["-c", "echo $API > $TOLD"])
                .env("TOLD", &told),
        )
        .start();
    let address = env.endpoint("api").to_string();
    env.finish();
    assert_eq!(std::fs::read_to_string(&told).unwrap().trim(), address);
    std::fs::remove_file(told).unwrap();
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_after_the_limit() {
    let env = TestEnv::builder().build();
    let script = "trap '' TERM; echo up; while :; do sleep 1000; done";
    let mut stubborn = env
        .service("stubborn", "sh")
        .args(["-c", script])
        .ready(Ready::log_line("up"))
        .start();
    let status = stubborn.stop(Duration::from_millis(50));
    assert!(!status.success());
    assert!(!stubborn.is_running());
    env.finish();
}

#[test]
#[should_panic(expected = "had ended before it was killed")]
fn killing_a_service_that_has_ended_is_not_a_fault() {
    let env = TestEnv::builder().build();
    env.command("mkfifo").arg("go").run().expect_success();
    let mut short = env.service("short", "cat").arg("go").start();
    // Opening waits for the reader, closing ends it.
    env.write("go", "");
    short.wait(Duration::from_secs(20)).unwrap();
    short.kill();
}
