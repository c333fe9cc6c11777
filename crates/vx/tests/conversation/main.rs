//! `vx` and a daemon that says what the test wants.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod daemon;
#[path = "../place/mod.rs"]
mod place;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use daemon_rpc::EndStatus;
use vx_proto::PROTOCOL_VERSION;
use vx_proto::command::{BuildEvent, BuildKind, Command, ServiceStatus, StatusReport};
use vx_proto::toolchain::{Crates, Download, DownloadState};

use daemon::{Daemon, Script, artifact};
use place::Place;

/// No step of these tests takes longer, except when it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

fn summary(success: bool) -> BuildEvent {
    BuildEvent::Summary {
        success,
        units: 2,
        hits: 2,
        ran: 0,
        up_to_date: false,
        millis: 20,
        profile: "dev".to_owned(),
        opt_desc: "unoptimized + debuginfo".to_owned(),
    }
}

/// Waits for the end of a child; one that hangs is killed.
fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + DEADLINE;
    let process = rustix::process::pidfd_open(
        rustix::process::Pid::from_child(child),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    let mut fds = [rustix::event::PollFd::new(
        &process,
        rustix::event::PollFlags::IN,
    )];
    let left = until.saturating_duration_since(Instant::now());
    let timeout = rustix::time::Timespec::try_from(left).unwrap();
    if rustix::event::poll(&mut fds, Some(&timeout)).unwrap() == 0 {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("vx hangs");
    }
    child.wait().unwrap()
}

/// What a command shows on a terminal of 80 columns.
fn on_a_terminal(mut command: std::process::Command) -> String {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let screen = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&screen).unwrap();
    rustix::pty::unlockpt(&screen).unwrap();
    let name = rustix::pty::ptsname(&screen, Vec::new()).unwrap();
    let name = name.into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let size = rustix::termios::Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size).unwrap();
    let mut child = command.stderr(terminal).spawn().unwrap();
    // With it goes the last one of ours that writes there.
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut screen, mut shown) = (File::from(screen), Vec::new());
        // Ends with an error when nobody writes there any more.
        let _ended = screen.read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    });
    assert!(wait(&mut child).success());
    reader.join().unwrap()
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::INT,
    )
    .unwrap();
}

/// A build that has begun.
fn begun(place: &Place) -> Child {
    let mut child = place
        .command(&["build"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "     Working on it\n");
    child.stderr = Some(stderr.into_inner());
    child
}

#[test]
fn the_end_of_the_daemon_is_the_exit_code() {
    let failed = BuildEvent::Error {
        message: "no manifest".to_owned(),
        hints: vec!["write one".to_owned()],
    };
    for (events, code, shown) in [
        (
            vec![summary(true)],
            0,
            "    Finished `dev` profile [unoptimized + debuginfo] target(s) in 0.02s \
             (2 units: 2 cached, 0 built)\nexit code 0\n",
        ),
        (vec![summary(false)], 101, "exit code 101\n"),
        (
            vec![failed],
            1,
            "error: no manifest\nhint: write one\nexit code 1\n",
        ),
    ] {
        let place = Place::new();
        let _daemon = Daemon::start(&place, Script::Say(events, EndStatus::Exit(code)));
        assert_eq!(place.outcome(&["build"]), shown);
    }
}

#[test]
fn the_request_carries_options_and_environment() {
    let mut place = Place::new();
    place.set("SPECIAL", "kept");
    let daemon = Daemon::start(&place, Script::Say(Vec::new(), EndStatus::Exit(0)));
    place.text(&[
        "+beta",
        "c",
        "-r",
        "-p",
        "a",
        "--features",
        "x,y",
        "--keep-going",
        "-j3",
        "--action-timeout",
        "60",
    ]);
    let Command::Build(request) = daemon.command() else {
        panic!("no build");
    };
    assert_eq!(request.kind, BuildKind::Check);
    assert_eq!(request.toolchain.as_deref(), Some("beta"));
    assert_eq!(request.cwd, place.path());
    assert!(request.selection.release && request.keep_going && !request.fresh_json);
    assert_eq!(request.selection.packages, ["a"]);
    assert_eq!(request.selection.features, ["x,y"]);
    assert_eq!(
        (request.jobs, request.action_timeout_secs),
        (Some(3), Some(60))
    );
    assert!(
        request
            .env
            .contains(&("SPECIAL".to_owned(), "kept".to_owned()))
    );
}

#[test]
fn on_a_terminal_crates_have_one_line_that_goes_away() {
    let crates = |done, pending, is_over| {
        BuildEvent::Crates(Crates {
            done,
            pending,
            bytes: 2048,
            pending_bytes: Some(4096),
            millis: 1000,
            is_over,
        })
    };
    let came = BuildEvent::Download(Download {
        file: "one-1.0.0.crate".to_owned(),
        url: "https://r".to_owned(),
        state: DownloadState::Done {
            bytes: 2048,
            millis: None,
        },
    });
    let events = vec![crates(1, 2, false), came, crates(3, 0, true), summary(true)];
    let mut place = Place::new();
    place.set("TERM", "xterm");
    let _daemon = Daemon::start(&place, Script::Say(events, EndStatus::Exit(0)));
    let shown = on_a_terminal(place.command(&["build"]));
    let moving = "] 1/3 crates, 2.00 KiB, 2.00 KiB/s, 2s left";
    let (before, after) = shown.split_once(" 3 crates (").unwrap();
    assert!(before.contains(moving), "{shown:?}");
    assert!(before.contains(" Downloading"), "{shown:?}");
    // It is gone when the last line is there, and none of the crates had one.
    assert!(
        after.starts_with("2.00 KiB in 1.00s, 2.00 KiB/s)"),
        "{shown:?}"
    );
    assert!(!after.contains("Downloading"), "{shown:?}");
    assert!(!shown.contains("one-1.0.0"), "{shown:?}");
    // Nobody watches, so it is told as in a log.
    let place = Place::new();
    let events = vec![crates(1, 2, false), crates(3, 0, true)];
    let _daemon = Daemon::start(&place, Script::Say(events, EndStatus::Exit(0)));
    assert_eq!(
        place.outcome(&["build"]),
        "  Downloaded 3 crates (2.00 KiB in 1.00s, 2.00 KiB/s)\nexit code 0\n"
    );
}

#[test]
fn run_becomes_the_program() {
    let place = Place::new();
    let events = vec![artifact("/bin/sh"), summary(true)];
    let _daemon = Daemon::start(&place, Script::Say(events, EndStatus::Exit(0)));
    let script = "echo $CARGO_PKG_NAME $CARGO_PKG_VERSION $CARGO_MANIFEST_DIR $1; exit 7";
    let shown = place.outcome(&["run", "-q", "--", "-c", script, "sh", "argument"]);
    assert_eq!(shown, "app 1.2.3 /ws argument\nexit code 7\n");
}

#[test]
fn run_needs_a_program() {
    let place = Place::new();
    let _daemon = Daemon::start(&place, Script::Say(Vec::new(), EndStatus::Exit(0)));
    assert_eq!(
        place.outcome(&["run"]),
        "error: a bin target must be available for `vx run`\nexit code 1\n"
    );
}

#[test]
fn ctrl_c_cancels_the_build() {
    let place = Place::new();
    let daemon = Daemon::start(&place, Script::UntilCancelled);
    let mut child = begun(&place);
    interrupt(&child);
    assert_eq!(wait(&mut child).code(), Some(130));
    daemon.cancelled.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn ctrl_c_ends_vx_also_when_the_daemon_does_not_react() {
    let place = Place::new();
    let _daemon = Daemon::start(&place, Script::Forever);
    let mut child = begun(&place);
    let begin = Instant::now();
    interrupt(&child);
    assert_eq!(wait(&mut child).code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_reader_that_leaves_cancels_the_build() {
    let place = Place::new();
    let daemon = Daemon::start(&place, Script::Flood);
    let mut child = place
        .command(&["build", "--message-format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(
        line.starts_with(r#"{"reason":"compiler-artifact""#),
        "{line}"
    );
    drop(stdout);
    let status = wait(&mut child);
    assert!(!status.success(), "{status}");
    daemon.cancelled.recv_timeout(DEADLINE).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_daemon_that_dies_in_the_middle_is_no_success() {
    let place = Place::new();
    let daemon = Daemon::start(&place, Script::Forever);
    let mut child = begun(&place);
    // Closes all its connections.
    daemon.runtime.shutdown_background();
    assert_eq!(wait(&mut child).code(), Some(4));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("error: vx-daemon ended before the command was done"),
        "{said}"
    );
}

#[test]
fn a_daemon_of_another_version_is_named_and_can_be_ended() {
    let place = Place::new();
    let daemon = Daemon::start_with(
        &place,
        Script::Say(Vec::new(), EndStatus::Exit(1)),
        PROTOCOL_VERSION + 7,
    );
    let shown = place.outcome(&["build"]);
    let versions = format!(
        "is vx-daemon 9.9.9 and speaks protocol {}, this program speaks protocol {PROTOCOL_VERSION}",
        PROTOCOL_VERSION + 7
    );
    assert!(shown.contains(&versions), "{shown}");
    assert!(shown.contains("hint: run `vx kill`"), "{shown}");
    assert!(shown.ends_with("exit code 3\n"), "{shown}");
    // It gets the request, and refuses it here, since it is this very process.
    assert_eq!(place.outcome(&["kill"]), "exit code 1\n");
    assert_eq!(daemon.command(), Command::Shutdown);
}

#[test]
fn status_shows_the_services() {
    let place = Place::new();
    let report = StatusReport {
        services: vec![ServiceStatus {
            service: "vx-casd".to_owned(),
            endpoint: "127.0.0.1:9002".to_owned(),
            version: None,
            problem: Some("connection refused".to_owned()),
            started_by_daemon: false,
        }],
        home: "/h".into(),
        uptime_secs: 5,
        active_commands: 0,
    };
    let events = vec![BuildEvent::Status(report)];
    let _daemon = Daemon::start(&place, Script::Say(events, EndStatus::Exit(0)));
    insta::assert_snapshot!(place.outcome(&["status"]), @r"
    vx-casd   connection refused (127.0.0.1:9002)
    home /h
    up 5s, 0 commands running
    exit code 0
    ");
}
