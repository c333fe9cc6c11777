//! The parts that the test program plays: a daemon that repeats what it gets, and a
//! client of it.

use std::env;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use daemon_contract::Endpoint;
use daemon_lifecycle::{Listener, ServiceSpec};
use daemon_rpc::{
    CancellationToken, ClientConfig, Command, CommandHandler, Daemon, EndStatus, IncomingCommand,
    Outcome, OutputSink, ServerConfig, Start, Streams, serve,
};

use crate::place::PATIENCE;

/// Where this takes place; the roles do nothing without it.
pub(crate) const PLACE: &str = "RPC_FAULT_PLACE";
/// The fault of the daemon that a client may start.
pub(crate) const DAEMON_FAULT: &str = "RPC_FAULT_DAEMON";
pub(crate) const FAULT: &str = "DAEMON_RPC_FAIL";
/// After how many milliseconds without work the daemon ends.
pub(crate) const IDLE: &str = "RPC_FAULT_IDLE";

/// Longer than all that may wait on the way.
pub(crate) fn input() -> Vec<u8> {
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

/// The daemon of a place, which clients start with this fault.
pub(crate) fn daemon(place: &Path, fault: Option<&str>) -> Daemon {
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
            args: vec!["roles::role_daemon".into(), "--exact".into()],
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
