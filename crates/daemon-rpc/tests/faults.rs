//! The fault matrix of the protocol: at every named step, on both sides, the process
//! is killed or stopped. Afterwards the next command succeeds, one daemon serves,
//! nothing is left of the broken conversation, no stranger was signalled, and no
//! output was ever taken for complete that was not.
//!
//! This program plays client and daemon itself: it runs again with `role_client` or
//! `role_daemon` selected and a variable that names the place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod place;

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::time::Duration;

use daemon_contract::Endpoint;
use daemon_lifecycle::{Listener, ServiceSpec};
use daemon_rpc::{
    CancellationToken, ClientConfig, Command, CommandHandler, Daemon, EndStatus, IncomingCommand,
    Input, Interruption, Outcome, OutputSink, ServerConfig, Start, Stopped, Streams, serve,
};
use place::{PATIENCE, Place, signal};
use rustix::process::Signal;

/// Where this takes place; the roles do nothing without it.
const PLACE: &str = "RPC_FAULT_PLACE";
/// The fault of the daemon that a client may start.
const DAEMON_FAULT: &str = "RPC_FAULT_DAEMON";
const FAULT: &str = "DAEMON_RPC_FAIL";
/// After how many milliseconds without work the daemon ends.
const IDLE: &str = "RPC_FAULT_IDLE";

/// Longer than all that may wait on the way.
fn input() -> Vec<u8> {
    (0..1_500_000_u32).map(|n| (n / 3) as u8).collect()
}

/// Repeats its input.
struct Echo;

impl CommandHandler for Echo {
    type Payload = ();

    async fn handle(
        &self,
        mut command: IncomingCommand<()>,
        out: OutputSink,
        _cancel: CancellationToken,
    ) -> EndStatus {
        loop {
            match command.stdin.next().await {
                Ok(Some(bytes)) => {
                    if out.stdout(bytes).await.is_err() {
                        return EndStatus::Cancelled;
                    }
                }
                Ok(None) => return EndStatus::Exit(0),
                Err(error) => return EndStatus::failed(error),
            }
        }
    }
}

#[test]
fn role_daemon() {
    if env::var_os(PLACE).is_none() {
        return;
    }
    let Some(Listener::Unix(listener)) = Listener::inherited().unwrap() else {
        panic!("no listener");
    };
    let mut config = ServerConfig::new("echo", "0.1.0", 1);
    config.handshake_timeout = PATIENCE;
    config.drain = PATIENCE;
    config.grace = Duration::from_millis(200);
    config.idle_exit = env::var(IDLE)
        .ok()
        .map(|millis| Duration::from_millis(millis.parse().unwrap()));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve(
            listener.into(),
            config,
            Echo,
            CancellationToken::new(),
        ))
        .unwrap();
}

fn daemon(place: &Path, fault: Option<&str>) -> Daemon {
    let mut config = ClientConfig::new("echo", 1);
    config.handshake_timeout = PATIENCE;
    let mut env = vec![
        (PLACE.into(), place.into()),
        ("XDG_RUNTIME_DIR".into(), place.join("run").into()),
    ];
    env.extend(fault.map(|fault| (FAULT.into(), fault.into())));
    env.extend(env::var_os(IDLE).map(|millis| (IDLE.into(), millis)));
    let folder = place.join("run/echo");
    Daemon::new(Endpoint::Unix(folder.join("sock")), "0.1.0", config).started_by(Start {
        service: ServiceSpec {
            program: env::current_exe().unwrap(),
            args: vec!["role_daemon".into(), "--exact".into()],
            env,
            log: place.join("log"),
            lifeline: false,
        },
        lock: folder.join("lock"),
    })
}

#[test]
fn role_client() {
    let Some(place) = env::var_os(PLACE).map(PathBuf::from) else {
        return;
    };
    let fault = env::var(DAEMON_FAULT).ok();
    let mut output = File::create(env::var("RPC_FAULT_OUTPUT").unwrap()).unwrap();
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(&input()).unwrap();
    stdin.rewind().unwrap();
    let outcome = daemon(&place, fault.as_deref())
        .run(
            &Command::new("echo"),
            &mut Streams {
                stdin: Some(stdin.into()),
                stdout: &mut output,
                stderr: &mut io::stderr(),
                on_event: &mut |_| {},
            },
            |_| {},
        )
        .unwrap();
    let code = match outcome {
        Outcome::Finished(EndStatus::Exit(0)) => 0,
        Outcome::Interrupted { .. } => 70,
        Outcome::NotAdmitted { .. } => 75,
        other => panic!("{other:?}"),
    };
    process::exit(code);
}

/// A place with a bystander that must survive.
struct Stage {
    place: Place,
    root: PathBuf,
    bystander: Child,
    clients: u32,
}

/// A client and its output.
struct Client {
    child: Child,
    output: PathBuf,
}

impl Client {
    /// Its exit code (-1: a signal). Success is only ever complete.
    fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        let output = fs::read(&self.output).unwrap_or_default();
        if status.success() {
            assert!(output == input(), "a success with {} bytes", output.len());
        }
        assert!(input().starts_with(&output), "output that was never input");
        status.code().unwrap_or(-1)
    }
}

impl Stage {
    fn new() -> Stage {
        let place = Place::new("echo");
        let root = place.root();
        let bystander = process::Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Stage {
            place,
            root,
            bystander,
            clients: 0,
        }
    }

    fn fault(&self, step: &str, what: &str) -> String {
        format!("{step}:{what}:{}", self.fired().display())
    }

    fn fired(&self) -> PathBuf {
        self.root.join("fired")
    }

    fn client(&mut self, own_fault: Option<&str>, daemon_fault: Option<&str>) -> Client {
        self.clients += 1;
        let output = self.root.join(format!("output-{}", self.clients));
        let mut command = process::Command::new(env::current_exe().unwrap());
        command
            .args(["role_client", "--exact"])
            .env_clear()
            .env(PLACE, &self.root)
            .env("RPC_FAULT_OUTPUT", &output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, fault) in [(FAULT, own_fault), (DAEMON_FAULT, daemon_fault)] {
            if let Some(fault) = fault {
                command.env(name, fault);
            }
        }
        Client {
            child: command.spawn().unwrap(),
            output,
        }
    }

    fn wait_until_fired(&self) {
        self.place.wait_until(|| self.fired().exists());
    }

    /// Waits until the process has stopped.
    fn wait_until_stopped(&self, pid: u32) {
        self.place.wait_until(|| state(pid) == Some('T'));
    }

    fn the_daemon(&self) -> u32 {
        let daemons = self.place.daemons();
        assert_eq!(daemons.len(), 1, "{daemons:?}");
        daemons[0].0
    }

    /// What holds after everything.
    fn check(mut self, case: &str) {
        let next = self.client(None, None).end();
        assert_eq!(next, 0, "{case}: the next command");
        assert!(self.fired().exists(), "{case}: nothing happened");
        // One that is about to be gone was told so before the next one began.
        self.place.wait_until(|| self.place.daemons().len() == 1);
        let asking = daemon(&self.root, None);
        // Nothing is left of the broken conversation: no command, no connection.
        self.place.wait_until(|| {
            let status = asking.status().unwrap().unwrap();
            status.running == 0 && status.connections == 1
        });
        assert!(self.bystander.try_wait().unwrap().is_none(), "{case}");
        assert!(matches!(asking.stop(PATIENCE), Ok(Stopped::Ended(_))));
        self.place.wait_until_gone();
        self.bystander.kill().unwrap();
        self.bystander.wait().unwrap();
    }
}

/// The state of a process as the kernel tells it; `None`: it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Steps of the daemon before it has promised anything.
const DAEMON_BEFORE: [&str; 5] = [
    "server-connected",
    "server-inside-answer",
    "server-before-hello-ack",
    "server-after-hello-ack",
    "server-before-accepted",
];
/// Steps after that.
const DAEMON_AFTER: [&str; 5] = [
    "server-after-accepted",
    "server-inside-chunk",
    "server-after-chunk",
    "server-before-end",
    "server-inside-end",
];
const CLIENT: [&str; 9] = [
    "client-connected",
    "client-inside-hello",
    "client-after-hello",
    "client-inside-command",
    "client-after-command",
    "client-after-accepted",
    "client-inside-input",
    "client-after-chunk",
    "client-after-end",
];

#[test]
fn a_daemon_killed_before_it_promised_anything_is_not_even_noticed() {
    for step in DAEMON_BEFORE {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_killed_after_its_promise_is_told_and_nothing_is_repeated() {
    for step in DAEMON_AFTER {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 70, "{step}");
        stage.check(step);
    }
    // With the End everything has arrived.
    let mut stage = Stage::new();
    let fault = stage.fault("server-after-end", "kill");
    assert_eq!(stage.client(None, Some(&fault)).end(), 0);
    stage.check("server-after-end");
}

#[test]
fn a_stopped_daemon_is_waited_for() {
    for step in DAEMON_BEFORE.into_iter().chain(DAEMON_AFTER) {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let mut client = stage.client(None, Some(&fault));
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        assert!(client.child.try_wait().unwrap().is_none(), "{step}");
        signal(pid, Signal::CONT);
        assert_eq!(client.end(), 0, "{step}");
        assert_eq!(stage.the_daemon(), pid, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_that_is_killed_while_it_is_stopped_is_told() {
    for (step, code) in [
        ("server-after-hello-ack", 0),
        ("server-after-accepted", 70),
        ("server-inside-chunk", 70),
        ("server-inside-end", 70),
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let client = stage.client(None, Some(&fault));
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        signal(pid, Signal::KILL);
        assert_eq!(client.end(), code, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_killed_client_leaves_nothing_behind() {
    for step in CLIENT {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        let mut client = stage.client(Some(&fault), None);
        let status = client.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{step}");
        stage.check(step);
    }
}

#[test]
fn a_stopped_client_delays_nobody_and_goes_on_where_it_was() {
    for step in CLIENT {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        let client = stage.client(Some(&fault), None);
        stage.wait_until_fired();
        stage.wait_until_stopped(client.child.id());
        assert_eq!(stage.client(None, None).end(), 0, "{step}: another client");
        signal(client.child.id(), Signal::CONT);
        assert_eq!(client.end(), 0, "{step}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_may_die_at_every_step_of_its_end() {
    for step in [
        "server-drain",
        "server-before-unlink",
        "server-after-unlink",
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "kill");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0);
        let stopped = daemon(&stage.root, None).stop(PATIENCE).unwrap();
        assert!(matches!(stopped, Stopped::Ended(_)), "{step}: {stopped:?}");
        stage.check(step);
    }
}

#[test]
fn a_daemon_that_is_stopped_in_its_end_is_waited_for_or_has_a_successor() {
    for step in [
        "server-drain",
        "server-before-unlink",
        "server-after-unlink",
    ] {
        let mut stage = Stage::new();
        let fault = stage.fault(step, "stop");
        assert_eq!(stage.client(None, Some(&fault)).end(), 0);
        let asking = daemon(&stage.root, None);
        let ending = asking.stop(Duration::from_millis(1));
        assert!(matches!(ending, Ok(Stopped::Ending(_))), "{ending:?}");
        stage.wait_until_fired();
        let pid = stage.the_daemon();
        stage.wait_until_stopped(pid);
        let next = stage.client(None, None);
        if step == "server-after-unlink" {
            // There is a place for another one.
            assert_eq!(next.end(), 0);
            signal(pid, Signal::CONT);
        } else {
            signal(pid, Signal::CONT);
            assert_eq!(next.end(), 0);
        }
        stage.check(step);
    }
}

#[test]
fn no_command_ever_sees_that_the_daemon_ended_because_it_was_idle() {
    let stage = Stage::new();
    // SAFETY: nothing else runs in the process of this test yet.
    unsafe { env::set_var(IDLE, "3") };
    let daemon = daemon(&stage.root, None);
    let mut pids = std::collections::BTreeSet::new();
    for round in 0..80_u64 {
        // From the middle of its idle time to long after it.
        std::thread::park_timeout(Duration::from_micros(round % 30 * 200));
        let mut output = Vec::new();
        let outcome = daemon.run(
            &Command::new("echo"),
            &mut Streams {
                stdin: Some(Input::reader(io::Cursor::new(b"input"))),
                stdout: &mut output,
                stderr: &mut io::sink(),
                on_event: &mut |_| {},
            },
            |client| {
                pids.insert(client.server_version().pid);
            },
        );
        assert_eq!(
            outcome.unwrap(),
            Outcome::Finished(EndStatus::Exit(0)),
            "{round}"
        );
        assert_eq!(output, b"input");
    }
    assert!(pids.len() > 3, "it ended only {} times", pids.len());
    stage.place.wait_until_gone();
}

/// What a client makes of a stream that takes its end for success.
fn naive(socket: &Path) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut words = b"\0\0\0\x10\x01dmnrpc\r\n\x02\x02\x01\x80\x20\0\0".to_vec();
    // `echo` with an input, and its first bytes when they are asked for.
    words.extend(b"\0\0\0\x10\x02\x0e\x04echo\0\0\0\0\0\0\0\0\x01");
    stream.write_all(&words).unwrap();
    let mut output = Vec::new();
    let mut header = [0; 5];
    while stream.read_exact(&mut header).is_ok() {
        let [a, b, c, d, kind] = header;
        let mut payload = vec![0; u32::from_be_bytes([a, b, c, d]) as usize - 1];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        match kind {
            0x14 => output.extend(payload),
            0x19 => {
                let _gone = stream.write_all(b"\0\0\0\x06\x04input\0\0\0\x02\x05\0");
            }
            _ => {}
        }
    }
    output
}

#[test]
fn negative_control_the_end_of_the_connection_taken_for_success_is_found_out() {
    let mut truncated = 0;
    for step in ["server-after-accepted", "server-inside-chunk"] {
        let stage = Stage::new();
        let fault = stage.fault(step, "kill");
        let faulty = daemon(&stage.root, Some(&fault));
        // Starts it; the fault waits for a command.
        drop(faulty.connect().unwrap());
        let socket = stage.root.join("run/echo/sock");
        truncated += usize::from(naive(&socket) != b"input");
        stage.check(step);
    }
    assert_eq!(truncated, 2, "the naive rule would pass these tests");
    // The same rule and no fault: it does read what there is.
    let stage = Stage::new();
    let calm = daemon(&stage.root, None);
    drop(calm.connect().unwrap());
    assert_eq!(naive(&stage.root.join("run/echo/sock")), b"input");
    File::create(stage.fired()).unwrap();
    stage.check("no fault");
}

#[test]
fn the_reason_of_an_interruption_is_that_the_daemon_went_away() {
    let stage = Stage::new();
    let fault = stage.fault("server-inside-chunk", "kill");
    let outcome = daemon(&stage.root, Some(&fault)).run(
        &Command::new("echo"),
        &mut Streams {
            stdin: Some(Input::reader(io::Cursor::new(input()))),
            stdout: &mut io::sink(),
            stderr: &mut io::sink(),
            on_event: &mut |_| {},
        },
        |_| {},
    );
    let reason = Interruption::Closed;
    assert_eq!(outcome.unwrap(), Outcome::Interrupted { reason });
    stage.check("server-inside-chunk");
}
