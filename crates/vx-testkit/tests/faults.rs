//! Faults strike at the moment they were injected for, and one that never
//! struck fails its test.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use support::service;
use vx_testkit::{Address, Fault, Flavour, Proxy, Ready, Service, TestEnv, Tier, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Says each line that it finds in `lines`, which is a pipe.
fn echo(env: &TestEnv, name: &str) -> Service {
    env.command("mkfifo").arg(name).run().expect_success();
    env.service(name, "sh")
        .args([
            "-c",
            "echo up; while read line; do echo \"$line\"; done <$0",
        ])
        .arg(name)
        .ready(Ready::log_line("up"))
        .start()
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn a_service_is_killed_at_a_log_line() {
    let env = TestEnv::builder().build();
    let service = echo(&env, "lines");
    let fault = env.inject(Fault::kill("lines").at_log_line("stage 2"));
    let mut lines = std::fs::File::options()
        .write(true)
        .open(env.work_dir().join("lines"))
        .unwrap();
    lines.write_all(b"stage 1\n").unwrap();
    wait_until("stage 1", SOON, || {
        service
            .log()
            .contains("stage 1")
            .then_some(())
            .ok_or_else(|| service.log())
    });
    assert!(!fault.has_fired() && service.is_running());
    lines.write_all(b"stage 2\n").unwrap();
    fault.wait(SOON);
    let status = service.wait(SOON).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    env.finish();
}

#[test]
fn a_fault_can_wait_for_a_service_that_is_not_started_yet() {
    let env = TestEnv::builder().build();
    let fault = env.inject(Fault::kill("api").at_log_line("loading"));
    let error = env
        .service("api", "sh")
        .args(["-c", "echo loading; exec sleep 1000"])
        .ready(Ready::log_line("never said"))
        .try_start()
        .unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    assert!(fault.has_fired());
    env.finish();
}

#[test]
fn a_service_is_frozen_and_thawed() {
    let env = TestEnv::builder().build();
    let service = echo(&env, "lines");
    env.inject(Fault::freeze("lines")).wait(SOON);
    let is = |wanted: &str| {
        wait_until("its state", SOON, || {
            let now = state(service.pid());
            wanted
                .contains(now)
                .then_some(())
                .ok_or_else(|| now.to_string())
        });
    };
    is("T");
    env.inject(Fault::thaw("lines")).wait(SOON);
    is("SR");
    env.finish();
}

#[test]
fn faults_that_have_not_fired_fail_the_test() {
    let env = TestEnv::builder()
        .endpoint("api", "API", Flavour::Handed)
        .build();
    let _service = echo(&env, "lines");
    env.inject(Fault::kill("lines").at_log_line("never said"));
    let proxy = env.proxy("api");
    env.inject(Fault::kill("lines").at_connection(&proxy, 1));
    proxy.partition();
    let report = env.try_finish();
    assert!(!report.is_clean());
    assert_eq!(
        report.faults,
        [
            "kill service `lines` when `lines` logs `never said`",
            "kill service `lines` at connection 1",
            "partition in front of `api`"
        ]
    );
    let text = report.to_string();
    assert!(text.contains("fault that has not fired: kill"), "{text}");
    std::fs::remove_dir_all(report.bundle.unwrap()).unwrap();
}

#[test]
fn a_service_that_died_by_itself_was_not_killed_by_the_fault() {
    let env = TestEnv::builder().build();
    let service = echo(&env, "short");
    // The end of its input is the end of it.
    drop(
        std::fs::File::options()
            .write(true)
            .open(env.work_dir().join("short")),
    );
    service.wait(SOON).unwrap().unwrap();
    let fault = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        env.inject(Fault::kill("short"))
    }));
    let text = fault.unwrap_err().downcast_ref::<String>().unwrap().clone();
    assert!(text.contains("no service `short` runs"), "{text}");
    env.finish();
}

fn connect(env: &TestEnv, proxy: &Proxy) -> TcpStream {
    let Address::Tcp(address) = proxy.address() else {
        panic!("a TCP address");
    };
    assert_ne!(env.tier(), Tier::Sealed);
    TcpStream::connect(address).unwrap()
}

fn ask(mut stream: &TcpStream) -> std::io::Result<String> {
    stream.write_all(b"who")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn with_proxy() -> (TestEnv, Service, Proxy) {
    let env = TestEnv::builder()
        .endpoint("api", "PORT_ADDRESS", Flavour::Reported)
        .build();
    let api = service(&env, "api", "reports")
        .ready(Ready::reports("api", |log| {
            let (_, rest) = log.split_once("listening on port ")?;
            rest.split_once('\n')?.0.parse().ok()
        }))
        .start();
    let proxy = env.proxy("api");
    (env, api, proxy)
}

#[test]
fn a_service_is_killed_at_a_connection_and_comes_back_behind_the_same_port() {
    let (env, mut api, proxy) = with_proxy();
    let fault = env.inject(Fault::kill("api").at_connection(&proxy, 2));
    assert_eq!(ask(&connect(&env, &proxy)).unwrap(), api.nonce());
    assert!(api.is_running() && !fault.has_fired());
    let broken = ask(&connect(&env, &proxy));
    assert!(
        broken.as_ref().is_ok_and(String::is_empty) || broken.is_err(),
        "{broken:?}"
    );
    fault.wait(SOON);
    let before = env.endpoint("api").port();
    api.restart();
    assert_eq!(ask(&connect(&env, &proxy)).unwrap(), api.nonce());
    // The service has chosen another port most likely; the proxy follows.
    assert_eq!(proxy.connections(), 3);
    assert!(before.is_some());
    env.finish();
}

#[test]
fn what_a_partition_holds_back_arrives_after_it_is_healed() {
    let (env, api, proxy) = with_proxy();
    let partition = proxy.partition();
    let stream = connect(&env, &proxy);
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let error = ask(&stream).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    partition.wait(SOON);
    proxy.heal();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, api.nonce());
    env.finish();
}

#[test]
fn latency_delays_each_direction() {
    let (env, api, proxy) = with_proxy();
    let time = Duration::from_millis(40);
    let latency = proxy.latency(time);
    let start = Instant::now();
    assert_eq!(ask(&connect(&env, &proxy)).unwrap(), api.nonce());
    assert!(start.elapsed() >= 2 * time, "{:?}", start.elapsed());
    assert!(latency.has_fired());
    env.finish();
}

#[test]
fn a_half_open_connection_does_not_tell_that_the_service_is_gone() {
    let (env, mut api, proxy) = with_proxy();
    let stream = connect(&env, &proxy);
    wait_until("the service has the connection", SOON, || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X} ", env.endpoint("api").port().unwrap());
        let connected = table
            .lines()
            .filter(|line| line.contains(&port) && line.contains(" 01 "));
        if connected.count() >= 2 {
            Ok(())
        } else {
            Err(table)
        }
    });
    let half_open = proxy.half_open();
    api.kill();
    half_open.wait(SOON);
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let error = ask(&stream).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    proxy.heal();
    stream.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 0);
    env.finish();
}

#[test]
fn a_proxy_is_in_the_network_of_the_commands() {
    let env = TestEnv::builder()
        .require_sealed()
        .endpoint("api", "PORT_ADDRESS", Flavour::Fixed(9001))
        .build();
    service(&env, "api", "binds")
        .ready(Ready::listens("api"))
        .start();
    let proxy = env.proxy("api");
    let run = support::command(&env, "connects")
        .env("TO", proxy.address().to_string())
        .run();
    assert!(run.stdout().contains("connected"), "{run}");
    wait_until("the proxy has it", SOON, || match proxy.connections() {
        1 => Ok(()),
        other => Err(format!("{other} connections")),
    });
    env.finish();
}

#[test]
fn a_small_disk_gets_full_and_the_service_sees_it() {
    let env = TestEnv::builder()
        .small_disk("store", "STORE", 64 << 10)
        .build();
    assert_eq!(env.tier(), Tier::Processes);
    let disk = env.disk("store");
    let write = |bytes: &str| {
        env.command("sh")
            .args(["-c", "head -c $0 /dev/zero > $STORE/data"])
            .arg(bytes)
            .run()
    };
    write("4096").expect_success();
    assert_eq!(std::fs::read(disk.path().join("data")).unwrap().len(), 4096);
    let run = write("1000000");
    assert!(!run.success());
    assert!(run.stderr().contains("No space left on device"), "{run}");
    disk.wait_full(SOON);
    write("0").expect_success();
    assert!(disk.available().unwrap() > 0);
    disk.fill();
    assert!(!write("4096").success());
    disk.free().unwrap();
    write("4096").expect_success();
    env.finish();
}

#[test]
fn a_disk_that_was_never_full_fails_the_test() {
    let env = TestEnv::builder()
        .small_disk("store", "STORE", 1 << 20)
        .build();
    env.command("sh")
        .args(["-c", "echo evidence > $STORE/file"])
        .run()
        .expect_success();
    let report = env.try_finish();
    assert_eq!(report.faults, ["disk `store` is full"]);
    let bundle = report.bundle.unwrap();
    let kept = std::fs::read_to_string(bundle.join("env/store/file")).unwrap();
    assert_eq!(kept, "evidence\n");
    std::fs::remove_dir_all(bundle).unwrap();
}

#[test]
fn a_service_without_file_descriptors_cannot_open_files_until_they_are_restored() {
    let env = TestEnv::builder().build();
    env.command("mkfifo").arg("go").run().expect_success();
    let opener = service(&env, "opens", "opens")
        .env("GO", env.work_dir().join("go"))
        .ready(Ready::log_line("up"))
        .start();
    let mut go = std::fs::File::options()
        .write(true)
        .open(env.work_dir().join("go"))
        .unwrap();
    let mut says = |what: &str| {
        let before = opener.log().matches(what).count();
        go.write_all(b"again\n").unwrap();
        wait_until(what, SOON, || {
            let now = opener.log().matches(what).count();
            if now > before {
                Ok(())
            } else {
                Err(opener.log())
            }
        });
    };
    says("opened");
    let exhausted = opener.exhaust_files();
    says("Too many open files");
    exhausted.restore().unwrap();
    says("opened");
    env.finish();
}

#[test]
fn logs_of_services_are_interleaved_in_the_evidence() {
    let env = TestEnv::builder().build();
    let _both = (echo(&env, "a"), echo(&env, "b"));
    let open = |name: &str| {
        let path = env.work_dir().join(name);
        std::fs::File::options().write(true).open(path).unwrap()
    };
    let mut pipes = [("a", open("a")), ("b", open("b"))];
    for line in ["one", "two", "three", "four"] {
        let at = usize::from(line == "two" || line == "four");
        let (name, pipe) = &mut pipes[at];
        // Harmless, and struck once the line is in the order of all.
        let seen = env.inject(Fault::thaw(*name).at_log_line(line));
        writeln!(pipe, "{line}").unwrap();
        seen.wait(SOON);
    }
    env.inject(Fault::kill("b")).wait(SOON);
    // Something to fail for.
    env.inject(Fault::kill("b").at_log_line("never said"));
    let bundle = env.try_finish().bundle.unwrap();
    let timeline = std::fs::read_to_string(bundle.join("timeline.txt")).unwrap();
    let events: Vec<&str> = timeline.lines().map(|line| &line[12..]).collect();
    let at = |event: &str| {
        let found = events.iter().position(|line| line.starts_with(event));
        found.unwrap_or_else(|| panic!("no `{event}`: {timeline}"))
    };
    let order = [
        "a * started as",
        "a | up",
        "b * started as",
        "b | up",
        "a | one",
        "b | two",
        "a | three",
        "b | four",
        "b * fault: killed",
        "b * ended: signal: 9",
        "a * ended",
    ];
    let places: Vec<usize> = order.iter().map(|event| at(event)).collect();
    assert!(places.is_sorted(), "{timeline}");
    std::fs::remove_dir_all(bundle).unwrap();
}
