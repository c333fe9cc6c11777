//! What is left of a test's services after each way in which a test can end, and
//! how long it takes until the last of them is gone; with the kit, and started by
//! the test itself as usual.
//!
//! Each case is a process that starts one service of each kind and then ends in
//! its way. Run with `cargo bench -p vx-testkit --bench survivors [-- <rounds>]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and has nobody to return errors to"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use vx_testkit::{Ready, TestEnv, Tier};

const WAY: &str = "SURVIVORS_WAY";
const KIT: &str = "SURVIVORS_KIT";
/// A number in the command line of everything that is to be found again.
const TOKEN: &str = "SURVIVORS_TOKEN";

/// Nothing that lives longer than this goes away by itself any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a service gets after SIGTERM in an orderly end; 5 s by default, which
/// would only make the numbers larger.
const GRACE: Duration = Duration::from_millis(100);

const WAYS: [&str; 8] = [
    "panic",
    "abort",
    "process::exit",
    "never dropped",
    "SIGTERM (timeout)",
    "SIGINT (Ctrl-C)",
    "SIGKILL of the test",
    "SIGKILL of nextest",
];

const KINDS: [(&str, &str); 5] = [
    ("plain", "echo up; exec sleep 1000.$TOKEN0"),
    (
        "ignores TERM",
        "trap '' TERM INT HUP; echo up; exec sleep 1000.$TOKEN1",
    ),
    (
        "own session",
        "setsid sh -c 'trap \"\" TERM; echo up; exec sleep 1000.$TOKEN2' & wait",
    ),
    (
        "forked twice",
        "(setsid sh -c 'sleep 1000.$TOKEN3 & echo up'); exec sleep 1000.$TOKEN5",
    ),
    (
        "forked, no env",
        "(setsid sh -c 'env -i sleep 1000.$TOKEN4 & echo up'); exec sleep 1000.$TOKEN6",
    ),
];

fn main() {
    if let Ok(way) = std::env::var(WAY) {
        victim(&way);
    }
    let args: Vec<String> = std::env::args().collect();
    // Not when a test runner only looks whether it starts.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(3);
    println!("survivors of {rounds} tests each; time: median until the last one is gone");
    for kit in ["none", "plain", "sealed"] {
        println!("\n{:<22}{}", heading(kit), columns());
        for way in WAYS {
            let cases: Vec<Case> = (0..rounds).map(|round| case(way, kit, round)).collect();
            let left: String = (0..KINDS.len())
                .map(|kind| {
                    let left: usize = cases.iter().map(|case| usize::from(case.left[kind])).sum();
                    format!("{left:>15}")
                })
                .collect();
            let mut times: Vec<f64> = cases.iter().filter_map(|case| case.gone_after).collect();
            times.sort_by(f64::total_cmp);
            let time = times
                .get(times.len() / 2)
                .map_or("never".to_owned(), |time| format!("{time:.1} ms"));
            println!("{way:<22}{left}{time:>14}");
        }
    }
}

fn heading(kit: &str) -> &'static str {
    match kit {
        "none" => "without the kit",
        "plain" => "vx-testkit, plain",
        _ => "vx-testkit, sealed",
    }
}

fn columns() -> String {
    let kinds: String = KINDS
        .iter()
        .map(|(name, _)| format!("{name:>15}"))
        .collect();
    format!("{kinds}{:>14}", "last gone")
}

struct Case {
    /// By kind of service.
    left: [bool; KINDS.len()],
    /// Milliseconds; `None` if somebody stayed.
    gone_after: Option<f64>,
}

fn case(way: &str, kit: &str, round: usize) -> Case {
    let token = format!("{}{round:02}", std::process::id());
    let out = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap());
    for name in ["NEXTEST", "NEXTEST_TEST_NAME"] {
        victim.env_remove(name);
    }
    if way == "SIGKILL of nextest" {
        victim.env("NEXTEST", "1");
    }
    let mut victim = victim
        .env(WAY, way)
        .env(KIT, kit)
        .env(TOKEN, &token)
        .env("VX_TESTKIT_BUNDLE_DIR", out.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(victim.stdout.take().unwrap()).lines();
    let armed = said.by_ref().any(|line| line.unwrap().contains("armed"));
    assert!(armed, "{way}: the services did not start");
    let services: Vec<OwnedFd> = (0..KINDS.len())
        .map(|kind| {
            let argument = format!("1000.{token}{kind}");
            let pid = vx_testkit::wait_until(&argument, Duration::from_secs(10), || {
                find(&argument).ok_or_else(|| "not there".to_owned())
            });
            handle(pid)
        })
        .collect();
    let start = Instant::now();
    end(way, &mut victim);
    let left = wait_for(&services, start + PATIENCE);
    let gone_after = (!left.contains(&true)).then(|| start.elapsed().as_secs_f64() * 1e3);
    if kit == "none" {
        // Those that are left have been counted. Two have had parents.
        let parents = (5..7).filter_map(|number| find(&format!("1000.{token}{number}")));
        let parents: Vec<OwnedFd> = parents.map(handle).collect();
        for process in services.iter().chain(&parents) {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
    victim.kill().ok();
    if let Some(mut stderr) = victim.stderr.take() {
        // Its end says that the helper is done with the directories.
        stderr.read_to_end(&mut Vec::new()).ok();
    }
    victim.wait().unwrap();
    Case { left, gone_after }
}

/// What ends the test, as far as it is not the test itself.
fn end(way: &str, victim: &mut Child) {
    let signal = match way {
        "SIGTERM (timeout)" => Some(Signal::TERM),
        "SIGINT (Ctrl-C)" => Some(Signal::INT),
        "SIGKILL of the test" => Some(Signal::KILL),
        "SIGKILL of nextest" => {
            // The system closes a killed runner's ends of the pipes.
            drop(victim.stderr.take());
            None
        }
        _ => {
            let mut stdin = victim.stdin.take().unwrap();
            stdin.write_all(b"go\n").unwrap();
            None
        }
    };
    if let Some(signal) = signal {
        pidfd_send_signal(handle(victim.id()), signal).unwrap();
    }
}

/// Which of them have not ended when the time is up.
fn wait_for(services: &[OwnedFd], deadline: Instant) -> [bool; KINDS.len()] {
    let mut left = [true; KINDS.len()];
    while left.contains(&true) {
        let open: Vec<usize> = (0..left.len()).filter(|&kind| left[kind]).collect();
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|&kind| PollFd::new(&services[kind], PollFlags::IN))
            .collect();
        let time = deadline.saturating_duration_since(Instant::now());
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap(),
            tv_nsec: time.subsec_nanos().into(),
        };
        if poll(&mut fds, Some(&time)).unwrap() == 0 {
            break;
        }
        for (fd, kind) in fds.iter().zip(open) {
            left[kind] = fd.revents().is_empty();
        }
    }
    left
}

fn handle(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// The process that sleeps for this long.
fn find(argument: &str) -> Option<u32> {
    let wanted = format!("sleep\0{argument}\0");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line == wanted.as_bytes())
        })
}

/// The process that starts services and ends.
fn victim(way: &str) -> ! {
    let token = std::env::var(TOKEN).unwrap();
    let scripts = KINDS.map(|(name, script)| (name, script.replace("$TOKEN", &token)));
    let mut children: Vec<Child> = Vec::new();
    let mut kept: Option<TestEnv> = None;
    match std::env::var(KIT).unwrap().as_str() {
        "none" => {
            for (_, script) in &scripts {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command.stdin(Stdio::null()).stderr(Stdio::null());
                // Not waited for, as by a test that does not get to it.
                children.push(command.stdout(Stdio::piped()).spawn().unwrap());
                let child = children.last_mut().unwrap();
                let mut line = String::new();
                BufReader::new(child.stdout.take().unwrap())
                    .read_line(&mut line)
                    .unwrap();
            }
        }
        kit => {
            let builder = match kit {
                "sealed" => TestEnv::builder().require_sealed(),
                _ => TestEnv::builder().tier(Tier::Plain),
            };
            let env = builder.grace(GRACE).settle(GRACE).build();
            for (name, script) in &scripts {
                env.service(&name.replace(' ', "-"), "sh")
                    .args(["-c", script])
                    .ready(Ready::log_line("up"))
                    .start();
            }
            kept = Some(env);
        }
    }
    println!("armed");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    match way {
        "panic" => {
            let _kept = kept;
            panic!("as it happens");
        }
        "abort" => std::process::abort(),
        "never dropped" => {
            std::mem::forget(kept);
            // SAFETY: ends this process as the return of `main` would.
            unsafe { libc::exit(0) };
        }
        _ => {
            std::mem::forget(kept);
            std::process::exit(0)
        }
    }
}
